/*
 * Giving back the pages of slabs that hold no live object; see holes.h.
 *
 * A pass walks the pageblocks of small objects by address.  A slab whose number of free
 * objects is what it was in the last pass is left alone by the program ("cold").  What a
 * block's cold slabs have in empty pages is counted, and when it is HOLES_PAY pages or more
 * they are given back; below that its huge page stays whole.  Passes follow each other
 * in half a decay while something has changed, then there is none until a slab becomes
 * emptier than it was.  Before a pass, threads that idle are asked for what they cache, and have a
 * while to answer, and those in the middle of much to end it: what they cache keeps blocks from
 * being wholly free, in which holes would be made for nothing.
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
#include "shim/sparse.h"

#include <stdatomic.h>

/* An eighth of a block. */
#define HOLES_PAY ((unsigned)PAGEBLOCK_PAGES / 8)
#define BATCH_HOLES 256u
/* At most every second page of the largest slabs, of 2^7 pages. */
#define HOLES_IN_SLAB_MAX 64u
/* Blocks looked at in one slice: bounds how long it takes. */
#define SLICE_BLOCKS 16u
/* How often a pass waits for threads. */
#define WAITS_MAX 2u
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
	unsigned nr_waits; /* for threads to settle what they cache, before this pass */
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

/* The batch's blocks have holes now. */
static void tell_blocks(void)
{
	uintptr_t last = 0;

	for (unsigned i = 0; i < state.nr_holes; i++) {
		uintptr_t block = (uintptr_t)state.ranges[i].addr >> PAGEBLOCK_SHIFT;

		if (state.ranges[i].err == 0 && block != last)
			thp_hole(state.holes[i].slab->start);
		last = block;
	}
}

/* Gives the batch back; how many pages that was. */
static size_t flush(void)
{
	size_t nr_pages = 0;

	for (unsigned i = 0; i < state.nr_holes; i++)
		state.ranges[i] = (struct os_range){
			.addr = state.holes[i].slab->start + state.holes[i].page * PAGE_BYTES,
			.bytes = state.holes[i].nr_pages * PAGE_BYTES,
		};
	state.nr_calls += os_purge_ranges(state.ranges, state.nr_holes, false);
	tell_blocks();
	for (unsigned i = 0; i < state.nr_holes; i++) {
		bool purged = state.ranges[i].err == 0;

		nr_pages += purged ? state.holes[i].nr_pages : 0;
		put_back(&state.holes[i], purged);
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
	if (s->list == NO_LIST || (size_t)s->nr_free * class_info[s->cls].bytes < PAGE_BYTES)
		return false;
	state.changed |= !cold;
	if (cold && s->nr_free == s->nr_objects) {
		slabs_release(h, s);
		return false;
	}
	return cold;
}

static unsigned count_purged(const struct slab *s)
{
	unsigned nr_pages = 0;

	for (unsigned page = 0, n; (n = slab_purged_next(s, &page)) > 0; page += n)
		nr_pages += n;
	return nr_pages;
}

/* Under the heap's lock: the pages that are holes, and with `take` they join the batch. */
static unsigned find_holes(struct heap *h, struct slab *s, bool take)
{
	unsigned nr_pages = 0, was = s->nr_free;

	for (unsigned page = 0, n; (n = slab_hole_next(s, &page)) > 0; page += n) {
		nr_pages += n;
		if (!take)
			continue;
		ASSERT(state.nr_holes < BATCH_HOLES);
		slab_hole_begin(s, page, n);
		state.holes[state.nr_holes++] =
			(struct hole){ s, (uint16_t)page, (uint16_t)n };
	}
	if (take && nr_pages > 0)
		count_free(h, s, was);
	return nr_pages;
}

/* What a look at the slabs of a block has found. */
struct look {
	unsigned nr_holes[PAGEBLOCK_GRANULES]; /* pages, of the cold slab that begins there */
	unsigned nr_pages;                     /* holes, and pages purged already */
	size_t slab_bytes, live_bytes;
};

static void look_at(struct slab *s, bool any_age, unsigned *nr_holes, struct look *look)
{
	struct heap *h = slab_heap(s);
	const struct class_info *ci;

	*nr_holes = 0;
	if (h == NULL)
		return;
	lock_acquire(&h->lock, LOCK_HEAP);
	if (slab_heap(s) == h) {
		ci = &class_info[s->cls];
		look->slab_bytes += ci->nr_granules * GRANULE_BYTES;
		look->live_bytes += (size_t)(s->nr_objects - s->nr_free) * ci->bytes;
		if (is_cold(h, s, any_age)) {
			*nr_holes = find_holes(h, s, false);
			look->nr_pages += *nr_holes + count_purged(s);
		}
	}
	lock_release(&h->lock, LOCK_HEAP);
}

static void drain(struct slab *s)
{
	struct heap *h = slab_heap(s);

	if (h == NULL)
		return;
	lock_acquire(&h->lock, LOCK_HEAP);
	/* What nobody owns is there to be adopted. */
	if (slab_heap(s) == h && s->list != NO_LIST && !h->ownerless &&
	    (slab_flags(s) & SLAB_SETTLES) == 0)
		slabs_start_emptying(h, s);
	lock_release(&h->lock, LOCK_HEAP);
}

static void take_holes(struct slab *s)
{
	struct heap *h = slab_heap(s);

	if (h == NULL)
		return;
	lock_acquire(&h->lock, LOCK_HEAP);
	if (slab_heap(s) == h && s->list != NO_LIST)
		(void)find_holes(h, s, true);
	lock_release(&h->lock, LOCK_HEAP);
}

/* A block with as many purged pages as are worth it has no huge page to lose any more. */
static size_t purge_block(char *block, bool any_age)
{
	struct block_client *client = block_client(block);
	struct look look = { .nr_pages = 0 };
	size_t nr_flushed = 0;

	for (unsigned g = 0; g < PAGEBLOCK_GRANULES; g++)
		look_at(&client->slabs[g], any_age, &look.nr_holes[g], &look);
	if (!any_age && sparse_count(look.slab_bytes, look.live_bytes)) {
		for (unsigned g = 0; g < PAGEBLOCK_GRANULES; g++)
			drain(&client->slabs[g]);
	}
	for (unsigned g = 0; g < PAGEBLOCK_GRANULES; g++) {
		if (look.nr_holes[g] == 0 || (look.nr_pages < HOLES_PAY && !any_age))
			continue;
		if (state.nr_holes + HOLES_IN_SLAB_MAX > BATCH_HOLES)
			nr_flushed += flush();
		take_holes(&client->slabs[g]);
	}
	return nr_flushed;
}

/* --- passes ------------------------------------------------------------------------------- */

static _Atomic uint64_t decay_ns;

static uint64_t half_decay_ns(void)
{
	/* Relaxed: an option. */
	return atomic_load_explicit(&decay_ns, memory_order_relaxed) / 2;
}

static uint64_t later(uint64_t now_ns, uint64_t wait)
{
	return wait > WORK_NEVER - now_ns ? WORK_NEVER : now_ns + wait;
}

/* Looks at a few blocks after *at, which is NULL in the end; the pages given back. */
static size_t slice_locked(char **at, bool any_age)
{
	size_t nr_pages = 0;

	for (unsigned i = 0; i < SLICE_BLOCKS; i++) {
		*at = zone_next_block(*at, MIGRATE_UNMOVABLE);
		if (*at == NULL)
			break;
		nr_pages += purge_block(*at, any_age);
	}
	return nr_pages + flush();
}

/* Whether the pass that is to begin waits for threads.  The lock is dropped meanwhile. */
static bool asks_first_locked(void)
{
	bool any;

	if (state.nr_waits == WAITS_MAX) {
		state.nr_waits = 0;
		return false;
	}
	lock_release(&state.lock, LOCK_HOLES);
	any = heap_settle_idle();
	lock_acquire(&state.lock, LOCK_HOLES);
	state.nr_waits = any ? state.nr_waits + 1 : 0;
	return any;
}

static uint64_t holes_run(uint64_t now_ns)
{
	bool ends, again;

	if (!lock_try(&state.lock, LOCK_HOLES))
		return now_ns + BUSY_NS;
	if (state.at == NULL) {
		if (asks_first_locked()) {
			lock_release(&state.lock, LOCK_HOLES);
			return later(now_ns, half_decay_ns() / 4 * 3);
		}
		/* Relaxed: see holes_note(). */
		atomic_store_explicit(&holes_armed, false, memory_order_relaxed);
		state.changed = false;
	}
	(void)slice_locked(&state.at, false);
	ends = state.at == NULL;
	if (ends)
		sparse_pass_ends();
	/* Armed meanwhile: what that made due was taken for this pass's next slice.  Relaxed: who
	 * arms later than this makes it due anew. */
	again = ends && (state.changed ||
			 atomic_load_explicit(&holes_armed, memory_order_relaxed));
	lock_release(&state.lock, LOCK_HOLES);
	if (!ends)
		return 0;
	return again ? later(now_ns, half_decay_ns()) : WORK_NEVER;
}

static struct work holes_work = { .run = holes_run };

COLD void holes_arm(void)
{
	/* Relaxed: only that one of several does it. */
	if (!atomic_exchange_explicit(&holes_armed, true, memory_order_relaxed))
		work_due(&holes_work, later(os_now_ns(), half_decay_ns()));
}

size_t holes_purge_all(void)
{
	size_t nr_pages = 0;
	char *at = NULL;

	if (os_page_bytes() != PAGE_BYTES)
		return 0;
	do {
		lock_acquire(&state.lock, LOCK_HOLES);
		nr_pages += slice_locked(&at, true);
		lock_release(&state.lock, LOCK_HOLES);
	} while (at != NULL);
	return nr_pages * PAGE_BYTES;
}

void holes_set_decay(uint64_t ns)
{
	/* Relaxed: an option. */
	atomic_store_explicit(&decay_ns, ns, memory_order_relaxed);
}

void holes_init(uint64_t ns)
{
	holes_set_decay(ns);
	/* Where the system's pages are larger than ours there are few holes, and none is tried. */
	if (os_page_bytes() == PAGE_BYTES)
		work_add(&holes_work);
	else
		atomic_store_explicit(&holes_armed, true, memory_order_relaxed);
}

/* --- fork --------------------------------------------------------------------------------- */

void holes_fork_prepare(void)
{
	lock_acquire(&state.lock, LOCK_HOLES);
}

void holes_fork_parent(void)
{
	lock_release(&state.lock, LOCK_HOLES);
}

void holes_fork_child(void)
{
	lock_reset(&state.lock);
}
