/*
 * Which blocks are backed by huge pages.
 *
 * New blocks ask for them from the start once the heap is large enough and as long as it is
 * filled densely: then what is resident beside what is in use is little.  Before a chunk is
 * told so, that is counted in the newest blocks that have huge pages, and must be at most
 * config.thp_extra_percent of what is handed out.
 *
 * A block parts of which were given back is told to have small pages from then on, since
 * the system would fill the holes again (khugepaged); when it is given back as a whole, it may
 * have huge ones again.
 *
 * Blocks that are from before, or were sparse once, and have become dense, are made huge
 * pages by the background thread (MADV_COLLAPSE): only when no more of them is free and
 * not resident than the same percentage.
 *
 * Where neighbours differ the system splits its mapping.  zone.thp_edges counts these
 * places, and nothing makes more than EDGES_MAX of them, each at most one more mapping.
 *
 * thp of a block is written under the zone lock, and only by whoever grows the span, has
 * the block's free pages off its lists, or is the background thread.
 */
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"

#define EDGES_MAX 900u
/* The newest blocks are looked at before growth. */
#define LOOK_BLOCKS ((size_t)512)
/* Between a growth and a pass over all blocks. */
#define PASS_NS ((uint64_t)2000 * 1000 * 1000)
#define SCAN_BLOCKS ((size_t)256)

/* --- mappings -------------------------------------------------------------------------- */

static bool differ(const struct pageblock *a, const struct pageblock *b)
{
	unsigned x = a->thp == THP_COLLAPSED ? THP_NONE : a->thp;
	unsigned y = b->thp == THP_COLLAPSED ? THP_NONE : b->thp;

	return x != y;
}

/* Edges to the block's neighbours. */
static unsigned edges_of(const struct pageblock *block)
{
	const struct span *span = span_of(block);
	size_t number = (size_t)(block - span->blocks);
	unsigned nr = 0;

	if (number > 0)
		nr += differ(block, block - 1);
	if (number + 1 < span_committed(span))
		nr += differ(block, block + 1);
	return nr;
}

/* False: it would be too many mappings, and nothing has changed. */
static bool set_locked(struct pageblock *block, enum thp thp)
{
	uint8_t was = block->thp;
	unsigned before = edges_of(block), after;

	block->thp = (uint8_t)thp;
	after = edges_of(block);
	if (after > before && zone.thp_edges + after - before > EDGES_MAX) {
		block->thp = was;
		return false;
	}
	zone.thp_edges += after;
	zone.thp_edges -= before;
	return true;
}

/* Tells the system; when it does not take it, as if nothing had been told. */
static void tell(struct pageblock *block, enum thp thp)
{
	uint8_t was = block->thp;
	bool may;

	if (was == thp)
		return;
	zone_lock();
	may = set_locked(block, thp);
	zone_unlock();
	if (!may || os_hugepage(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, thp == THP_HUGE))
		return;
	/* At vm.max_map_count, or there is no such thing here. */
	zone_lock();
	(void)set_locked(block, (enum thp)was);
	zone_unlock();
}

void thp_wanted(struct pageblock *block)
{
	tell(block, THP_HUGE);
}

void thp_given_back(struct pageblock *block, bool whole)
{
	if (whole && block->thp == THP_SMALL &&
	    zone.total_pages * PAGE_BYTES >= zone.config.thp_from_bytes)
		tell(block, THP_HUGE);
	else if (!whole && block->thp == THP_HUGE)
		tell(block, THP_SMALL);
}

/* --- growth ---------------------------------------------------------------------------- */

/* Whether what huge pages keep resident for nothing is within its bound. */
static bool extra_is_little_locked(const struct span *span)
{
	size_t nr = span_committed(span);
	size_t from = nr > LOOK_BLOCKS ? nr - LOOK_BLOCKS : 0;
	uint64_t extra = 0;

	for (size_t i = from; i < nr; i++) {
		const struct pageblock *block = &span->blocks[i];

		if (block->thp == THP_HUGE && !pageblock_whole(block))
			extra += block->nr_free - block->nr_dirty;
	}
	return extra * 100 <= zone.taken_pages * zone.config.thp_extra_percent;
}

bool thp_grows_locked(const struct span *span, size_t nr_blocks, bool dense)
{
	if (zone.total_pages * PAGE_BYTES < zone.config.thp_from_bytes)
		return false;
	/* For a run of blocks, or because everything shall be huge. */
	if (nr_blocks > THP_CHUNK_BLOCKS || zone.config.thp_from_bytes == 0)
		return true;
	return dense && zone.thp_edges < EDGES_MAX && extra_is_little_locked(span);
}

/* --- what has become dense ---------------------------------------------------------------- */

static uint64_t thp_run(uint64_t now_ns);

static struct work thp_work = {.run = thp_run, .background = true};
/* Where the pass is; touched by thp_run() alone, of which there is one at a time. */
static struct {
	unsigned span;
	size_t block;
} pass;

void thp_init(void)
{
	work_add(&thp_work);
}

void thp_grown_locked(struct span *span, size_t from, size_t to, bool huge)
{
	for (size_t i = from; huge && i < to; i++)
		span->blocks[i].thp = THP_HUGE;
	if (from > 0)
		zone.thp_edges += differ(&span->blocks[from - 1], &span->blocks[from]);
	if (zone.total_pages * PAGE_BYTES >= zone.config.thp_from_bytes)
		work_due(&thp_work, os_now_ns() + PASS_NS);
}

static bool is_candidate(const struct pageblock *block)
{
	/* Free and not resident: that much more will be. */
	uint32_t extra = block->nr_free - block->nr_dirty;

	return (block->thp == THP_NONE || block->thp == THP_SMALL) && block->nr_purging == 0 &&
	       !pageblock_isolated(block) && !pageblock_whole(block) &&
	       extra * 100 <= PAGEBLOCK_PAGES * zone.config.thp_extra_percent;
}

static struct pageblock *next_candidate(void)
{
	struct pageblock *found = NULL;

	while (pass.span < span_count() && found == NULL) {
		struct span *span = span_at(pass.span);
		size_t nr = span_committed(span);
		size_t end = nr - pass.block > SCAN_BLOCKS ? pass.block + SCAN_BLOCKS : nr;

		zone_lock();
		for (; pass.block < end && found == NULL; pass.block++)
			if (is_candidate(&span->blocks[pass.block]))
				found = &span->blocks[pass.block];
		zone_unlock();
		if (pass.block == nr) {
			pass.span++;
			pass.block = 0;
		}
	}
	return found;
}

static COLD uint64_t thp_run(uint64_t now_ns)
{
	struct pageblock *block;
	bool told;

	if (zone.config.thp_from_bytes == SIZE_MAX)
		return WORK_NEVER;
	block = next_candidate();
	if (block == NULL) {
		pass.span = 0;
		return WORK_NEVER;
	}
	if (block->thp == THP_SMALL)
		tell(block, THP_HUGE);
	if (block->thp == THP_NONE) {
		zone_lock();
		told = set_locked(block, THP_COLLAPSED);
		zone_unlock();
		ASSERT(told);
	}
	if (block->thp != THP_SMALL &&
	    os_collapse(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES) == 0) {
		zone_lock();
		zone.collapsed_blocks++;
		zone_unlock();
	}
	return now_ns;
}
