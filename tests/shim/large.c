/* Page runs: sizes at all borders, growing and shrinking in place and by moving. */
#include "shim/large.h"

#include "shim/classes.h"
#include "shim/slab.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <string.h>

static struct block block_of_size(size_t size, uint64_t tag)
{
	struct block b = {.p = shim_malloc(size), .size = size};

	EXPECT(b.p != NULL, "no memory for %zu bytes", size);
	block_fill(&b, size, tag);
	return b;
}

/* As block_of_size(), but what shim_realloc() makes of it. */
static void resize(struct block *b, size_t size, uint64_t tag)
{
	unsigned char *p = shim_realloc(b->p, size);

	EXPECT(p != NULL, "no memory for %zu bytes", size);
	block_verify(b, p, size < b->filled ? size : b->filled);
	b->p = p;
	b->size = size;
	block_fill(b, size, tag);
}

Test(large, sizes_at_the_borders, .timeout = TIME_BOUND_S)
{
	static const size_t borders[] = {
		MEDIUM_MAX,	      MEDIUM_MAX + PAGE_BYTES, GRANULE_BYTES,
		2 * GRANULE_BYTES,    PAGEBLOCK_BYTES / 2,     PAGEBLOCK_BYTES - PAGE_BYTES,
		PAGEBLOCK_BYTES,      PAGEBLOCK_BYTES * 3 / 2, PAGEBLOCK_BYTES * 2,
		PAGEBLOCK_BYTES * 5,
	};
	struct block blocks[64];
	unsigned nr = 0;

	for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
		for (size_t size = borders[i] - 2; size <= borders[i] + 2; size++) {
			size_t usable;

			blocks[nr] = block_of_size(size, nr);
			usable = shim_usable_size(blocks[nr].p);
			EXPECT(usable >= size && usable < size + 4 * PAGE_BYTES, "%zu for %zu",
			       usable, size);
			EXPECT(size <= MEDIUM_MAX || usable < size + PAGE_BYTES, "%zu for %zu",
			       usable, size);
			nr++;
		}
	}
	shim_check();
	for (unsigned i = 0; i < nr; i++)
		block_free(&blocks[(i * 7) % nr]);
	expect_nothing_kept();
}

Test(large, contents_are_kept_when_growing, .timeout = TIME_BOUND_S)
{
	struct rng rng = {seed_begin("large/contents_are_kept_when_growing", 1)};

	for (unsigned round = 0; round < 40 / SLOWNESS + 2; round++) {
		struct block a = block_of_size(1 + rng_size(&rng, 3 * PAGEBLOCK_BYTES), round);
		struct block b = block_of_size(MEDIUM_MAX + 1, round);

		while (a.size < 24 * PAGEBLOCK_BYTES)
			resize(&a, a.size + 1 + rng_size(&rng, a.size), a.size);
		while (a.size > 100)
			resize(&a, a.size - 1 - rng_below(&rng, a.size / 2), a.size);
		block_free(&b);
		block_free(&a);
		if (round % 8 == 0)
			shim_check();
	}
	expect_nothing_kept();
}

/* A run hemmed in by its neighbour has to move; from 1 MiB on page tables are moved. */
Test(large, moves_keep_contents_and_leave_zero_pages, .timeout = TIME_BOUND_S)
{
	static const size_t sizes[] = {
		PAGEBLOCK_BYTES / 2 - PAGE_BYTES, PAGEBLOCK_BYTES / 2, PAGEBLOCK_BYTES,
		PAGEBLOCK_BYTES + PAGE_BYTES,	  4 * PAGEBLOCK_BYTES,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct block a = block_of_size(sizes[i], i);
		pfn_t behind = pfn_of(a.p) + sizes[i] / PAGE_BYTES;
		unsigned char *old = a.p;
		static struct block hem[4096];
		unsigned nr = 0;
		unsigned char *again;

		/* Until one lies right behind it, wherever others are free. */
		do {
			EXPECT(nr < 4096, "nothing comes to lie behind");
			hem[nr] = block_of_size(MEDIUM_MAX + 1, nr);
		} while (pfn_of(hem[nr++].p) != behind);
		resize(&a, sizes[i] * 2, 17);
		EXPECT(a.p != old, "grown through its neighbour");
		shim_check();
		again = shim_calloc(1, sizes[i]);
		EXPECT(is_zero(again, sizes[i]), "%zu bytes at %p", sizes[i], (void *)again);
		shim_free(again);
		while (nr > 0)
			block_free(&hem[--nr]);
		block_free(&a);
	}
	expect_nothing_kept();
}

/* Far more moves than the kernel has mappings to spare. */
Test(large, many_moves, .timeout = TIME_BOUND_S)
{
	enum { NR = 40 };
	static struct block blocks[NR];
	struct rng rng = {3};

	for (unsigned i = 0; i < NR; i++)
		blocks[i] = block_of_size(PAGEBLOCK_BYTES / 2, i);
	for (unsigned op = 0; op < 1600 / SLOWNESS; op++) {
		struct block *b = &blocks[rng_below(&rng, NR)];

		if (b->size > 2 * PAGEBLOCK_BYTES)
			resize(b, PAGEBLOCK_BYTES / 2, op);
		else
			resize(b, b->size + PAGEBLOCK_BYTES / 4, op);
	}
	shim_check();
	for (unsigned i = 0; i < NR; i++)
		block_free(&blocks[i]);
	expect_nothing_kept();
}

Test(large, shrinking_frees_the_tail_at_once, .timeout = TIME_BOUND_S)
{
	struct block a = block_of_size(8 * PAGEBLOCK_BYTES, 1);
	unsigned char *p = a.p;

	for (size_t size = 7 * PAGEBLOCK_BYTES; size > MEDIUM_MAX; size -= PAGEBLOCK_BYTES / 2) {
		size_t pages_bytes = round_up(size, PAGE_BYTES);

		resize(&a, size, size);
		EXPECT(a.p == p, "moved by shrinking to %zu bytes", size);
		EXPECT(stats_now().large_bytes == pages_bytes, "%llu bytes for %zu",
		       (unsigned long long)stats_now().large_bytes, pages_bytes);
	}
	block_free(&a);
	expect_nothing_kept();
}

/* What is known to be zero is not written again; what is not, is. */
Test(large, calloc_is_zero_whatever_was_there, .timeout = TIME_BOUND_S)
{
	struct rng rng = {seed_begin("large/calloc_is_zero_whatever_was_there", 1)};

	for (unsigned round = 0; round < 200 / SLOWNESS + 4; round++) {
		struct block dirt[4];
		size_t size = 1 + rng_size(&rng, 3 * PAGEBLOCK_BYTES);
		unsigned char *p;

		for (unsigned i = 0; i < 4; i++) {
			size_t dirty = 1 + rng_size(&rng, 3 * PAGEBLOCK_BYTES);

			dirt[i] = (struct block){.p = shim_malloc(dirty), .size = dirty};
			memset(dirt[i].p, 0xa5, dirty);
		}
		for (unsigned i = 0; i < 4; i++)
			shim_free(dirt[i].p);
		if (round % 3 == 0)
			shim_trim();
		p = shim_calloc(rng_below(&rng, 2) == 0 ? 1 : size, 1);
		EXPECT(p != NULL && p[0] == 0, "calloc");
		shim_free(p);
		p = shim_calloc(1, size);
		EXPECT(p != NULL && is_zero(p, size), "calloc of %zu bytes, round %u", size,
		       round);
		memset(p, 0x5a, size);
		shim_free(p);
	}
	expect_nothing_kept();
}

Test(large, impossible_sizes_are_refused, .timeout = TIME_BOUND_S)
{
	static const size_t sizes[] = {
		SIZE_MAX,	   SIZE_MAX - PAGE_BYTES + 1, SIZE_MAX / 2 + 2,
		PTRDIFF_MAX,	   (size_t)PTRDIFF_MAX + 1,   PTRDIFF_MAX - PAGE_BYTES,
		(size_t)1 << 47, (size_t)1 << 48,
	};
	struct block b = block_of_size(PAGEBLOCK_BYTES, 1);
	struct block small = block_of_size(100, 2);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		errno = 0;
		EXPECT(shim_malloc(sizes[i]) == NULL && errno == ENOMEM, "malloc of %zu", sizes[i]);
		errno = 0;
		EXPECT(shim_calloc(sizes[i], 1) == NULL && errno == ENOMEM, "calloc of %zu",
		       sizes[i]);
		errno = 0;
		EXPECT(shim_realloc(b.p, sizes[i]) == NULL && errno == ENOMEM,
		       "realloc to %zu", sizes[i]);
		errno = 0;
		EXPECT(shim_realloc(small.p, sizes[i]) == NULL && errno == ENOMEM,
		       "realloc to %zu", sizes[i]);
		for (unsigned order = 4; order < 63; order++) {
			errno = 0;
			EXPECT(shim_aligned_alloc((size_t)1 << order, sizes[i]) == NULL &&
				       errno == ENOMEM,
			       "%zu aligned to 2^%u", sizes[i], order);
		}
	}
	block_free(&b);
	block_free(&small);
	expect_nothing_kept();
}

/* --- what stops the program ---------------------------------------------------------- */

static void free_it(void *p)
{
	shim_free(p);
}

static void free_twice(void *p)
{
	shim_free(p);
	shim_free(p);
}

static void realloc_it(void *p)
{
	(void)!shim_realloc(p, 10);
}

static void free_after_shrinking(void *p)
{
	char *smaller = shim_realloc(p, MEDIUM_MAX + 1);

	shim_free(smaller + PAGEBLOCK_BYTES / 2);
}

Test(large, misuse_is_named, .timeout = TIME_BOUND_S)
{
	char *p = shim_malloc(PAGEBLOCK_BYTES);

	EXPECT(dies_saying(free_twice, p, "double free of 0x"), "freed twice");
	EXPECT(dies_saying(free_it, p + 16, "which is inside a block of 2097152 bytes at 0x"),
	       "first page");
	EXPECT(dies_saying(free_it, p + 5 * PAGE_BYTES, "which is inside a block of 2097152"),
	       "a later page");
	EXPECT(dies_saying(realloc_it, p + PAGE_BYTES, "realloc of 0x"), "realloc");
	EXPECT(dies_saying(free_after_shrinking, p, "which is not a block of this allocator"),
	       "behind the end");
	EXPECT(dies_saying(free_it, &p, "which is not a block of this allocator"), "the stack");
	shim_free(p);
}

/* A page that began a run long ago is still in the middle of this one. */
Test(large, interior_of_a_run_with_a_past, .timeout = TIME_BOUND_S)
{
	char *runs[32], *whole;

	for (unsigned i = 0; i < 32; i++)
		runs[i] = shim_malloc(2 * GRANULE_BYTES);
	for (unsigned i = 0; i < 32; i++)
		shim_free(runs[i]);
	whole = shim_malloc(2 * PAGEBLOCK_BYTES);
	for (unsigned i = 0; i < 32; i++) {
		if (runs[i] > whole && runs[i] < whole + 2 * PAGEBLOCK_BYTES)
			EXPECT(dies_saying(free_it, runs[i],
					   "which is inside a block of 4194304 bytes"),
			       "an interior pointer is called a double free");
	}
	shim_free(whole);
}

/* The room behind a run that had to move was never touched. */
Test(large, room_for_growth_stays_clean, .timeout = TIME_BOUND_S)
{
	const size_t size = 8 * PAGEBLOCK_BYTES;
	struct block a = block_of_size(size, 1);
	struct block hem = block_of_size(size, 2);

	resize(&a, size + PAGEBLOCK_BYTES, 3);
	EXPECT(stats_now().dirty_free_bytes <= size, "%llu bytes are taken for dirty",
	       (unsigned long long)stats_now().dirty_free_bytes);
	block_free(&hem);
	block_free(&a);
}
