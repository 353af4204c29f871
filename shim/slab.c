/* Slab headers and their bitmaps; see slab.h for the invariants. */
#include "shim/slab.h"

#include "shim/diag.h"

#include <string.h>

STATIC_ASSERT(GRANULE_BYTES / ALIGN_MIN <= 64 * 64, "one summary word covers the bitmap");
STATIC_ASSERT(sizeof(struct block_client) % CACHE_LINE == 0, "no sharing between blocks");

static unsigned index_of(const struct slab *s, const void *p)
{
	return class_index(&class_info[s->cls], class_offset(&class_info[s->cls], p));
}

struct slab *slab_create(char *start, unsigned cls, struct heap *h)
{
	const struct class_info *ci = &class_info[cls];
	struct block_client *client = block_client(start);
	size_t first = ((uintptr_t)start >> GRANULE_SHIFT) & (PAGEBLOCK_GRANULES - 1);
	struct slab *s = &client->slabs[first];
	size_t nr_words = (ci->nr_objects + 63) / 64;

	ASSERT(slab_heap(s) == NULL);
	ASSERT(class_offset(ci, start) == 0);
	s->start = start;
	s->bitmap = client->bitmaps[first];
	s->nr_objects = (uint16_t)ci->nr_objects;
	s->nr_free = s->nr_objects;
	s->cls = (uint8_t)cls;
	s->list = NO_LIST;
	atomic_store_explicit(&s->flags, 0, memory_order_relaxed);
	for (size_t g = 0; g < ci->nr_granules; g++)
		s[g].head_delta = (uint8_t)g;
	memset(s->bitmap, 0xff, nr_words * sizeof(uint64_t));
	if (ci->nr_objects % 64 != 0)
		s->bitmap[nr_words - 1] = ((uint64_t)1 << (ci->nr_objects % 64)) - 1;
	s->summary = nr_words == 64 ? ~(uint64_t)0 : ((uint64_t)1 << nr_words) - 1;
	slab_set_heap(s, h);
	return s;
}

/* What the table says of the slab: its bin in the heap, or nothing. */
static void write_entries(struct slab *s, struct heap *h)
{
	uint32_t entry = 0;

	if (h != NULL && slab_flags(s) == 0)
		entry = (uint32_t)((char *)slab_bin(s, h) - arena_base());
	for (size_t g = 0; g < class_info[s->cls].nr_granules; g++) {
		/* Relaxed: see "Who writes what" in doc/design.md. */
		atomic_store_explicit(arena_entry(s->start + g * GRANULE_BYTES), entry,
				      memory_order_relaxed);
	}
}

void slab_set_flags(struct slab *s, unsigned flags)
{
	/* Relaxed: as slab_flags(). */
	atomic_store_explicit(&s->flags, (uint8_t)flags, memory_order_relaxed);
	write_entries(s, slab_heap(s));
}

void slab_set_heap(struct slab *s, struct heap *h)
{
	write_entries(s, h);
	for (size_t g = 0; h == NULL && g < class_info[s->cls].nr_granules; g++)
		s[g].head_delta = 0;
	/* Release: pairs with the acquire in slab_heap(), publishes the header. */
	atomic_store_explicit(&s->heap, h, memory_order_release);
}

unsigned slab_take(struct slab *s, unsigned want, struct object **head, struct object **tail)
{
	size_t bytes = class_info[s->cls].bytes;
	uintptr_t key = arena_key();
	struct object *last = NULL;
	struct object **link = head;
	unsigned taken = 0;

	while (taken < want && s->summary != 0) {
		unsigned w = (unsigned)__builtin_ctzll(s->summary);
		uint64_t bits = s->bitmap[w];

		for (; bits != 0 && taken < want; bits &= bits - 1, taken++) {
			size_t i = w * 64u + (unsigned)__builtin_ctzll(bits);

			last = (struct object *)(void *)(s->start + i * bytes);
			*link = last;
			last->key = key;
			link = &last->next;
		}
		s->bitmap[w] = bits;
		if (bits == 0)
			s->summary &= s->summary - 1;
	}
	*link = NULL;
	*tail = last;
	s->nr_free = (uint16_t)(s->nr_free - taken);
	return taken;
}

bool slab_put(struct slab *s, struct object *o)
{
	unsigned i = index_of(s, o);
	uint64_t bit = (uint64_t)1 << (i % 64);

	CHECK(i < s->nr_objects);
	if (unlikely((s->bitmap[i / 64] & bit) != 0))
		return false;
	s->bitmap[i / 64] |= bit;
	s->summary |= (uint64_t)1 << (i / 64);
	s->nr_free++;
	return true;
}

void slab_check_start(const struct slab *s, const void *p, const char *call)
{
	size_t bytes = class_info[s->cls].bytes;
	unsigned i = index_of(s, p);
	const char *object = s->start + i * bytes;

	if (unlikely(i >= s->nr_objects))
		diag_fatal(DIAG_FOREIGN, call, p, 0, NULL);
	if (unlikely(object != p))
		diag_fatal(DIAG_INTERIOR, call, p, bytes, object);
}

void slab_check_was(const struct slab *s, const void *p)
{
	size_t bytes = class_info[s->cls].bytes;
	unsigned i = index_of(s, p);

	if (i < s->nr_objects && s->start + i * bytes == p)
		diag_fatal(DIAG_DOUBLE_FREE, "free", p, bytes, p);
}

bool slab_is_free(const struct slab *s, const void *p)
{
	unsigned i = index_of(s, p);

	return i < s->nr_objects && (s->bitmap[i / 64] >> (i % 64) & 1) != 0;
}

void slab_check(const struct slab *s)
{
	unsigned nr_free = 0;
	uint64_t summary = 0;

	for (unsigned w = 0; w < (s->nr_objects + 63u) / 64; w++) {
		nr_free += (unsigned)__builtin_popcountll(s->bitmap[w]);
		if (s->bitmap[w] != 0)
			summary |= (uint64_t)1 << w;
	}
	CHECK(nr_free == s->nr_free);
	CHECK(summary == s->summary);
	if (s->nr_objects % 64 != 0)
		CHECK(s->bitmap[s->nr_objects / 64] >> (s->nr_objects % 64) == 0);
}
