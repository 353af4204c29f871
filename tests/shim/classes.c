/* Size classes: every size, every offset, against plain arithmetic. */
#include "shim/classes.h"

#include "shim/heap.h"
#include "tests/shim/support.h"

Test(classes, every_size_has_the_smallest_class_that_holds_it, .timeout = TIME_BOUND_S)
{
	unsigned naive = 0;

	for (size_t size = 0; size <= MEDIUM_MAX; size++) {
		unsigned cls = class_of(size);

		if (size > class_info[naive].bytes)
			naive++;
		EXPECT(cls == naive, "size %zu has class %u", size, cls);
		EXPECT(class_info[cls].bytes >= size, "size %zu is put into %u bytes", size,
		       class_info[cls].bytes);
	}
	EXPECT(naive == NR_CLASSES - 1, "only %u classes are used", naive + 1);
}

/* Less than the alignment, which no class can save, or at most an eighth of the block. */
Test(classes, little_is_wasted, .timeout = TIME_BOUND_S)
{
	for (size_t size = 1; size <= MEDIUM_MAX; size++) {
		size_t bytes = class_info[class_of(size)].bytes;
		size_t waste = bytes - size;

		EXPECT(waste < ALIGN_MIN || waste * 8 <= bytes, "size %zu wastes %zu of %zu",
		       size, waste, bytes);
		EXPECT(size <= 112 || waste * 8 <= bytes, "size %zu wastes %zu of %zu", size,
		       waste, bytes);
	}
}

Test(classes, what_is_aligned_has_an_aligned_class, .timeout = TIME_BOUND_S)
{
	for (size_t align = 1; align <= PAGE_BYTES; align *= 2) {
		for (size_t size = 0; size <= MEDIUM_MAX; size++) {
			size_t to = class_aligned_size(align, size), bytes;

			EXPECT(to >= size && to <= MEDIUM_MAX, "size %zu aligned to %zu", size,
			       align);
			bytes = class_info[class_of(to)].bytes;
			EXPECT(bytes >= size && bytes % align == 0,
			       "size %zu aligned to %zu has a class of %zu", size, align, bytes);
		}
	}
}

Test(classes, table_is_sound, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		const struct class_info *ci = &class_info[cls];
		size_t slab_bytes = PAGE_BYTES << ci->order;

		EXPECT(cls == 0 || ci->bytes > class_info[cls - 1].bytes, "class %u", cls);
		EXPECT(ci->bytes % ALIGN_MIN == 0, "class %u", cls);
		EXPECT(ci->nr_granules * GRANULE_BYTES == slab_bytes, "class %u", cls);
		EXPECT(ci->nr_objects == slab_bytes / ci->bytes && ci->nr_objects > 0, "class %u",
		       cls);
		EXPECT(cls < NR_SMALL_CLASSES ? ci->bytes <= SMALL_MAX && ci->nr_granules == 1 :
						ci->bytes > SMALL_MAX,
		       "class %u is on the wrong side", cls);
		EXPECT(ci->order < PCP_ORDERS, "class %u has slabs no page cache takes", cls);
	}
	EXPECT(class_info[NR_SMALL_CLASSES - 1].bytes == SMALL_MAX, "no class for SMALL_MAX");
	EXPECT(class_info[NR_CLASSES - 1].bytes == MEDIUM_MAX, "no class for MEDIUM_MAX");
}

Test(classes, starts_are_told_exactly, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_SMALL_CLASSES; cls++) {
		const struct class_info *ci = &class_info[cls];

		for (uint32_t offset = 0; offset < GRANULE_BYTES; offset++) {
			bool naive = offset % ci->bytes == 0 && offset / ci->bytes < ci->nr_objects;

			EXPECT(class_is_start(ci->magic, ci->limit, (uint16_t)offset) == naive,
			       "offset %u in a slab of %u bytes", offset, ci->bytes);
		}
	}
}

Test(classes, starts_are_told_exactly_in_slabs_of_any_length, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		const struct class_info *ci = &class_info[cls];

		for (size_t offset = 0; offset < PAGE_BYTES << ci->order; offset++) {
			bool naive = offset % ci->bytes == 0 && offset / ci->bytes < ci->nr_objects;

			EXPECT(class_is_start64(ci, offset) == naive,
			       "offset %zu in a slab of %u bytes", offset, ci->bytes);
			EXPECT(class_offset(ci, (void *)(((uintptr_t)1 << 40) + offset)) == offset,
			       "offset %zu in a slab of %u bytes", offset, ci->bytes);
		}
	}
}

Test(classes, offsets_lead_to_their_object, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		const struct class_info *ci = &class_info[cls];

		for (size_t offset = 0; offset < PAGE_BYTES << ci->order; offset++) {
			EXPECT(class_index(ci, offset) == offset / ci->bytes,
			       "offset %zu in a slab of %u bytes", offset, ci->bytes);
		}
	}
}

Test(classes, byte_table_of_a_heap_agrees, .timeout = TIME_BOUND_S)
{
	shim_free(shim_malloc(1));
	for (size_t size = 0; size <= SMALL_MAX; size++) {
		EXPECT(heap_current->bin_of_size[size] * BIN_STEP ==
			       class_of(size) * sizeof(struct bin),
		       "size %zu", size);
		EXPECT(heap_null.bin_of_size[size] == 0, "the null heap is not null");
	}
}
