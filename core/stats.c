/*
 * Reading the counters, and comparing them with a walk of what they count.
 */
#include "core/index.h"
#include "core/isolate.h"
#include "core/span.h"
#include "core/zone.h"

static size_t nr_blocks_committed(void)
{
	unsigned nr = span_count();
	size_t nr_blocks = 0;

	for (unsigned i = 0; i < nr; i++)
		nr_blocks += span_committed(span_at(i));
	return nr_blocks;
}

void core_stats_read(struct core_stats *out)
{
	uint64_t taken;
	uint64_t cached;

	zone_lock();
	*out = (struct core_stats){
		.total_pages = zone.total_pages,
		.free_pages = zone.free_pages,
		.isolated_free_pages = zone.isolated_free_pages,
		.cma_free_pages = zone.cma_free_pages,
		.cma_total_pages = zone.cma_total_pages,
		.offline_pages = zone.offline_pages,
		.purging_pages = zone.purging_pages,
		.dirty_free_pages = zone.dirty_free_pages,
		.purged_pages = zone.purged_pages,
		.purge_calls = zone.purge_calls,
		.soft_hits = zone.soft_hits,
		.hard_hits = zone.hard_hits,
		.nr_blocks = nr_blocks_committed(),
		.nr_spans = span_count(),
		.claims = zone.claims,
		.steals = zone.steals,
		.grown = zone.grown,
		.pcp_drains = pcp_count_drains(),
		.isolate_ok = zone.isolate_ok,
		.isolate_busy = zone.isolate_busy,
		.contig_ok = zone.contig_ok,
		.contig_failed = zone.contig_failed,
	};
	taken = zone.taken_pages;
	/* Caches change under their own locks: exact when they are at rest, else a snapshot. */
	cached = pcp_count_all();
	zone_unlock();
	out->pcp_pages = cached < taken ? cached : taken;
	out->allocated_pages = taken - out->pcp_pages;
}

/* What a walk over all blocks finds. */
struct walk {
	uint64_t nr_blocks, total_pages, free_pages, isolated_free_pages;
	uint64_t purging_pages, dirty_free_pages, nr_listed;
	uint64_t cma_free_pages, cma_total_pages, offline_pages, isolated_core_blocks;
	uint64_t isolated_blocks;
	uint32_t kind_blocks[NR_KINDS];
};

/* What isolation and reserves add to it. */
static void walk_apart(const struct pageblock *block, struct walk *walk)
{
	bool cma = pageblock_type(block) == MIGRATE_CMA;

	CHECK(block->owner == 0 || pageblock_isolated(block));
	walk->isolated_blocks += pageblock_isolated(block);
	if (cma)
		walk->cma_total_pages += PAGEBLOCK_PAGES;
	if (block->owner == ISOLATE_OFFLINE) {
		CHECK(pageblock_whole(block) && block->nr_dirty == 0);
		walk->offline_pages += PAGEBLOCK_PAGES;
	} else if (pageblock_isolated(block)) {
		walk->isolated_free_pages += block->nr_free;
		walk->isolated_core_blocks += (block->owner & ISOLATE_CORE) != 0;
	} else {
		walk->free_pages += block->nr_free;
		walk->cma_free_pages += cma ? block->nr_free : 0;
	}
}

static void walk_span(const struct span *span, struct walk *walk)
{
	size_t nr = span_committed(span);

	span_check(span);
	for (size_t i = 0; i < nr; i++) {
		const struct pageblock *block = &span->blocks[i];

		pageblock_check(block);
		walk->nr_blocks++;
		walk->total_pages += PAGEBLOCK_PAGES;
		walk->purging_pages += block->nr_purging;
		walk->dirty_free_pages += block->nr_dirty;
		walk->nr_listed += block->list != INDEX_NONE;
		walk->kind_blocks[block->kind]++;
		walk_apart(block, walk);
		/* On a list exactly when it has something to give. */
		CHECK((block->list != INDEX_NONE) ==
		      (block->nr_free > 0 && !pageblock_isolated(block)));
	}
}

static void check_locked(void)
{
	struct walk walk = {0};
	unsigned nr = span_count();

	for (unsigned i = 0; i < nr; i++)
		walk_span(span_at(i), &walk);
	CHECK_COUNT(walk.nr_listed, index_check());
	CHECK_COUNT(zone.total_pages, walk.total_pages);
	CHECK_COUNT(zone.free_pages, walk.free_pages);
	CHECK_COUNT(zone.isolated_free_pages, walk.isolated_free_pages);
	CHECK_COUNT(zone.cma_free_pages, walk.cma_free_pages);
	CHECK_COUNT(zone.cma_total_pages, walk.cma_total_pages);
	CHECK_COUNT(zone.offline_pages, walk.offline_pages);
	CHECK_COUNT(zone.isolated_core_blocks, walk.isolated_core_blocks);
	CHECK_COUNT(atomic_load_explicit(&zone.isolated_blocks, memory_order_relaxed),
		    walk.isolated_blocks);
	for (unsigned kind = 1; kind < NR_KINDS; kind++)
		CHECK_COUNT(zone.kind_blocks[kind], walk.kind_blocks[kind]);
	CHECK_COUNT(zone.purging_pages, walk.purging_pages);
	CHECK_COUNT(zone.dirty_free_pages, walk.dirty_free_pages);
	/* Conservation: nothing lost, nothing invented. */
	CHECK_COUNT(zone.total_pages, zone.free_pages + zone.isolated_free_pages +
					      zone.offline_pages + zone.purging_pages +
					      zone.taken_pages);
}

void core_check(void)
{
	pcp_check_all();
	zone_lock();
	check_locked();
	zone_unlock();
}

/* --- whenever the lock is dropped ------------------------------------------------------- */

#define CHECK_EVERY 1024u
/* Drops of the lock that pay for looking at one block. */
#define DROPS_A_BLOCK 8u

/* Under the zone lock. */
static uint32_t check_every = CHECK_EVERY;
static bool check_sampled = true; /* until a test says how often */
static uint64_t until_check = CHECK_EVERY;

void core_check_every(uint32_t n)
{
	zone_lock();
	check_every = n;
	check_sampled = false;
	until_check = n;
	zone_unlock();
}

void zone_check_sampled_locked(void)
{
	if (until_check == 0 || --until_check > 0)
		return;
	until_check = check_every + (check_sampled ? nr_blocks_committed() * DROPS_A_BLOCK : 0);
	check_locked();
}
