/*
 * Giving back the pages of slabs that hold no live object; see holes.h.
 *
 * A pass walks the pageblocks of small objects by address.  A slab whose number of free
 * objects is what it was in the last pass is left alone by the program ("cold").  What a
 * block's cold slabs have in empty pages is counted, and when it is HOLES_PAY pages or more
 * they are given back; below that its huge page stays whole.  Passes follow each other
 * in half a decay while something has changed, then there is none until a slab becomes
 * emptier than it was.
 *
 * Giving back is R11: under its heap's lock the objects that touch a hole leave their slab's
 * bitmap, so that nobody can have them; the locks are dropped; one vectored madvise for many
 * holes; under the lock they come back, and the slab knows that their pages are not
 * resident.  Meanwhile the slab cannot be released, because it is not wholly free, but it may
 * go to another heap.
 *
 * LOCK_HOLES is held from taking a batch to putting it back, so that a fork sees none half
 * way.  The program's threads never wait for it, but for fork and trim.
 */
#include "shim/holes.h"

#include "shim/shim.h"
#include "shim/slabs.h"

#include <stdatomic.h>

/* An eighth of a block. */
#define HOLES_PAY ((unsigned)PAGEBLOCK_PAGES / 8)
#define BATCH_HOLES 256u
/* Blocks looked at in one slice: bounds how long it takes. */
#define SLICE_BLOCKS 16u
/* How often a slice that finds somebody else at work comes again. */
#define BUSY_NS ((uint64_t)10 * 1000 * 1000)

struct hole {
	struct slab *slab;
	uint16_t page, nr_pages;
};

/* All under LOCK_HOLES. */
static struct {
	struct lock lock;
	char *at;         /* the last block looked at; NULL: a pass begins */
	bool changed;     /* the pass has seen a slab that is not cold */
	unsigned nr_holes;
	struct hole holes[BATCH_HOLES];
	struct os_range ranges[BATCH_HOLES];
	uint64_t nr_calls, nr_pages; /* ever */
} state;

_Atomic bool holes_armed;

/* --- one batch -------------------------------------------------------------------------- */

/* Locks the heap of a slab that is one and stays one. */
static struct heap *lock_owner(struct slab *s)
{
	for (;;) {
		struct heap *h = slab_heap(s);

		lock_acquire(&h->lock, LOCK_HEAP);
		if (slab_heap(s) == h)
			return h;
		lock_release(&h->lock, LOCK_HEAP);
	}
}

/* Under the heap's lock: the slab's free objects have become more or fewer by n. */
static void count_free(struct heap *h, struct slab *s, unsigned was)
{
	h->classes[s->cls].nr_free += (uint64_t)s->nr_free - was;
	slabs_update(&h->classes[s->cls], s);
}

static void put_back(const struct hole *hole, bool purged)
{
	struct slab *s = hole->slab;
	struct heap *h = lock_owner(s);
	unsigned was = s->nr_free;

	slab_hole_end(s, hole->page, hole->nr_pages, purged);
	count_free(h, s, was);
	s->seen_free = s->nr_free;
	if (slabs_is_spare(h, s))
		slabs_release(h, s);
	lock_release(&h->lock, LOCK_HEAP);
}

/* Gives the batch back; how many pages that was. */
static size_t flush(void)
{
	unsigned nr_ranges = 0, nr_done;
	size_t nr_pages = 0;

	for (unsigned i = 0; i < state.nr_holes; i++)
		state.ranges[nr_ranges++] = (struct os_range){
			state.holes[i].slab->start + state.holes[i].page * PAGE_BYTES,
			state.holes[i].nr_pages * PAGE_BYTES
		};
	nr_done = os_purge_ranges(state.ranges, nr_ranges, &state.nr_calls);
	for (unsigned i = 0; i < state.nr_holes; i++) {
		nr_pages += i < nr_done ? state.holes[i].nr_pages : 0;
		put_back(&state.holes[i], i < nr_done);
	}
	state.nr_holes = 0;
	state.nr_pages += nr_pages;
	return nr_pages;
}

/* --- finding holes ------------------------------------------------------------------------ */

/*
 * Under the heap's lock: whether the slab is to be looked at.  A small one that is wholly
 * free and all its class has to refill from is not needed either when nobody comes.
 */
static bool is_cold(struct heap *h, struct slab *s, bool any_age)
{
	bool cold = s->seen_free == s->nr_free || any_age;

	s->seen_free = s->nr_free;
	if ((size_t)s->nr_free * class_info[s->cls].bytes < PAGE_BYTES)
		return false;
	state.changed |= !cold;
	if (cold && s->nr_free == s->nr_objects) {
		slabs_release(h, s);
		return false;
	}
	return cold;
}

/* How many pages of the slab are holes, and with `take` they are taken into the batch. */
static unsigned look_at(struct slab *s, bool any_age, bool take)
{
	struct heap *h = slab_heap(s);
	unsigned nr_pages = 0, was;

	if (h == NULL)
		return 0;
	lock_acquire(&h->lock, LOCK_HEAP);
	if (slab_heap(s) != h || !is_cold(h, s, any_age || take))
		goto out;
	was = s->nr_free;
	for (unsigned page = 0, n; (n = slab_hole_next(s, &page)) > 0; page += n) {
		nr_pages += n;
		if (!take || state.nr_holes == BATCH_HOLES)
			continue;
		slab_hole_begin(s, page, n);
		state.holes[state.nr_holes++] =
			(struct hole){ s, (uint16_t)page, (uint16_t)n };
	}
	if (s->nr_free != was)
		count_free(h, s, was);
out:
	lock_release(&h->lock, LOCK_HEAP);
	return nr_pages;
}

/* Holes in one slab are at most every second page. */
#define HOLES_IN_SLAB_MAX ((unsigned)MEDIUM_MAX / (unsigned)PAGE_BYTES * 16u / 2)

static size_t purge_block(char *block, bool any_age)
{
	struct block_client *client = block_client(block);
	unsigned nr_pages = 0;
	size_t nr_purged = 0;

	for (unsigned g = 0; g < PAGEBLOCK_GRANULES; g++)
		nr_pages += look_at(&client->slabs[g], any_age, false);
	if (nr_pages < (any_age ? 1 : HOLES_PAY))
		return 0;
	for (unsigned g = 0; g < PAGEBLOCK_GRANULES; g++) {
		if (state.nr_holes + HOLES_IN_SLAB_MAX > BATCH_HOLES)
			nr_purged += flush();
		(void)look_at(&client->slabs[g], any_age, true);
	}
	return nr_purged;
}

size_t holes_purge_all(void)
{
	size_t nr_pages = 0;

	lock_acquire(&state.lock, LOCK_HOLES);
	for (char *at = NULL; (at = zone_next_block(at, MIGRATE_UNMOVABLE)) != NULL;)
		nr_pages += purge_block(at, true);
	nr_pages += flush();
	lock_release(&state.lock, LOCK_HOLES);
	return nr_pages * PAGE_BYTES;
}
