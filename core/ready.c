/*
 * Memory kept ready: wholly free blocks that are resident, for threads that must not wait for
 * the system to clear a huge page.
 *
 * The background thread takes clean blocks off the lists, as giving back does the other way
 * round (purge.c), makes them resident and puts them on a list of their own.  They are
 * handed out before clean blocks and after those that are waiting for their decay, which
 * they are spared.  Each that goes makes the work due again.
 *
 * Not guaranteed: that allocations larger than a block find ready ones, that there are
 * enough when more is wanted at a time than is kept, nor that what could not be had is
 * tried again before the next one goes.
 */
#include "core/index.h"
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"

/* Made ready in one slice. */
#define SLICE_BLOCKS 4u
/* After the system had no memory: 1 s. */
#define RETRY_NS ((uint64_t)1000 * 1000 * 1000)

static uint64_t ready_run(uint64_t now_ns);

static struct work ready_work = {.run = ready_run, .background = true};

void ready_init(void)
{
	work_add(&ready_work);
	ready_soon();
}

void ready_soon(void)
{
	if (zone.config.ready_bytes > 0)
		work_due(&ready_work, 0);
}

void ready_used_locked(struct pageblock *block)
{
	block->apart &= (uint8_t)~APART_READY;
	zone.ready_blocks--;
	ready_soon();
}

static struct pageblock *any_clean_locked(void)
{
	struct pageblock *block = NULL;

	for (unsigned mt = 0; mt < MIGRATE_CMA && block == NULL; mt++)
		block = index_whole((enum migratetype)mt, false);
	return block;
}

/* A clean block off the lists; NULL: there are enough, or there is none to be had. */
static struct pageblock *begin(void)
{
	struct pageblock *block = NULL;

	zone_lock();
	if (zone.ready_blocks * PAGEBLOCK_BYTES < zone.config.ready_bytes) {
		block = any_clean_locked();
		/* span_grow() would be content with a block that is ready. */
		if (block == NULL && limit_fits_locked(PAGEBLOCK_PAGES) &&
		    span_grow_in_place(span_at(span_count() - 1), 1, MIGRATE_UNMOVABLE))
			block = any_clean_locked();
	}
	if (block != NULL) {
		zone_count_free_locked(block, -(uint64_t)block->nr_free);
		zone.purging_pages += block->nr_free;
		pageblock_purge_begin(block);
		index_update(block);
	}
	zone_unlock();
	return block;
}

/* When the system has not the memory, it is like any other. */
static void end(struct pageblock *block, bool populated)
{
	zone_lock();
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		block->dirty[i] = UINT64_MAX;
	zone.purging_pages -= PAGEBLOCK_PAGES;
	pageblock_purge_end(block, NULL);
	zone_count_free_locked(block, PAGEBLOCK_PAGES);
	zone.dirty_free_pages += PAGEBLOCK_PAGES;
	/* Somebody may have isolated it meanwhile. */
	if (populated && !pageblock_isolated(block)) {
		block->apart |= APART_READY;
		zone.ready_blocks++;
	} else {
		zone_idle_locked(block);
	}
	index_update(block);
	zone_unlock();
}

static COLD uint64_t ready_run(uint64_t now_ns)
{
	for (unsigned i = 0; i < SLICE_BLOCKS; i++) {
		struct pageblock *block = begin();
		bool populated;

		if (block == NULL)
			return WORK_NEVER;
		if (zone.config.thp_from_bytes != SIZE_MAX)
			thp_wanted(block);
		populated = os_populate(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES) == 0;
		end(block, populated);
		if (!populated)
			return now_ns + RETRY_NS;
	}
	return now_ns;
}
