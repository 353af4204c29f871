/*
 * Slabs: runs of granules holding objects of one class, and the metadata of every
 * granule and page run in a pageblock's client area.
 *
 * Everything here is out of line: what is free in a slab is said by its bitmap,
 * never by the memory itself, so that a page without live objects can be purged.
 *
 * Invariants (slab_check): nr_free counts the bitmap; summary has a bit for each
 * word of the bitmap that is not zero; no bit at or past nr_objects is set; every object
 * that touches a purged page is set, or taken off by slab_hole_begin(), and nr_purged_free
 * counts them.
 */
#ifndef PB_SHIM_SLAB_H
#define PB_SHIM_SLAB_H

#include "core/core.h"
#include "shim/classes.h"
#include "shim/heap.h"

#define BITMAP_WORDS (GRANULE_BYTES / ALIGN_MIN / 64)
/* Enough for 384 objects. */
#define SHORT_BITMAP_WORDS 6u
#define NO_LIST 0xffu

/*
 * Why a slab is cold: the table has no bin for it, so that every free of its objects
 * leaves the fast path, as those of other allocators' blocks do, and is looked at here.
 */
/* Its block is being vacated: nothing is handed out from it, and what is freed goes to the
 * bitmap at once. */
#define SLAB_CORDONED 1u
/* The program moves its blocks away (shim_defrag_hint()): as above, but for the last resort
 * before a new slab, which ends it. */
#define SLAB_EMPTYING 4u
/* Its objects are handles': free() does not take them. */
#define SLAB_HANDLES 8u
/* What is freed is settled at once. */
#define SLAB_SETTLES (SLAB_CORDONED | SLAB_EMPTYING)
/* Somebody above wants to see each free; then the object is cached as usual. */
#define SLAB_SAMPLED 2u
/* Its objects are watched (births.h): each free is seen, and settled at once. */
#define SLAB_WATCHED 16u

struct slab {
	/* Owner; NULL: not a slab (any more). Written under the owner's lock, read by anybody:
	 * release and acquire publish start and cls with it. */
	_Alignas(CACHE_LINE) struct heap *_Atomic heap;
	char *start;
	uint64_t *bitmap; /* 1 = free and on no chain */
	struct slab *next, *prev;
	uint64_t summary;
	uint16_t nr_free; /* bits set in bitmap */
	uint16_t nr_objects;
	uint8_t cls;
	uint8_t list;          /* index in heap_class.lists, or NO_LIST */
	uint8_t head_delta;    /* granules back to the first of the slab; only this and heap are
				  valid in the others */
	_Atomic uint8_t flags; /* SLAB_*; written under the owner's lock, read by anybody */
	/* A bit for each page of this granule, of each granule, that was given back to the
	 * system and not used since: all objects that touch it are free. */
	uint16_t purged;
	uint16_t nr_purged_free; /* of nr_free: objects that touch such a page */
	uint16_t seen_free;      /* nr_free when it was last looked at for holes */
};
STATIC_ASSERT(sizeof(struct slab) == 64, "one slab header a cache line");

/* Of a slab: its live sampled objects, under the owner's lock, and a bit for each by its
 * address, which is read by whoever frees the object. */
struct slab_samples {
	uint32_t nr;
	_Atomic uint32_t mask;
};

/*
 * The client area of a pageblock.  Slabs of few objects have their bitmaps beside the headers,
 * those of many objects have one of the long ones, lowest first, so that few pages of metadata
 * become resident whatever the mixture of classes.  run[] has a word for each page that begins a page
 * run: RUN_LIVE | pages, or RUN_FREED | pages once it is freed (for diagnosis only);
 * RUN_CONTIG | pages and RUN_HANDLE | pages are what free() does not take.
 */
struct block_client {
	/* First, because core may drop them, and run[], while the block is wholly free. */
	uint64_t long_bitmaps[PAGEBLOCK_GRANULES][BITMAP_WORDS];
	uint64_t run[PAGEBLOCK_PAGES];
	/* From here on: one page. */
	struct slab slabs[PAGEBLOCK_GRANULES];
	uint64_t bitmaps[PAGEBLOCK_GRANULES][SHORT_BITMAP_WORDS];
	struct slab_samples samples[PAGEBLOCK_GRANULES];
	/* A bit for each of long_bitmaps that some slab has. */
	_Atomic uint32_t long_taken;
};
STATIC_ASSERT(offsetof(struct block_client, slabs) % PAGE_BYTES == 0 &&
		      sizeof(struct block_client) <=
			      offsetof(struct block_client, slabs) + PAGE_BYTES,
	      "what slabs of few objects need is on one page");
STATIC_ASSERT(PAGEBLOCK_GRANULES == 32, "long_taken has a bit for each");
#define BLOCK_CLIENT_BYTES ((sizeof(struct block_client) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1))

#define RUN_LIVE ((uint64_t)1 << 63)
#define RUN_FREED ((uint64_t)1 << 62)
#define RUN_CONTIG ((uint64_t)1 << 61)
#define RUN_HANDLE ((uint64_t)1 << 60)
#define RUN_PAGES(word) ((size_t)((word) & (RUN_HANDLE - 1)))

static inline struct block_client *block_client(const void *addr)
{
	return zone_client(addr);
}

static inline uint64_t *run_word(const void *addr)
{
	return &block_client(addr)
			->run[((uintptr_t)addr >> PAGE_SHIFT) & (PAGEBLOCK_PAGES - 1)];
}

static inline struct slab *slab_in(struct block_client *client, const void *p)
{
	struct slab *s =
		&client->slabs[((uintptr_t)p >> GRANULE_SHIFT) & (PAGEBLOCK_GRANULES - 1)];

	return s - s->head_delta;
}

/* The header of the slab that holds p, an address in a span; slab->heap may be NULL. */
static inline struct slab *slab_of(const void *p)
{
	return slab_in(block_client(p), p);
}

/* Beside the header, in the same client area. */
static inline struct slab_samples *slab_samples(struct slab *s)
{
	size_t i = ((uintptr_t)s->start >> GRANULE_SHIFT) & (PAGEBLOCK_GRANULES - 1);
	char *client = (char *)(s - i) - offsetof(struct block_client, slabs);

	return &((struct block_client *)(void *)client)->samples[i];
}

/* Whether an address lies in the slab. */
static inline bool slab_has(const struct slab *s, const void *p)
{
	return (size_t)((const char *)p - s->start) < PAGE_BYTES << class_info[s->cls].order;
}

static inline struct heap *slab_heap(struct slab *s)
{
	/* Acquire: pairs with the release in slab_set_heap. */
	return atomic_load_explicit(&s->heap, memory_order_acquire);
}

/* SLAB_*; without the owner's lock a hint. */
static inline unsigned slab_flags(const struct slab *s)
{
	/* Relaxed: what is done differently for it is right either way. */
	return atomic_load_explicit(&s->flags, memory_order_relaxed);
}

/* The bin of its objects, whose entry the slab's granules have in the table unless it is cold.
 */
static inline struct bin *slab_bin(struct slab *s, struct heap *h)
{
	return &h->bins[s->cls];
}

/* Pages become a slab of the class with all objects free, owned by h (whose lock is held). */
struct slab *slab_create(char *start, unsigned cls, struct heap *h);
/* Writes the owner's name into the header and the table; NULL: nobody's. Under the lock. */
void slab_set_heap(struct slab *s, struct heap *h);
/* The slab becomes cold, or cold for other reasons, or with 0 as any other. Under the lock. */
void slab_set_flags(struct slab *s, unsigned flags);

/*
 * Takes up to want free objects, lowest addresses first, as a chain (linked, keyed).
 * Returns how many; *tail is the last object, whose next is NULL.  Objects on purged pages
 * are taken only when there are no others, and then a page's at a time.
 */
unsigned slab_take(struct slab *s, unsigned want, struct object **head, struct object **tail);

/* The object becomes free in the bitmap; false when it was already. */
bool slab_put(struct slab *s, struct object *o) MUST_CHECK;
/*
 * The same for a chain's first objects, the first of which lies in the slab, as far as they
 * do; returns how many, at most `most` > 0.  *chain becomes the rest; when they are fewer
 * and that lies in the slab too, its first object was free already, or has lost its key.
 */
unsigned slab_put_chain(struct slab *s, struct object **chain, unsigned most) MUST_CHECK;

/* Stops the program unless p, an address in the slab, is where an object starts. */
void slab_check_start(const struct slab *s, const void *p, const char *call);

/* For a slab that is gone: stops the program when p was one of its objects. */
void slab_check_was(const struct slab *s, const void *p);

/* Whether the object that p points at or into is free in the bitmap. */
bool slab_is_free(const struct slab *s, const void *p);

STATIC_ASSERT(NR_FULLNESS == 4, "slab_fullness() counts to three");

/* How full: 0 is the fullest list. nr_free > 0. */
static inline unsigned slab_fullness(const struct slab *s)
{
	unsigned n = (unsigned)(s->nr_free - 1) * NR_FULLNESS;

	/* n / nr_objects, without a division. */
	return (unsigned)(n >= s->nr_objects) + (unsigned)(n >= 2u * s->nr_objects) +
	       (unsigned)(n >= 3u * s->nr_objects);
}

/* The list it belongs on. */
static inline unsigned slab_list(const struct slab *s)
{
	if (unlikely((slab_flags(s) & SLAB_SETTLES) != 0))
		return (slab_flags(s) & SLAB_CORDONED) != 0 ? LIST_CORDONED : LIST_EMPTYING;
	if (s->nr_free == 0)
		return NO_LIST;
	return likely(s->nr_free != s->nr_purged_free) ? slab_fullness(s) : LIST_PURGED;
}

/* --- holes: pages of a slab without a live object -------------------------------------- */

static inline unsigned slab_nr_pages(const struct slab *s)
{
	return 1u << class_info[s->cls].order;
}

/* The next run of such pages that are not purged, at or after *page; its length, 0: none. */
unsigned slab_hole_next(const struct slab *s, unsigned *page);
/* The objects that touch these pages leave the bitmap, so that nobody can have them (R11). */
void slab_hole_begin(struct slab *s, unsigned page, unsigned nr_pages);
/* They come back; purged: the pages were given back to the system. */
void slab_hole_end(struct slab *s, unsigned page, unsigned nr_pages, bool purged);
/* The next run of purged pages at or after *page; its length, 0: none. */
unsigned slab_purged_next(const struct slab *s, unsigned *page);

void slab_check(const struct slab *s);

#endif
