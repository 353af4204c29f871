/*
 * The zone: which block serves a request, and the counters.
 *
 * A request of up to a block: the fullest block of its type that has a free run of the
 * rounded-up order; where that would be a clean whole block, a resident whole block of
 * another type goes first; then whole blocks of other types, growth, fallback.
 * A longer one: consecutive whole blocks, lowest address first, else growth; the tail of
 * the last block stays free.  A free is the reverse, block by block, in one critical
 * section however long the run (R8).
 *
 * Invariants: core_check().  Not guaranteed: that a free of pages which sit in a pcplist
 * is noticed at once; it is when the pcplist gives them back.
 */
#include "core/zone.h"

#include "core/fallback.h"
#include "core/index.h"
#include "core/isolate.h"
#include "core/span.h"
#include "core/work.h"

#include <errno.h>

struct zone zone;

/* How long a refusal by the system is believed while falling back is possible. */
#define REFUSED_NS ((uint64_t)10 * 1000 * 1000)
/* How often to wait for others' purges before an allocation fails. */
#define PURGE_WAITS 10000

static uint64_t refused_until_ns; /* under the zone lock */

int core_init(const struct core_config *config)
{
	int err;

	CHECK(config->client_bytes % PAGE_BYTES == 0);
	zone.config = *config;
	purge_init();
	waste_init();
	thp_init();
	ready_init();
	zone_lock();
	limit_set_locked(config);
	err = span_init();
	zone_unlock();
	if (err == 0)
		inspect_core();
	return err;
}

void core_reconfigure(const struct core_config *config)
{
	zone_lock();
	zone.config.decay_ns = config->decay_ns;
	zone.config.purge_lazily = config->purge_lazily;
	limit_set_locked(config);
	zone.config.thp_from_bytes = config->thp_from_bytes;
	zone.config.thp_extra_percent = config->thp_extra_percent;
	zone_unlock();
	/* What waits is looked at by the new decay. */
	purge_soon();
}

/* --- one block ------------------------------------------------------------------------ */

/*
 * Takes n free pages of a block with something apart from the counters; whether those of
 * its pages that are clean read as zero.  Nothing is taken from isolated blocks.
 */
static NOINLINE bool take_apart(struct pageblock *block, uint64_t n)
{
	if ((block->apart & APART_READY) != 0)
		ready_used_locked(block);
	if (pageblock_type(block) == MIGRATE_CMA)
		zone.cma_free_pages -= n;
	return (block->apart & APART_LAZY) == 0;
}

/* Takes [from, from + n) of a block; whether all of it reads as zero. */
static inline bool take(struct pageblock *block, unsigned from, unsigned n)
{
	unsigned nr_dirty = pageblock_take(block, from, n);
	bool clean_is_zero = true;

	zone.free_pages -= n;
	if (unlikely(block->apart))
		clean_is_zero = take_apart(block, n);
	zone.taken_pages += n;
	zone.dirty_free_pages -= nr_dirty;
	if (PB_DEBUG >= 2)
		pageblock_check(block);
	index_update(block);
	return nr_dirty == 0 && clean_is_zero;
}

static inline void put(struct pageblock *block, unsigned from, unsigned n, bool clean)
{
	zone.dirty_free_pages += pageblock_put(block, from, n, clean);
	if (unlikely(zone.dirty_free_pages > zone.waste_mark))
		waste_armed_locked();
	zone.taken_pages -= n;
	if (unlikely(block->apart))
		zone_count_free_locked(block, n);
	else
		zone.free_pages += n;
	if (unlikely(pageblock_whole(block)))
		zone_idle_locked(block);
	if (PB_DEBUG >= 2)
		pageblock_check(block);
	index_update(block);
}

void zone_take_locked(struct pageblock *block, unsigned from, unsigned n)
{
	ASSERT(!pageblock_isolated(block));
	(void)take(block, from, n);
}

void zone_set_type_locked(struct pageblock *block, enum migratetype mt)
{
	if (pageblock_type(block) == mt)
		return;
	/* A reserve stays one (R1). */
	ASSERT(pageblock_type(block) != MIGRATE_CMA);
	zone.claims_of[pageblock_type(block)][mt]++;
	/* Relaxed: as pageblock_type(). */
	atomic_store_explicit(&block->type, (uint8_t)mt, memory_order_relaxed);
	if (unlikely(mt == MIGRATE_CMA)) {
		block->apart |= APART_COUNTED;
		zone.cma_total_pages += PAGEBLOCK_PAGES;
		if (!pageblock_isolated(block))
			zone.cma_free_pages += block->nr_free;
	}
	zone.claims++;
	index_update(block);
}

void zone_set_isolated_locked(struct pageblock *block, bool isolated)
{
	if (pageblock_isolated(block) == isolated)
		return;
	if ((block->apart & APART_READY) != 0)
		ready_used_locked(block);
	zone_count_free_locked(block, -(uint64_t)block->nr_free);
	/* Relaxed: as pageblock_isolated(). */
	atomic_store_explicit(&zone.isolated_blocks,
			      atomic_load_explicit(&zone.isolated_blocks, memory_order_relaxed) +
				      (isolated ? 1 : -(uint64_t)1),
			      memory_order_relaxed);
	atomic_store_explicit(&block->isolated, isolated, memory_order_relaxed);
	if (isolated || pageblock_type(block) == MIGRATE_CMA)
		block->apart |= APART_COUNTED;
	else
		block->apart &= (uint8_t)~APART_COUNTED;
	zone_count_free_locked(block, block->nr_free);
	if (!isolated && pageblock_whole(block))
		zone_idle_locked(block);
	index_update(block);
}

/* --- allocation within a block ---------------------------------------------------------- */

static bool may_grow(enum migratetype mt)
{
	return mt != MIGRATE_CMA;
}

/* A refusal by the system is believed for a while. */
static struct pageblock *grow_unless_refused(enum migratetype mt)
{
	uint64_t now_ns = os_now_ns();
	struct pageblock *block;

	if (now_ns < refused_until_ns)
		return NULL;
	block = span_grow(1, 1, mt);
	if (block == NULL)
		refused_until_ns = now_ns + REFUSED_NS;
	return block;
}

/* The type has no whole block to use, or only a clean one: what else there is. */
static struct pageblock *pick_elsewhere(struct pageblock *clean, enum migratetype mt,
					unsigned order)
{
	struct pageblock *block = NULL;

	if (mt == MIGRATE_CMA)
		return clean;
	if (unlikely(limit_is_soft_hit_locked()))
		limit_soft_hit_locked();
	block = fallback_claim_whole(mt, true);
	if (block == NULL)
		block = clean;
	if (block == NULL)
		block = fallback_claim_whole(mt, false);
	if (block != NULL)
		return block;
	block = grow_unless_refused(mt);
	if (block == NULL)
		block = fallback_steal(mt, order);
	return block != NULL ? block : span_grow(1, 1, mt);
}

static NOINLINE struct pageblock *pick_clean(struct pageblock *clean, enum migratetype mt,
					     unsigned order)
{
	struct pageblock *block = pick_elsewhere(clean, mt, order);

	if (block != NULL && block->nr_dirty == 0)
		purge_missed_locked();
	if (block != NULL && order < PAGEBLOCK_ORDER - 1 && pageblock_whole(block))
		thp_opens_locked(block);
	return block;
}

static inline struct pageblock *pick(enum migratetype mt, unsigned order)
{
	struct pageblock *block = index_fullest(mt, order);

	if (unlikely(block == NULL || (block->order == PAGEBLOCK_ORDER && block->nr_dirty == 0)))
		return pick_clean(block, mt, order);
	return block;
}

/*
 * For a kind: one of its blocks, or a whole one that becomes one of them; failing that,
 * where those of no kind would go, or into another kind's (R10).
 */
static NOINLINE struct pageblock *pick_kind(unsigned kind, unsigned order)
{
	struct pageblock *block = index_fullest(index_group(MIGRATE_UNMOVABLE, kind), order);

	if (block != NULL)
		return block;
	block = index_whole(MIGRATE_UNMOVABLE, true);
	if (block == NULL)
		block = fallback_claim_whole(MIGRATE_UNMOVABLE, true);
	if (block == NULL)
		block = index_whole(MIGRATE_UNMOVABLE, false);
	if (block == NULL)
		block = fallback_claim_whole(MIGRATE_UNMOVABLE, false);
	if (block == NULL)
		block = grow_unless_refused(MIGRATE_UNMOVABLE);
	if (block == NULL)
		return pick(MIGRATE_UNMOVABLE, order);
	block->kind = (uint8_t)kind;
	zone.kind_blocks[kind]++;
	thp_begins_kind_locked(block);
	return block;
}

/* --- allocation of whole blocks ----------------------------------------------------------- */

/* Whether it could not be had in an empty address space. */
static bool is_absurd(size_t nr_pages, unsigned align_order)
{
	return nr_pages > (size_t)1 << (ADDRESS_BITS - PAGE_SHIFT) ||
	       align_order > ADDRESS_BITS - PAGE_SHIFT;
}

static NOINLINE pfn_t alloc_blocks(size_t nr_pages, unsigned align_order,
				   enum migratetype mt, bool *zeroed)
{
	size_t nr_blocks, align_blocks;
	struct pageblock *block;
	pfn_t first;
	bool zero = true;

	if (!may_grow(mt) || is_absurd(nr_pages, align_order))
		return 0;
	if (unlikely(limit_is_soft_hit_locked()))
		limit_soft_hit_locked();
	nr_blocks = round_up(nr_pages, PAGEBLOCK_PAGES) / PAGEBLOCK_PAGES;
	align_blocks =
		align_order > PAGEBLOCK_ORDER ? (size_t)1 << (align_order - PAGEBLOCK_ORDER) : 1;
	block = align_blocks == 1 ? span_find_run(nr_pages, mt)
				  : span_find_whole(nr_blocks, align_blocks);
	if (block == NULL)
		block = span_grow(nr_blocks, align_blocks, mt);
	if (block == NULL)
		return 0;
	first = block->pfn;
	for (; nr_pages > 0; block++) {
		size_t n = nr_pages < PAGEBLOCK_PAGES ? nr_pages : PAGEBLOCK_PAGES;

		zone_set_type_locked(block, mt);
		if (pageblock_whole(block) && block->nr_dirty == 0)
			purge_missed_locked();
		zero &= take(block, 0, (unsigned)n);
		nr_pages -= n;
	}
	*zeroed = zero;
	return first;
}

/* --- allocation --------------------------------------------------------------------------- */

/* Blocks that are searched for a run longer than their largest aligned one. */
#define TIGHT_LOOKS 8u

/*
 * For n pages, no power of two: the fullest block with so many side by side whose largest
 * aligned run is the next smaller power of two, no emptier than the one that is sure to have
 * room.  Without this look the holes between runs would stay as they are, and more blocks be
 * used.
 */
static struct pageblock *pick_tight(enum migratetype mt, unsigned order, unsigned n,
				    unsigned *from)
{
	uint32_t sure = index_any(mt, order);
	/* Fuller ones have not so many free pages. */
	uint32_t any = index_masks[index_row(mt, order - 1)] & ~(uint32_t)0 << (n >> 5) &
		       (sure ^ (sure - 1));
	unsigned looks = 0;

	for (; any != 0; any &= any - 1) {
		unsigned fullness = (unsigned)__builtin_ctz(any);
		struct pageblock *first = index_lists[index_list(mt, order - 1, fullness)];
		struct pageblock *block = first;

		do {
			*from = pageblock_find_run(block, n);
			if (*from != PAGE_NONE)
				return block;
			if (++looks == TIGHT_LOOKS)
				return NULL;
			block = block->next;
		} while (block != first);
	}
	return NULL;
}

static ALWAYS_INLINE pfn_t alloc_locked(size_t nr_pages, unsigned align_order,
					enum migratetype mt, bool *zeroed)
{
	struct pageblock *block;
	unsigned order, from = 0;

	ASSERT(lock_held(LOCK_ZONE));
	if (unlikely(!limit_fits_locked(nr_pages)))
		return 0;
	if (unlikely(nr_pages > PAGEBLOCK_PAGES || align_order > PAGEBLOCK_ORDER))
		return alloc_blocks(nr_pages, align_order, mt, zeroed);
	order = log2_ceil(nr_pages);
	if (order < align_order)
		order = align_order;
	block = nr_pages < (size_t)1 << order && align_order == 0
			? pick_tight(mt, order, (unsigned)nr_pages, &from)
			: NULL;
	if (block == NULL) {
		block = pick(mt, order);
		if (unlikely(block == NULL))
			return 0;
		if (nr_pages == (size_t)1 << order)
			from = pageblock_find_order(block, order);
		else if (align_order == 0)
			from = pageblock_find_run(block, (unsigned)nr_pages);
		else
			from = pageblock_bits_find(block->free, (unsigned)nr_pages, align_order);
	}
	*zeroed = take(block, from, (unsigned)nr_pages);
	return block->pfn + from;
}

unsigned zone_alloc_bulk_locked(unsigned order, enum migratetype mt, unsigned kind, unsigned nr,
				uint64_t *runs)
{
	struct pageblock *block;
	unsigned done = 0;
	unsigned n = 1u << order;
	bool clean_is_zero;

	ASSERT(lock_held(LOCK_ZONE) && order <= PAGEBLOCK_ORDER);
	if (unlikely(!limit_fits_locked((uint64_t)nr << order)))
		return 0;
	block = likely(kind == 0 || mt != MIGRATE_UNMOVABLE) ? pick(mt, order)
							     : pick_kind(kind, order);
	if (unlikely(block == NULL))
		return 0;
	/* Others' blocks are not emptied to fill a cache. */
	if (pageblock_type(block) != mt || block->kind != kind)
		nr = 1;
	clean_is_zero = (block->apart & APART_LAZY) == 0;
	do {
		unsigned from = pageblock_find_order(block, order);
		unsigned nr_dirty = pageblock_take(block, from, n);

		zone.dirty_free_pages -= nr_dirty;
		runs[done++] = (block->pfn + from) << 1 | (nr_dirty == 0 && clean_is_zero);
	} while (done < nr && block->order != ORDER_NONE && block->order >= order);
	zone.free_pages -= (uint64_t)done << order;
	if (unlikely(block->apart))
		(void)take_apart(block, (uint64_t)done << order);
	zone.taken_pages += (uint64_t)done << order;
	if (PB_DEBUG >= 2)
		pageblock_check(block);
	index_update(block);
	return done;
}

/*
 * There is no room: gets back what others hold, once what pcplists cache and then what is
 * being purged.  Whether it is worth another try.
 */
static COLD bool wait_for_pages(unsigned attempt, size_t nr_pages, unsigned align_order)
{
	uint64_t purging;

	PAUSE(ZONE_WAIT);
	if (is_absurd(nr_pages, align_order))
		return false;
	if (attempt == 0) {
		struct core_stats stats;

		if (zone.hard_pages != UINT64_MAX)
			return limit_make_room(nr_pages);

		core_stats_read(&stats);
		if (stats.free_pages + stats.pcp_pages + stats.purging_pages < nr_pages)
			return false;
		pcp_drain_all();
		return true;
	}
	zone_lock();
	purging = zone.purging_pages;
	zone_unlock();
	if (purging == 0 || attempt > PURGE_WAITS)
		return false;
	os_yield();
	return true;
}

/* The first try found no room.  */
static COLD pfn_t alloc_last_resort(size_t nr_pages, unsigned align_order, enum migratetype mt,
				    bool *zeroed)
{
	for (unsigned attempt = 0; wait_for_pages(attempt, nr_pages, align_order); attempt++) {
		pfn_t pfn;

		zone_lock();
		pfn = alloc_locked(nr_pages, align_order, mt, zeroed);
		zone_unlock();
		if (pfn != 0)
			return pfn;
	}
	return 0;
}

pfn_t zone_alloc(size_t nr_pages, unsigned align_order, enum migratetype mt, bool *zeroed)
{
	bool zero = false;
	pfn_t pfn;

	ASSERT(nr_pages > 0 && mt < NR_MIGRATETYPES);
	zone_lock();
	pfn = alloc_locked(nr_pages, align_order, mt, &zero);
	zone_unlock();
	if (unlikely(pfn == 0))
		pfn = alloc_last_resort(nr_pages, align_order, mt, &zero);
	if (zeroed != NULL)
		*zeroed = zero;
	return pfn;
}

/* --- freeing ------------------------------------------------------------------------------ */

/* The block of a page that must be ours. */
static inline struct pageblock *block_of(pfn_t pfn)
{
	struct pageblock *block = span_block(pfn);
	bool page_is_ours = block != NULL;

	CHECK(page_is_ours);
	return block;
}

/* The run's pages within the block of its first page. */
static inline unsigned pages_here(const struct pageblock *block, pfn_t pfn, size_t nr_pages)
{
	size_t left = PAGEBLOCK_PAGES - (pfn - block->pfn);

	return (unsigned)(nr_pages < left ? nr_pages : left);
}

static ALWAYS_INLINE void free_locked(pfn_t pfn, size_t nr_pages, bool clean)
{
	ASSERT(lock_held(LOCK_ZONE));
	while (nr_pages > 0) {
		struct pageblock *block = block_of(pfn);
		unsigned n = pages_here(block, pfn, nr_pages);

		put(block, (unsigned)(pfn - block->pfn), n, clean);
		pfn += n;
		nr_pages -= n;
	}
}

void zone_free_locked(pfn_t pfn, size_t nr_pages, bool clean)
{
	free_locked(pfn, nr_pages, clean);
}

void zone_free(pfn_t pfn, size_t nr_pages)
{
	CHECK(nr_pages > 0);
	PAUSE(ZONE_FREE);
	zone_lock();
	free_locked(pfn, nr_pages, false);
	zone_unlock();
}

void zone_mark_clean(pfn_t pfn, size_t nr_pages)
{
	zone_lock();
	while (nr_pages > 0) {
		struct pageblock *block = block_of(pfn);
		unsigned n = pages_here(block, pfn, nr_pages);
		unsigned from = (unsigned)(pfn - block->pfn);
		bool pages_are_taken = pageblock_bits_none(block->free, from, n) &&
				       pageblock_bits_none(block->purging, from, n);

		CHECK(pages_are_taken);
		pageblock_bits_clear(block->dirty, from, n);
		pfn += n;
		nr_pages -= n;
	}
	zone_unlock();
}

/* --- growing a run in place --------------------------------------------------------------- */

/* Whether [pfn, end) is free for the type, growing the span where it is not there yet. */
static bool extend_prepare(struct span *span, pfn_t pfn, pfn_t end, enum migratetype mt)
{
	pfn_t committed_end = span->start + span_committed(span) * PAGEBLOCK_PAGES;
	pfn_t stop = end < committed_end ? end : committed_end;
	size_t missing;

	while (pfn < stop) {
		struct pageblock *block = block_of(pfn);
		unsigned n = pages_here(block, pfn, stop - pfn);

		if (!span_may_take(block, (unsigned)(pfn - block->pfn), n, mt))
			return false;
		pfn += n;
	}
	if (end <= committed_end)
		return true;
	missing = round_up(end - committed_end, PAGEBLOCK_PAGES) / PAGEBLOCK_PAGES;
	return may_grow(mt) && span_grow_in_place(span, missing, mt);
}

static bool extend_locked(pfn_t pfn, size_t nr_pages, size_t new_nr_pages, bool *zeroed)
{
	struct pageblock *block = block_of(pfn + nr_pages - 1);
	struct span *span = span_of(block);
	enum migratetype mt = pageblock_type(block);
	pfn_t at = pfn + nr_pages;
	pfn_t end = pfn + new_nr_pages;
	bool page_is_taken =
		pageblock_bits_none(block->free, (unsigned)(at - 1 - block->pfn), 1);

	CHECK(page_is_taken);
	if (new_nr_pages > span->nr_blocks * PAGEBLOCK_PAGES ||
	    end > span->start + span->nr_blocks * PAGEBLOCK_PAGES)
		return false;
	if (!limit_fits_locked(new_nr_pages - nr_pages) || !extend_prepare(span, at, end, mt))
		return false;
	*zeroed = true;
	while (at < end) {
		unsigned n;

		block = block_of(at);
		n = pages_here(block, at, end - at);
		zone_set_type_locked(block, mt);
		*zeroed &= take(block, (unsigned)(at - block->pfn), n);
		at += n;
	}
	return true;
}

bool zone_extend(pfn_t pfn, size_t nr_pages, size_t new_nr_pages, bool *zeroed)
{
	bool zero = false;
	bool done;

	ASSERT(nr_pages > 0 && new_nr_pages >= nr_pages);
	zone_lock();
	done = extend_locked(pfn, nr_pages, new_nr_pages, &zero);
	zone_unlock();
	if (zeroed != NULL)
		*zeroed = zero;
	return done;
}

/* --- fork --------------------------------------------------------------------------------- */

void core_fork_prepare(void)
{
	/* Takes the zone lock too, to be sure that it has seen all of them. */
	pcp_fork_prepare();
	thp_forked();
}

void core_fork_parent(void)
{
	zone_unlock();
	pcp_fork_parent();
}

void core_fork_child(void)
{
	lock_reset(&zone.lock);
	if (zone.config.fork_child_purges)
		zone.inherited_blocks =
			(zone.taken_pages + zone.dirty_free_pages) / PAGEBLOCK_PAGES;
	pcp_fork_child();
	work_fork_child();
	purge_fork_child();
	isolate_fork_child();
	inspect_fork_child();
}
