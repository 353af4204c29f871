/*
 * Contiguous allocation and lent reserves (CMA).
 *
 * Wholly free blocks in a row are taken at once.  Where there are none a window of blocks
 * is chosen, the one with the fewest pages in use, isolated, vacated and taken: the pages
 * asked for are taken and the blocks opened in one critical section, so that what lies
 * before and behind in the outer blocks is given back with it and nobody can come
 * between (R8).  Core moves nothing itself: it asks the layer above, drains the caches
 * and looks again.
 *
 *   fast  one drain for each window, a few windows, no waiting: EBUSY is an answer
 *   hard  caches disabled for the duration, window after window until the deadline
 *
 * A reserve is blocks typed CMA, lent to MOVABLE and RECLAIMABLE requests when nothing else
 * is left, after growth: a page of plain malloc cannot be moved, so whatever is lent may be
 * missing when the reserve is asked for.  As long as there is address space and memory to
 * grow, growing costs no more than lending: either way it is the first touch that is
 * paid.  A block's type stays CMA whoever borrows it (R1).
 *
 * Invariants: core_check().  Not guaranteed: that a window with pages in use is found
 * to be vacatable before it has been tried; nr_contig, which keeps windows off blocks
 * that other contiguous allocations hold, is a hint.
 */
#include "core/isolate.h"
#include "core/span.h"
#include "core/zone.h"

#include <errno.h>

#define CONTIG_MAX_BLOCKS ((unsigned)(CONTIG_MAX_PAGES / PAGEBLOCK_PAGES))
#define CMA_AREAS_MAX 16u
/* Windows a fast call tries. */
#define FAST_TRIES 4u
/* A hard call gives each window this part of what is left until the deadline, at least. */
#define SLICE_PART 8u
/* Blocks looked at in one critical section. */
#define SCAN_BLOCKS 64u
#define UNUSABLE UINT16_MAX

/* Blocks in a row in which windows are looked for. */
struct area {
	struct pageblock *blocks;
	size_t nr_blocks;
};

static struct area cma_areas[CMA_AREAS_MAX];
/* Written under the zone lock.  Release when one is added: publishes it. */
static _Atomic unsigned nr_cma_areas;

static inline size_t blocks_for(size_t nr_pages)
{
	return (nr_pages + PAGEBLOCK_PAGES - 1) / PAGEBLOCK_PAGES;
}

/* --- taking ------------------------------------------------------------------------------ */

/* The part of [pfn, end) that lies in pfn's block. */
static inline unsigned pages_here(pfn_t pfn, pfn_t end)
{
	size_t left = PAGEBLOCK_PAGES - pfn % PAGEBLOCK_PAGES;

	return (unsigned)(end - pfn < left ? end - pfn : left);
}

/* Takes a run of free pages; its blocks, open or the caller's, are open afterwards. */
static void take_run_locked(pfn_t pfn, size_t nr_pages)
{
	pfn_t end = pfn + nr_pages;

	while (pfn < end) {
		struct pageblock *block = span_block(pfn);
		unsigned n = pages_here(pfn, end);

		if (pageblock_isolated(block))
			isolate_unmark_locked(block);
		zone_take_locked(block, (unsigned)(pfn - block->pfn), n);
		block->nr_contig++;
		pfn += n;
	}
	zone.contig_ok++;
}

/* Whether one more contiguous allocation can be counted in each block. */
static bool can_count_locked(pfn_t pfn, pfn_t end)
{
	bool can = true;

	for (; pfn < end && can; pfn += pages_here(pfn, end))
		can = span_block(pfn)->nr_contig < UINT8_MAX;
	return can;
}

/* Takes a run of an isolated range if all of it is free. */
static bool take_isolated(pfn_t pfn, size_t nr_pages)
{
	bool is_free;

	zone_lock();
	is_free = isolate_is_free_locked(pfn, nr_pages) &&
		  can_count_locked(pfn, pfn + nr_pages);
	if (is_free)
		take_run_locked(pfn, nr_pages);
	zone_unlock();
	return is_free;
}

/* Takes wholly free blocks of no reserve, growing the span for them; 0: cannot. */
static pfn_t take_whole(size_t nr_pages)
{
	struct pageblock *block;
	pfn_t pfn = 0;

	zone_lock();
	block = span_find_whole(blocks_for(nr_pages), 1);
	if (block == NULL)
		block = span_grow(blocks_for(nr_pages), 1, MIGRATE_MOVABLE);
	if (block != NULL) {
		pfn = block->pfn;
		take_run_locked(pfn, nr_pages);
	}
	zone_unlock();
	return pfn;
}

/* --- one window --------------------------------------------------------------------------- */

static bool is_late(uint64_t deadline_ns)
{
	return os_now_ns() >= deadline_ns;
}

/* Waits for a run of an isolated range that was asked to vacate, and takes it when it has. */
static bool wait_and_take(pfn_t pfn, size_t nr_pages, bool hard, uint64_t deadline_ns)
{
	PAUSE(CONTIG_MARKED);
	if (zone.config.vacate != NULL)
		(void)zone.config.vacate(pfn, nr_pages, hard ? deadline_ns : 0);
	if (!hard)
		pcp_drain_all();
	PAUSE(CONTIG_DRAINED);
	for (unsigned naps = 0; !take_isolated(pfn, nr_pages); naps++) {
		if (!hard || is_late(deadline_ns))
			return false;
		os_nap(naps);
	}
	return true;
}

/* Isolates the blocks of a run, vacates and takes it; 0, -EBUSY or -ERANGE, and then
 * nothing is isolated any more. */
static int try_window(pfn_t pfn, size_t nr_pages, bool hard, uint64_t deadline_ns)
{
	uint32_t owner = isolate_owner_core();
	pfn_t first = round_down(pfn, PAGEBLOCK_PAGES);
	size_t nr_outer = round_up(pfn + nr_pages, PAGEBLOCK_PAGES) - first;
	int err;

	PAUSE(CONTIG_WINDOW);
	err = isolate_range(first, nr_outer, owner);
	if (err != 0)
		return err;
	if (take_isolated(pfn, nr_pages))
		return 0;
	if (!wait_and_take(pfn, nr_pages, hard, deadline_ns)) {
		PAUSE(CONTIG_GIVE_UP);
		err = isolate_undo(first, nr_outer, owner);
		CHECK(err == 0);
		err = -EBUSY;
	}
	if (zone.config.vacate_end != NULL)
		zone.config.vacate_end(pfn, nr_pages);
	return err;
}

/* --- finding windows ---------------------------------------------------------------------- */

/* Where a search starts: everything from this block of this area on. */
struct cursor {
	unsigned area;
	size_t block;
};

struct search {
	size_t nr_blocks; /* of the window */
	/* Windows begin at multiples of it, counted from the start of their area. */
	size_t step;
	bool cma;
	struct cursor from;
	/* The best window so far: its number of pages in use, UINT32_MAX for none. */
	uint32_t cost;
	pfn_t pfn;
	struct cursor next; /* behind its first block */
};

static bool area_at(const struct search *search, unsigned number, struct area *area)
{
	if (search->cma) {
		/* Acquire pairs with the release in cma_reserve(). */
		if (number >= atomic_load_explicit(&nr_cma_areas, memory_order_acquire))
			return false;
		*area = cma_areas[number];
		return true;
	}
	if (number >= span_count())
		return false;
	*area = (struct area){.blocks = span_at(number)->blocks,
			      .nr_blocks = span_committed(span_at(number))};
	return true;
}

/* Pages in use, or UNUSABLE. */
static uint16_t cost_locked(const struct pageblock *block, bool cma)
{
	enum migratetype mt = pageblock_type(block);

	if (!isolate_possible_locked(block) || block->nr_contig > 0 ||
	    cma != (mt == MIGRATE_CMA))
		return UNUSABLE;
	/* Nothing but its holder's free vacates it, unless the layer above knows better. */
	if (mt == MIGRATE_UNMOVABLE && !pageblock_whole(block) && zone.config.vacate == NULL)
		return UNUSABLE;
	return (uint16_t)(PAGEBLOCK_PAGES - block->nr_free);
}

/* Slides the window over an area, SCAN_BLOCKS under one hold of the lock: a hint, then. */
static void search_area(struct search *search, unsigned number, const struct area *area)
{
	uint16_t costs[CONTIG_MAX_BLOCKS];
	size_t from = number == search->from.area ? search->from.block : 0;
	size_t run = 0;
	uint32_t sum = 0;

	zone_lock();
	for (size_t i = from; i < area->nr_blocks && search->cost > 0; i++) {
		uint16_t cost = cost_locked(&area->blocks[i], search->cma);
		uint16_t *slot = &costs[i % search->nr_blocks];

		if (i % SCAN_BLOCKS == 0) {
			zone_unlock();
			zone_lock();
		}
		if (cost == UNUSABLE) {
			run = 0;
			sum = 0;
			continue;
		}
		if (run == search->nr_blocks)
			sum -= *slot;
		else
			run++;
		*slot = cost;
		sum += cost;
		if (run == search->nr_blocks && sum < search->cost &&
		    (i + 1 - run) % search->step == 0) {
			search->cost = sum;
			search->pfn = area->blocks[i + 1 - run].pfn;
			search->next = (struct cursor){.area = number, .block = i + 2 - run};
		}
	}
	zone_unlock();
}

/* The cheapest window from a cursor on; false: there is none. */
static bool search_window(struct search *search)
{
	struct area area;

	search->cost = UINT32_MAX;
	for (unsigned i = search->from.area; area_at(search, i, &area) && search->cost > 0; i++)
		search_area(search, i, &area);
	return search->cost != UINT32_MAX;
}

/* Whether there would be room for a window if all of it were free. */
static bool has_room(const struct search *search)
{
	struct area area;

	for (unsigned i = 0; area_at(search, i, &area); i++)
		if (area.nr_blocks >= search->nr_blocks)
			return true;
	return false;
}

/* --- the interface ------------------------------------------------------------------------ */

/* The next window's own deadline. */
static uint64_t slice_end(uint64_t deadline_ns)
{
	uint64_t now_ns = os_now_ns();

	return now_ns >= deadline_ns ? deadline_ns
				     : now_ns + (deadline_ns - now_ns) / SLICE_PART + 1;
}

/*
 * Window after window, the cheapest first, then those behind it, then from the start.
 * In a reserve first those side by side, so that as many requests of a size fit as it has
 * room for, whatever the order in which they come and go.
 */
static int alloc_windows(size_t nr_pages, bool cma, bool hard, uint64_t deadline_ns, pfn_t *pfn)
{
	size_t side_by_side = cma ? blocks_for(nr_pages) : 1;
	struct search search = {
		.nr_blocks = blocks_for(nr_pages), .step = side_by_side, .cma = cma};
	unsigned nr_tried = 0, naps = 0;
	int err = -ENOMEM;

	if (!has_room(&search))
		return err;
	while (hard || nr_tried < FAST_TRIES) {
		bool from_start = search.from.area == 0 && search.from.block == 0;

		if (search_window(&search)) {
			err = try_window(search.pfn, nr_pages, hard, slice_end(deadline_ns));
			*pfn = search.pfn;
			if (err == 0)
				return 0;
			nr_tried++;
			search.from = search.next;
		} else if (search.step > 1) {
			search.step = 1;
			search.from = (struct cursor){.area = 0};
		} else {
			/* None at all, now: in time one may become free of isolation. */
			if (!hard && from_start)
				return err;
			if (from_start)
				os_nap(naps++);
			search.step = side_by_side;
			search.from = (struct cursor){.area = 0};
		}
		if (hard && is_late(deadline_ns))
			return -ETIMEDOUT;
	}
	return err;
}

/* 0 or -errno for what is wrong with a request. */
static int check_request(size_t nr_pages, unsigned flags, uint64_t deadline_ns)
{
	if (nr_pages == 0 || nr_pages > CONTIG_MAX_PAGES ||
	    (flags & ~(CONTIG_HARD | CONTIG_CMA)) != 0)
		return -EINVAL;
	if (((flags & CONTIG_HARD) != 0 || deadline_ns != 0) && is_late(deadline_ns))
		return -ETIMEDOUT;
	return 0;
}

static void count_failure(void)
{
	zone_lock();
	zone.contig_failed++;
	zone_unlock();
}

pfn_t contig_alloc(size_t nr_pages, unsigned flags, uint64_t deadline_ns, int *err)
{
	bool hard = (flags & CONTIG_HARD) != 0;
	bool cma = (flags & CONTIG_CMA) != 0;
	pfn_t pfn = 0;
	int status = check_request(nr_pages, flags, deadline_ns);

	if (status == 0 && !limit_make_room(nr_pages)) {
		status = -ENOMEM;
		count_failure();
	}
	if (status == 0 && !cma)
		pfn = take_whole(nr_pages);
	if (status == 0 && pfn == 0) {
		if (hard)
			pcp_disable();
		status = alloc_windows(nr_pages, cma, hard, deadline_ns, &pfn);
		if (hard)
			pcp_enable();
		if (status != 0)
			count_failure();
	}
	if (err != NULL)
		*err = status;
	return status == 0 ? pfn : 0;
}

int contig_alloc_range(pfn_t pfn, size_t nr_pages, unsigned flags, uint64_t deadline_ns)
{
	bool hard = (flags & CONTIG_HARD) != 0;
	int err = check_request(nr_pages, flags, deadline_ns);

	if (err == 0 && ((flags & CONTIG_CMA) != 0 || pfn > UINT64_MAX - 2 * CONTIG_MAX_PAGES))
		err = (flags & CONTIG_CMA) != 0 ? -EINVAL : -ERANGE;
	if (err != 0)
		return err;
	if (hard)
		pcp_disable();
	/* Busy with somebody else's isolation, perhaps: that may end. */
	while ((err = try_window(pfn, nr_pages, hard, deadline_ns)) == -EBUSY && hard &&
	       !is_late(deadline_ns))
		os_yield();
	if (hard)
		pcp_enable();
	if (err == -EBUSY)
		count_failure();
	return hard && err == -EBUSY ? -ETIMEDOUT : err;
}

int contig_free(pfn_t pfn, size_t nr_pages)
{
	pfn_t end = pfn + nr_pages;
	struct pageblock *block;
	bool held = nr_pages > 0 && nr_pages <= CONTIG_MAX_PAGES;

	zone_lock();
	for (pfn_t at = pfn; held && at < end; at += pages_here(at, end)) {
		block = span_block(at);
		held = block != NULL && block->nr_contig > 0 &&
		       pageblock_bits_none(block->free, (unsigned)(at - block->pfn),
					   pages_here(at, end));
	}
	for (pfn_t at = pfn; held && at < end; at += pages_here(at, end)) {
		block = span_block(at);
		block->nr_contig--;
	}
	if (held)
		zone_free_locked(pfn, nr_pages, false);
	zone_unlock();
	return held ? 0 : -EINVAL;
}

void contig_keep(pfn_t pfn, size_t nr_pages)
{
	pfn_t end = pfn + nr_pages;

	zone_lock();
	for (; pfn < end; pfn += pages_here(pfn, end))
		span_block(pfn)->nr_contig--;
	zone_unlock();
}

/* --- walking ------------------------------------------------------------------------------ */

static pfn_t span_end(struct span *span)
{
	return span->start + span_committed(span) * PAGEBLOCK_PAGES;
}

pfn_t contig_block_below(pfn_t pfn)
{
	unsigned nr = span_count();
	pfn_t best = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct span *span = span_at(i);
		pfn_t end = span_end(span);
		pfn_t at = pfn < end ? round_up(pfn, PAGEBLOCK_PAGES) : end;

		if (pfn > span->start && at > span->start && at - PAGEBLOCK_PAGES > best)
			best = at - PAGEBLOCK_PAGES;
	}
	return best;
}

pfn_t contig_block_above(pfn_t pfn)
{
	unsigned nr = span_count();
	pfn_t best = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct span *span = span_at(i);
		pfn_t at = pfn < span->start ? span->start
					     : round_down(pfn, PAGEBLOCK_PAGES) + PAGEBLOCK_PAGES;

		if (at < span_end(span) && (best == 0 || at < best))
			best = at;
	}
	return best;
}

bool contig_block_is_free(pfn_t block)
{
	return isolate_test(block, PAGEBLOCK_PAGES);
}

/* --- reserves ----------------------------------------------------------------------------- */

static int reserve_locked(size_t nr_blocks)
{
	/* Relaxed: written under the zone lock. */
	unsigned nr = atomic_load_explicit(&nr_cma_areas, memory_order_relaxed);
	struct pageblock *first;

	if (nr == CMA_AREAS_MAX)
		return -ENOSPC;
	first = span_find_whole(nr_blocks, 1);
	if (first == NULL)
		first = span_grow(nr_blocks, 1, MIGRATE_MOVABLE);
	if (first == NULL)
		return -ENOMEM;
	/* Downwards: the newest on a list is taken first, and that shall be the lowest. */
	for (size_t i = nr_blocks; i-- > 0;)
		zone_set_type_locked(&first[i], MIGRATE_CMA);
	cma_areas[nr] = (struct area){.blocks = first, .nr_blocks = nr_blocks};
	/* Release pairs with area_at(). */
	atomic_store_explicit(&nr_cma_areas, nr + 1, memory_order_release);
	return 0;
}

int cma_reserve(size_t nr_bytes)
{
	int err;

	if (nr_bytes == 0 || nr_bytes > (size_t)1 << ADDRESS_BITS)
		return -EINVAL;
	zone_lock();
	err = reserve_locked((nr_bytes + PAGEBLOCK_BYTES - 1) / PAGEBLOCK_BYTES);
	zone_unlock();
	return err;
}
