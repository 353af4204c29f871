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

/* Nobody else can see these granules: no header and no entry of the table leads there. */
static bool is_private(const char *start, size_t nr_granules)
{
	struct block_client *client = block_client(start);
	size_t first = ((uintptr_t)start >> GRANULE_SHIFT) & (PAGEBLOCK_GRANULES - 1);
	bool private = true;

	for (size_t g = 0; g < nr_granules; g++)
		private &= slab_heap(&client->slabs[first + g]) == NULL &&
			   /* Relaxed: whoever made it visible did so before we had the pages. */
			   atomic_load_explicit(arena_entry(start + g * GRANULE_BYTES),
						memory_order_relaxed) == 0;
	return private;
}

static bool has_long_bitmap(unsigned cls)
{
	return class_info[cls].nr_objects > SHORT_BITMAP_WORDS * 64;
}

/* The lowest that is free; there is one for each granule. */
static uint64_t *take_long_bitmap(struct block_client *client)
{
	/* Relaxed: a guess. */
	uint32_t taken = atomic_load_explicit(&client->long_taken, memory_order_relaxed);

	/* Acquire pairs with the release in put_long_bitmap(): the last owner's writes come
	 * before ours. */
	while (!atomic_compare_exchange_weak_explicit(&client->long_taken, &taken,
						      taken | (taken + 1), memory_order_acquire,
						      memory_order_relaxed))
		;
	ASSERT(taken != UINT32_MAX);
	return client->long_bitmaps[__builtin_ctz(~taken)];
}

static void put_long_bitmap(struct slab *s)
{
	struct block_client *client = block_client(s->start);
	size_t i = (size_t)(s->bitmap - client->long_bitmaps[0]) / BITMAP_WORDS;

	/* Release pairs with the acquire in take_long_bitmap(). */
	(void)atomic_fetch_and_explicit(&client->long_taken, ~((uint32_t)1 << i),
					memory_order_release);
}

struct slab *slab_create(char *start, unsigned cls, struct heap *h)
{
	const struct class_info *ci = &class_info[cls];
	struct block_client *client = block_client(start);
	size_t first = ((uintptr_t)start >> GRANULE_SHIFT) & (PAGEBLOCK_GRANULES - 1);
	struct slab *s = &client->slabs[first];
	size_t nr_words = (ci->nr_objects + 63) / 64;

	/* R7: all that follows are plain writes. */
	ASSERT(is_private(start, ci->nr_granules));
	ASSERT(class_offset(ci, start) == 0);
	s->start = start;
	s->bitmap = has_long_bitmap(cls) ? take_long_bitmap(client) : client->bitmaps[first];
	s->nr_objects = (uint16_t)ci->nr_objects;
	s->nr_free = s->nr_objects;
	s->cls = (uint8_t)cls;
	s->list = NO_LIST;
	ASSERT(slab_samples(s)->nr == 0);
	atomic_store_explicit(&s->flags, 0, memory_order_relaxed);
	s->nr_purged_free = 0;
	s->seen_free = 0;
	for (size_t g = 0; g < ci->nr_granules; g++) {
		s[g].head_delta = (uint8_t)g;
		s[g].purged = 0;
	}
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
	if (h == NULL && has_long_bitmap(s->cls))
		put_long_bitmap(s);
	/* Release: pairs with the acquire in slab_heap(), publishes the header. */
	atomic_store_explicit(&s->heap, h, memory_order_release);
}

/* --- ranges of the bitmap ------------------------------------------------------------------ */

/* The bits of word w that are in [first, end). */
static uint64_t word_part(unsigned w, unsigned first, unsigned end)
{
	uint64_t part = ~(uint64_t)0;

	if (first > w * 64)
		part &= ~(uint64_t)0 << (first - w * 64);
	if (end < w * 64 + 64)
		part &= ~(~(uint64_t)0 << (end - w * 64));
	return part;
}

static unsigned range_count(const struct slab *s, unsigned first, unsigned end)
{
	unsigned n = 0;

	for (unsigned w = first / 64; w * 64 < end; w++)
		n += (unsigned)__builtin_popcountll(s->bitmap[w] & word_part(w, first, end));
	return n;
}

static bool range_all(const struct slab *s, unsigned first, unsigned end)
{
	for (unsigned w = first / 64; w * 64 < end; w++) {
		if ((~s->bitmap[w] & word_part(w, first, end)) != 0)
			return false;
	}
	return true;
}

static void range_set(struct slab *s, unsigned first, unsigned end, bool set)
{
	for (unsigned w = first / 64; w * 64 < end; w++) {
		uint64_t part = word_part(w, first, end), bit = (uint64_t)1 << w;

		s->bitmap[w] = set ? s->bitmap[w] | part : s->bitmap[w] & ~part;
		s->summary = s->bitmap[w] != 0 ? s->summary | bit : s->summary & ~bit;
	}
}

/* --- purged pages ------------------------------------------------------------------------------ */

static bool page_is_purged(const struct slab *s, unsigned page)
{
	return (s[page / GRANULE_PAGES].purged >> page % GRANULE_PAGES & 1) != 0;
}

/* The next run of pages that are purged, or not, at or after *page; its length, 0: none. */
static unsigned pages_next(const struct slab *s, unsigned *page, bool purged)
{
	unsigned nr_pages = slab_nr_pages(s), end;

	while (*page < nr_pages && page_is_purged(s, *page) != purged)
		++*page;
	for (end = *page; end < nr_pages && page_is_purged(s, end) == purged; end++)
		;
	return end - *page;
}

unsigned slab_purged_next(const struct slab *s, unsigned *page)
{
	return pages_next(s, page, true);
}

static void set_purged(struct slab *s, unsigned page, unsigned nr_pages, bool purged)
{
	for (unsigned end = page + nr_pages; page < end; page++) {
		unsigned bit = 1u << page % GRANULE_PAGES;
		struct slab *g = &s[page / GRANULE_PAGES];

		g->purged = (uint16_t)(purged ? g->purged | bit : g->purged & ~bit);
	}
}

/* The objects of a slab that touch a run of pages, or that are wholly on it. */
struct object_range {
	unsigned first, end;
};

static struct object_range objects_touching(const struct slab *s, unsigned page,
					    unsigned nr_pages)
{
	const struct class_info *ci = &class_info[s->cls];
	unsigned first = class_index(ci, page * PAGE_BYTES);
	unsigned end = class_index(ci, (page + nr_pages) * PAGE_BYTES - 1) + 1;

	if (end > s->nr_objects)
		end = s->nr_objects;
	return (struct object_range){ first < end ? first : end, end };
}

static struct object_range objects_within(const struct slab *s, unsigned page,
					  unsigned nr_pages)
{
	const struct class_info *ci = &class_info[s->cls];
	unsigned first = class_index(ci, page * PAGE_BYTES + ci->bytes - 1);
	unsigned end = class_index(ci, (page + nr_pages) * PAGE_BYTES);

	if (end > s->nr_objects)
		end = s->nr_objects;
	return (struct object_range){ first < end ? first : end, end };
}

static unsigned count_purged_free(const struct slab *s)
{
	unsigned n = 0, counted = 0;

	for (unsigned page = 0, nr; (nr = slab_purged_next(s, &page)) > 0; page += nr) {
		struct object_range r = objects_touching(s, page, nr);

		/* One object may touch two runs. */
		n += range_count(s, r.first > counted ? r.first : counted, r.end);
		counted = r.end;
	}
	return n;
}

unsigned slab_hole_next(const struct slab *s, unsigned *page)
{
	unsigned nr_pages = slab_nr_pages(s);
	unsigned end;

	for (;; ++*page) {
		for (end = *page; end < nr_pages && !page_is_purged(s, end); end++) {
			struct object_range r = objects_touching(s, end, 1);

			if (r.first == r.end || !range_all(s, r.first, r.end))
				break;
		}
		if (end > *page || end == nr_pages)
			return end - *page;
	}
}

void slab_hole_begin(struct slab *s, unsigned page, unsigned nr_pages)
{
	struct object_range r = objects_touching(s, page, nr_pages);

	ASSERT(range_all(s, r.first, r.end));
	range_set(s, r.first, r.end, false);
	s->nr_free = (uint16_t)(s->nr_free - (r.end - r.first));
	s->nr_purged_free = (uint16_t)count_purged_free(s);
}

void slab_hole_end(struct slab *s, unsigned page, unsigned nr_pages, bool purged)
{
	struct object_range r = objects_touching(s, page, nr_pages);

	range_set(s, r.first, r.end, true);
	s->nr_free = (uint16_t)(s->nr_free + (r.end - r.first));
	if (purged)
		set_purged(s, page, nr_pages, true);
	s->nr_purged_free = (uint16_t)count_purged_free(s);
}

/* --- taking and putting ------------------------------------------------------------------------- */

/* Where the next object of a chain goes. */
struct chain {
	struct object **link, *last;
	unsigned nr;
};

static void take_range(struct slab *s, struct object_range r, unsigned want, struct chain *chain)
{
	size_t bytes = class_info[s->cls].bytes;
	uintptr_t key = arena_key();

	for (unsigned w = r.first / 64; w * 64 < r.end && chain->nr < want; w++) {
		uint64_t bits = s->bitmap[w] & word_part(w, r.first, r.end);

		for (; bits != 0 && chain->nr < want; bits &= bits - 1, chain->nr++) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(bits);

			chain->last = (struct object *)(void *)(s->start + i * bytes);
			*chain->link = chain->last;
			chain->last->key = key;
			chain->link = &chain->last->next;
			range_set(s, i, i + 1, false);
		}
	}
}

/* The pages of the lowest free object are going to be used. */
static void use_purged(struct slab *s)
{
	unsigned w = (unsigned)__builtin_ctzll(s->summary);
	size_t bytes = class_info[s->cls].bytes;
	size_t offset = (w * 64u + (unsigned)__builtin_ctzll(s->bitmap[w])) * bytes;
	unsigned page = (unsigned)(offset / PAGE_BYTES);
	unsigned end = (unsigned)((offset + bytes - 1) / PAGE_BYTES) + 1;

	set_purged(s, page, end - page, false);
	s->nr_purged_free = (uint16_t)count_purged_free(s);
	thp_refilled(end - page);
}

/* Of a slab with purged pages. */
static COLD unsigned take_resident(struct slab *s, unsigned want, struct object **head,
				   struct object **tail)
{
	struct chain chain = { .link = head };

	if (s->nr_free == s->nr_purged_free && want > 0)
		use_purged(s);
	for (unsigned page = 0, n; (n = pages_next(s, &page, false)) > 0; page += n)
		take_range(s, objects_within(s, page, n), want, &chain);
	*chain.link = NULL;
	*tail = chain.last;
	s->nr_free = (uint16_t)(s->nr_free - chain.nr);
	return chain.nr;
}

/* Links `run` objects that lie side by side, from o on; the last, whose next is not set. */
static struct object *link_run(struct object *o, unsigned run, size_t bytes, uintptr_t key)
{
	while (--run > 0) {
		struct object *next = (struct object *)(void *)((char *)o + bytes);

		o->next = next;
		o->key = key;
		o = next;
	}
	o->key = key;
	return o;
}

/* Of a word of the bitmap, the length of the run of free objects that begins at a bit. */
static unsigned run_length(uint64_t bits, unsigned first)
{
	uint64_t ends = ~(bits >> first);

	return ends == 0 ? 64 : (unsigned)__builtin_ctzll(ends);
}

unsigned slab_take(struct slab *s, unsigned want, struct object **head, struct object **tail)
{
	if (unlikely(s->nr_purged_free > 0))
		return take_resident(s, want, head, tail);

	size_t bytes = class_info[s->cls].bytes;
	uintptr_t key = arena_key();
	struct object *last = NULL;
	struct object **link = head;
	unsigned left = want < s->nr_free ? want : s->nr_free;

	s->nr_free = (uint16_t)(s->nr_free - left);
	for (want = left; left > 0;) {
		unsigned w = (unsigned)__builtin_ctzll(s->summary);
		uint64_t bits = s->bitmap[w];

		do {
			unsigned first = (unsigned)__builtin_ctzll(bits);
			unsigned run = run_length(bits, first);

			if (run > left)
				run = left;
			bits &= ~((~(uint64_t)0 >> (64 - run)) << first);
			left -= run;
			last = (struct object *)(void *)(s->start + (w * 64 + first) * bytes);
			*link = last;
			last = link_run(last, run, bytes, key);
			link = &last->next;
		} while (bits != 0 && left > 0);
		s->bitmap[w] = bits;
		if (bits == 0)
			s->summary &= s->summary - 1;
	}
	*link = NULL;
	*tail = last;
	return want;
}

/*
 * Sets an object's bit; false when it was set.  The others' arguments are the slab's, for a
 * caller that has many.
 */
static inline bool put(struct slab *s, const struct class_info *ci, const struct object *o)
{
	unsigned i = class_index(ci, (size_t)((const char *)o - s->start));
	uint64_t bit = (uint64_t)1 << (i % 64);

	CHECK(i < ci->nr_objects);
	if (unlikely((s->bitmap[i / 64] & bit) != 0))
		return false;
	s->bitmap[i / 64] |= bit;
	s->summary |= (uint64_t)1 << (i / 64);
	return true;
}

bool slab_put(struct slab *s, struct object *o)
{
	bool done = put(s, &class_info[s->cls], o);

	s->nr_free = (uint16_t)(s->nr_free + done);
	return done;
}

unsigned slab_put_chain(struct slab *s, struct object **chain, unsigned most)
{
	const struct class_info *ci = &class_info[s->cls];
	size_t nr_bytes = PAGE_BYTES << ci->order;
	uintptr_t key = arena_key();
	struct object *o = *chain;
	unsigned nr = 0;

	do {
		if (unlikely(o->key != key || !put(s, ci, o)))
			break;
		nr++;
		o = o->next;
	} while (nr < most && (size_t)((char *)o - s->start) < nr_bytes);
	s->nr_free = (uint16_t)(s->nr_free + nr);
	*chain = o;
	return nr;
}

void slab_check_start(const struct slab *s, const void *p, const char *call)
{
	size_t bytes = class_info[s->cls].bytes;
	unsigned i = index_of(s, p);
	const char *object = s->start + i * bytes;

	if (unlikely(i >= s->nr_objects || (slab_flags(s) & SLAB_HANDLES) != 0))
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
	CHECK(s->nr_purged_free == count_purged_free(s));
	if (s->nr_objects % 64 != 0)
		CHECK(s->bitmap[s->nr_objects / 64] >> (s->nr_objects % 64) == 0);
}
