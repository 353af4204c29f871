/*
 * Which blocks are backed by huge pages.
 *
 * New blocks ask for them from the start once the heap is large enough and as long as it is
 * filled densely: then what is resident beside what is in use is little.  Before a chunk is
 * told so, that is counted in the newest blocks that have huge pages, and must be at most
 * config.thp_extra_percent of what is handed out; and of the newest blocks that have none,
 * the system must say that seven eighths of what was handed out are used.
 *
 * A block parts of which were given back, by core or by the layer above (thp_hole()), is told
 * to have small pages from then on, since the system would fill the holes again (khugepaged);
 * when it is given back as a whole, it may have huge ones again.
 *
 * Blocks that are from before, or were sparse once, and have become dense, are made huge
 * pages by the background thread (MADV_COLLAPSE): only when no more of them is not resident
 * than the same percentage.  The system is asked for that, because pages in use need not be
 * resident either: slabs have holes, and programs do not touch all they ask for.
 *
 * Not while another process has pages of the block too: a huge page is a copy of all of them,
 * and what a fork child shares with its parent would be twice there.  That is asked once the
 * process has forked; such a block waits for a later pass.
 *
 * Where neighbours differ the system splits its mapping.  zone.thp_edges counts these
 * places, and nothing makes more than EDGES_MAX of them, each at most one more mapping.
 *
 * thp of a block is read and written under the zone lock, and only by whoever grows the span,
 * opens the block, keeps it from becoming wholly free or being taken meanwhile, or is the
 * background thread.  Not guaranteed: that a hole which is made while the background thread
 * collapses the block stays one.
 */
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"

#define EDGES_MAX 900u
/* The newest blocks are looked at before growth. */
#define LOOK_BLOCKS ((size_t)512)
/* Of these, without huge pages: so many. */
#define LOOK_SMALL 32u
/* Between a growth and a pass over all blocks. */
#define PASS_NS ((uint64_t)2000 * 1000 * 1000)
#define SCAN_BLOCKS ((size_t)256)
/* Without a block opened. */
#define QUIET_NS ((uint64_t)100 * 1000 * 1000)
/* How long a refusal by the system is believed. */
#define REFUSED_NS ((uint64_t)1000 * 1000 * 1000)

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

#define IS(thp) (1u << (thp))

/* Tells the system, if the block is one of `from`; when it does not take it, as if nothing had
 * been told. */
static void tell(struct pageblock *block, unsigned from, enum thp thp)
{
	static uint64_t refused_until_ns; /* under the zone lock */
	uint64_t now_ns = os_now_ns();
	uint8_t was;
	bool may;

	zone_lock();
	was = block->thp;
	may = (from & IS(was)) != 0 && was != thp && now_ns >= refused_until_ns &&
	      set_locked(block, thp);
	zone_unlock();
	if (!may || os_hugepage(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, thp == THP_HUGE))
		return;
	/* At vm.max_map_count, or there is no such thing here. */
	zone_lock();
	(void)set_locked(block, (enum thp)was);
	refused_until_ns = now_ns + REFUSED_NS;
	zone_unlock();
}

void thp_wanted(struct pageblock *block)
{
	tell(block, ~0u, THP_HUGE);
}

void thp_given_back(struct pageblock *block, bool whole)
{
	if (!whole)
		tell(block, IS(THP_HUGE), THP_SMALL);
	else if (zone.total_pages * PAGE_BYTES >= zone.config.thp_from_bytes)
		/* Also what is from before the heap was large; but a soft limit that is less than
		 * the heap counts what is used, and not what is resident beside it. */
		tell(block, zone.total_pages <= zone.soft_pages ? ~0u : IS(THP_SMALL), THP_HUGE);
}

/* What was never touched is resident all the same, and shall be given back some time. */
static void break_locked(struct pageblock *block)
{
	unsigned was = block->nr_dirty;

	if (pageblock_all_resident(block)) {
		for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
			block->dirty[i] |= block->free[i];
		block->nr_dirty = (uint16_t)block->nr_free;
		zone.dirty_free_pages += block->nr_dirty - was;
	}
	block->broken = 1;
}

void thp_hole(const void *addr)
{
	struct pageblock *block = span_block(pfn_of(addr));
	bool page_is_ours = block != NULL;

	CHECK(page_is_ours);
	zone_lock();
	break_locked(block);
	zone_unlock();
	tell(block, IS(THP_HUGE), THP_SMALL);
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

		if (pageblock_all_resident(block))
			extra += block->nr_free - block->nr_dirty;
	}
	return extra * 100 <= zone.taken_pages * zone.config.thp_extra_percent;
}

/* Whether what was handed out of the newest blocks with small pages is used. */
static bool is_used_locked(const struct span *span)
{
	size_t nr = span_committed(span);
	size_t end = nr > LOOK_BLOCKS ? nr - LOOK_BLOCKS : 0;
	size_t taken = 0, used = 0, resident;
	unsigned nr_looked = 0;

	for (size_t i = nr; i-- > end && nr_looked < LOOK_SMALL;) {
		const struct pageblock *block = &span->blocks[i];

		if (block->thp == THP_HUGE || pageblock_whole(block))
			continue;
		if (os_resident(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, &resident) != 0)
			return true;
		taken += PAGEBLOCK_PAGES - block->nr_free;
		used += resident / PAGE_BYTES;
		/* Free ones are resident too, but for a few. */
		used -= used < block->nr_dirty ? used : block->nr_dirty;
		nr_looked++;
	}
	return used * 8 >= taken * 7;
}

bool thp_grows_locked(const struct span *span, size_t nr_blocks, bool dense)
{
	if (zone.total_pages * PAGE_BYTES < zone.config.thp_from_bytes)
		return false;
	/* For a run of blocks, or because everything shall be huge. */
	if (nr_blocks > THP_CHUNK_BLOCKS || zone.config.thp_from_bytes == 0)
		return true;
	return dense && zone.thp_edges < EDGES_MAX && extra_is_little_locked(span) &&
	       is_used_locked(span);
}

/* A clean block is begun with small pages, when so many pages are more than
 * thp_extra_percent of what is handed out, until it is dense. */
static void begin_small_locked(struct pageblock *block, uint64_t extra)
{
	if (block->thp != THP_HUGE || block->nr_dirty != 0 || zone.config.thp_from_bytes == 0 ||
	    extra * 100 <= zone.taken_pages * zone.config.thp_extra_percent ||
	    !set_locked(block, THP_SMALL))
		return;
	if (!os_hugepage(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, false))
		(void)set_locked(block, THP_HUGE);
	thp_soon_locked();
}

/* Each kind fills its newest block by itself, which in the mean is half empty. */
void thp_begins_kind_locked(struct pageblock *block)
{
	begin_small_locked(block, (uint64_t)zone_nr_kinds_locked() * PAGEBLOCK_PAGES / 2);
}

/* A program that needs one block in a while may need little of it: a third of the percentage. */
void thp_opens_locked(struct pageblock *block)
{
	static uint64_t last_ns; /* under the zone lock: when the last one was opened */
	uint64_t now_ns, was_ns = last_ns;

	if (block->thp != THP_HUGE)
		return;
	last_ns = now_ns = os_now_ns();
	if (now_ns - was_ns > QUIET_NS)
		begin_small_locked(block, 3 * (uint64_t)PAGEBLOCK_PAGES);
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

/* Much has changed since the last pass. */
void thp_soon_locked(void)
{
	if (zone.total_pages * PAGE_BYTES >= zone.config.thp_from_bytes)
		work_due(&thp_work, os_now_ns() + PASS_NS);
}

void thp_refilled(unsigned nr_pages)
{
	static _Atomic uint32_t nr_refilled;
	/* Relaxed: a lost count makes a pass a little later. */
	uint32_t was = atomic_fetch_add_explicit(&nr_refilled, nr_pages, memory_order_relaxed);

	if (was / PAGEBLOCK_PAGES == (was + nr_pages) / PAGEBLOCK_PAGES)
		return;
	zone_lock();
	thp_soon_locked();
	zone_unlock();
}

void thp_grown_locked(struct span *span, size_t from, size_t to, bool huge)
{
	for (size_t i = from; huge && i < to; i++)
		span->blocks[i].thp = THP_HUGE;
	if (from > 0)
		zone.thp_edges += differ(&span->blocks[from - 1], &span->blocks[from]);
	thp_soon_locked();
}

/* Whether so many pages, not resident now, may be so for a huge page's sake. */
static bool is_little(uint32_t nr_pages)
{
	return nr_pages * 100 <= PAGEBLOCK_PAGES * zone.config.thp_extra_percent;
}

/* As far as is known here. */
static bool is_candidate(const struct pageblock *block)
{
	return (block->thp == THP_NONE || block->thp == THP_SMALL) && block->nr_purging == 0 &&
	       !pageblock_isolated(block) && !pageblock_whole(block) &&
	       is_little(block->nr_free - block->nr_dirty);
}

static bool is_dense(const struct pageblock *block)
{
	size_t resident;

	return os_resident(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, &resident) == 0 &&
	       is_little((uint32_t)(PAGEBLOCK_PAGES - resident / PAGE_BYTES));
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

static _Atomic bool has_forked;

void thp_forked(void)
{
	/* Relaxed: the fork itself comes after it, and a collapse before that copies nothing. */
	atomic_store_explicit(&has_forked, true, memory_order_relaxed);
}

static bool is_shared(struct pageblock *block)
{
	/* Relaxed: see above. */
	return atomic_load_explicit(&has_forked, memory_order_relaxed) &&
	       os_shared(pfn_to_addr(block->pfn));
}

static void collapse(struct pageblock *block)
{
	bool is_huge;

	tell(block, IS(THP_SMALL), THP_HUGE);
	zone_lock();
	if (block->thp == THP_NONE)
		/* No edges: to the system it is as before. */
		(void)set_locked(block, THP_COLLAPSED);
	is_huge = block->thp != THP_SMALL;
	zone_unlock();
	if (!is_huge) {
		/* Perhaps begun anew, before the system was told of huge pages. */
		(void)os_hugepage(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES, false);
		return;
	}
	if (os_collapse(pfn_to_addr(block->pfn), PAGEBLOCK_BYTES) != 0)
		return;
	zone_lock();
	block->broken = 0;
	zone.collapsed_blocks++;
	zone_unlock();
}

static COLD uint64_t thp_run(uint64_t now_ns)
{
	struct pageblock *block;

	if (zone.config.thp_from_bytes == SIZE_MAX)
		return WORK_NEVER;
	block = next_candidate();
	if (block == NULL) {
		pass.span = 0;
		return WORK_NEVER;
	}
	if (is_dense(block) && !is_shared(block))
		collapse(block);
	return now_ns;
}
