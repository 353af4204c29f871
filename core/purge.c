/*
 * Giving memory back to the system (R11).
 *
 * Under the zone lock a block's free pages move from `free` to `purging`, where nobody
 * can have them; the lock is dropped; madvise; under the lock they come back, clean.
 * What is allocated or freed in the block meanwhile goes its normal way.  Where they come
 * back to is decided then, by the block's type and isolation of that moment (R4).
 *
 * A block that becomes wholly free is stamped; the ones idle longest are at the ends of
 * the lists of idle blocks, and go when their decay has passed or too much waits.
 * Neighbours share one madvise.  A clean block is on another
 * list, so an idle block costs one madvise however long it is idle.
 *
 * Not guaranteed: that purge_all() sees pages freed while it runs, or what pcplists hold.
 */
#include "core/index.h"
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"

/* Blocks for one slice: bounds how long it takes. */
#define BATCH_BLOCKS PURGE_BATCH_BLOCKS
/* Free dirty memory that may wait for its decay: this much and half of what is allocated. */
#define WAITING_PAGES ((uint64_t)16384)

static uint64_t due_ns(const struct pageblock *block)
{
	uint64_t decay = zone.config.decay_ns;

	return decay > UINT64_MAX - block->idle_since_ns ? UINT64_MAX
							 : block->idle_since_ns + decay;
}

/* The last madvise failed: tried again when a decay has passed. Under the zone lock. */
static bool refused;

/* More waited than may: the background thread is bringing it down. */
static bool above_mark;

/*
 * Whether so much waits that the oldest goes at once: a peak's memory is not kept whole.
 * As kswapd does, the background thread goes on until there is some room again, so that it is
 * not woken for each block.
 */
static bool too_much_waits(void)
{
	uint64_t most = WAITING_PAGES + zone.taken_pages / 2;

	if (above_mark && work_has_background())
		most -= most / 8;
	above_mark = !refused && zone.dirty_free_pages > most;
	return above_mark;
}

static uint64_t purge_run(uint64_t now_ns);

static struct work purge_work = {.run = purge_run};

void purge_init(void)
{
	work_add(&purge_work);
}

void purge_soon(void)
{
	work_due(&purge_work, 0);
}

void zone_idle_locked(struct pageblock *block)
{
	if (block->nr_dirty == 0 || pageblock_isolated(block))
		return;
	block->idle_since_ns = os_now_ns();
	work_due(&purge_work, too_much_waits() ? block->idle_since_ns : due_ns(block));
}

/* --- one batch ------------------------------------------------------------------------------- */

/* Blocks on their way, lowest first. */
struct batch {
	unsigned nr;
	struct pageblock *blocks[BATCH_BLOCKS];
};

static void begin_locked(struct batch *batch, struct pageblock *block)
{
	unsigned i = batch->nr++;

	zone_count_free_locked(block, -(uint64_t)block->nr_free);
	zone.purging_pages += block->nr_free;
	zone.dirty_free_pages -= block->nr_dirty;
	pageblock_purge_begin(block);
	index_update(block);
	for (; i > 0 && batch->blocks[i - 1]->pfn > block->pfn; i--)
		batch->blocks[i] = batch->blocks[i - 1];
	batch->blocks[i] = block;
}

/* Puts a block's pages back; done: which were given back, NULL: none. */
static void end_locked(struct pageblock *block, const uint64_t *done)
{
	uint32_t nr_purging = block->nr_purging;
	uint32_t nr_purged = 0;
	uint32_t nr_dirty = block->nr_dirty;

	for (unsigned i = 0; done != NULL && i < PAGEBLOCK_WORDS; i++)
		nr_purged += word_count(block->purging[i] & block->dirty[i] & done[i]);
	pageblock_purge_end(block, done);
	zone.purging_pages -= nr_purging;
	zone_count_free_locked(block, nr_purging);
	zone.dirty_free_pages += block->nr_dirty - nr_dirty;
	zone.purged_pages += nr_purged;
	if (pageblock_whole(block))
		zone_idle_locked(block);
	index_update(block);
}

/* Gives wholly free blocks back, with the lock dropped; the bytes that were dirty. */
static size_t purge_whole(struct batch *batch)
{
	static const uint64_t all[PAGEBLOCK_WORDS] = {
		UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
		UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
	};
	bool done[BATCH_BLOCKS] = {false};
	unsigned nr_calls = 0;
	bool all_ok = true;
	uint64_t before;
	size_t nr_bytes;

	PAUSE(PURGE_UNLOCKED);
	for (unsigned i = 0; i < batch->nr;) {
		pfn_t first = batch->blocks[i]->pfn;
		unsigned n = 1;
		bool ok;

		while (i + n < batch->nr && batch->blocks[i + n]->span == batch->blocks[i]->span &&
		       batch->blocks[i + n]->pfn == first + n * PAGEBLOCK_PAGES)
			n++;
		ok = os_purge(pfn_to_addr(first), n * PAGEBLOCK_BYTES) == 0;
		nr_calls++;
		for (unsigned k = 0; k < n; k++)
			done[i++] = ok;
		all_ok &= ok;
	}
	PAUSE(PURGE_ADVISED);
	zone_lock();
	refused = !all_ok;
	before = zone.purged_pages;
	zone.purge_calls += nr_calls;
	for (unsigned i = 0; i < batch->nr; i++)
		end_locked(batch->blocks[i], done[i] ? all : NULL);
	nr_bytes = (size_t)(zone.purged_pages - before) * PAGE_BYTES;
	zone_unlock();
	return nr_bytes;
}

static bool any_purging(struct pageblock **blocks, unsigned nr)
{
	bool any = false;

	zone_lock();
	for (unsigned i = 0; i < nr; i++)
		any |= blocks[i]->nr_purging != 0;
	zone_unlock();
	return any;
}

void purge_isolated(struct pageblock **blocks, unsigned nr)
{
	struct batch batch = {.nr = 0};

	zone_lock();
	for (unsigned i = 0; i < nr; i++)
		if (pageblock_whole(blocks[i]) && blocks[i]->nr_dirty > 0)
			begin_locked(&batch, blocks[i]);
	zone_unlock();
	if (batch.nr > 0)
		(void)purge_whole(&batch);
	while (any_purging(blocks, nr))
		os_yield();
}

/* --- what is due -------------------------------------------------------------------------------- */

/* The block of any type that is idle longest; NULL: none. */
static struct pageblock *oldest_idle(void)
{
	struct pageblock *oldest = NULL;

	for (unsigned mt = 0; mt < NR_MIGRATETYPES; mt++) {
		struct pageblock *block = index_oldest_idle((enum migratetype)mt);

		if (block != NULL &&
		    (oldest == NULL || block->idle_since_ns < oldest->idle_since_ns))
			oldest = block;
	}
	return oldest;
}

/* A slice of what is due; when the next is. */
static COLD uint64_t purge_run(uint64_t now_ns)
{
	struct batch batch = {.nr = 0};
	struct pageblock *oldest;
	uint64_t due = WORK_NEVER;

	zone_lock();
	while ((oldest = oldest_idle()) != NULL) {
		due = due_ns(oldest);
		if (due > now_ns && too_much_waits())
			due = now_ns;
		if (due > now_ns || batch.nr == BATCH_BLOCKS)
			break;
		begin_locked(&batch, oldest);
		due = WORK_NEVER;
	}
	zone_unlock();
	if (batch.nr > 0)
		(void)purge_whole(&batch);
	return due;
}

/* --- everything ------------------------------------------------------------------------------------ */

/* Purges the wholly free dirty blocks of a span; the bytes given back. */
static size_t purge_span_whole(struct span *span)
{
	size_t nr = span_committed(span);
	size_t nr_bytes = 0;

	for (size_t i = 0; i < nr;) {
		struct batch batch = {.nr = 0};

		zone_lock();
		for (; i < nr && batch.nr < BATCH_BLOCKS; i++)
			if (pageblock_whole(&span->blocks[i]) && span->blocks[i].nr_dirty > 0)
				begin_locked(&batch, &span->blocks[i]);
		zone_unlock();
		if (batch.nr > 0)
			nr_bytes += purge_whole(&batch);
	}
	return nr_bytes;
}

/* What purge_partial() works on while the lock is dropped: a copy, as the block goes on. */
struct partial {
	pfn_t pfn;
	uint64_t runs[PAGEBLOCK_WORDS];  /* taken off free */
	uint64_t dirty[PAGEBLOCK_WORDS]; /* those of them that are dirty */
	uint64_t done[PAGEBLOCK_WORDS];  /* those that were given back */
};

/* Purges the runs that have a dirty page, wholly for the sake of fewer calls. */
static unsigned purge_runs(struct partial *partial)
{
	const uint64_t *runs = partial->runs;
	unsigned from = pageblock_bits_next(runs, 0, true);
	unsigned nr_calls = 0;
	unsigned os_pages = (unsigned)(os_page_bytes() / PAGE_BYTES);

	while (from != PAGE_NONE) {
		unsigned end = pageblock_bits_next(runs, from, false);
		/* What os_purge() leaves out where the system's pages are larger. */
		unsigned first = (unsigned)round_up(from, os_pages);
		unsigned last = (unsigned)round_down(end, os_pages);

		if (first < last && !pageblock_bits_none(partial->dirty, first, last - first)) {
			nr_calls++;
			if (os_purge(pfn_to_addr(partial->pfn + first),
				     (last - first) * PAGE_BYTES) == 0)
				pageblock_bits_set(partial->done, first, last - first);
		}
		from = pageblock_bits_next(runs, end, true);
	}
	return nr_calls;
}

static size_t purge_partial(struct pageblock *block)
{
	struct partial partial = {.pfn = block->pfn};
	struct batch batch = {.nr = 0};
	unsigned nr_calls;
	uint64_t before;
	size_t nr_bytes;

	zone_lock();
	/* nr_purging: somebody else is at it. */
	if (block->nr_dirty > 0 && block->nr_purging == 0) {
		begin_locked(&batch, block);
		for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
			partial.runs[i] = block->purging[i];
			partial.dirty[i] = block->purging[i] & block->dirty[i];
		}
	}
	zone_unlock();
	if (batch.nr == 0)
		return 0;
	PAUSE(PURGE_UNLOCKED);
	nr_calls = purge_runs(&partial);
	PAUSE(PURGE_ADVISED);
	zone_lock();
	before = zone.purged_pages;
	zone.purge_calls += nr_calls;
	end_locked(block, partial.done);
	nr_bytes = (size_t)(zone.purged_pages - before) * PAGE_BYTES;
	zone_unlock();
	return nr_bytes;
}

/* Somebody who was in the middle of it is not there any more: his pages are free again. */
void purge_fork_child(void)
{
	unsigned nr = zone.purging_pages > 0 ? span_count() : 0;

	zone_lock();
	for (unsigned i = 0; i < nr; i++) {
		struct span *span = span_at(i);

		for (size_t k = 0; k < span_committed(span); k++)
			if (span->blocks[k].nr_purging > 0)
				end_locked(&span->blocks[k], NULL);
	}
	zone_unlock();
}

size_t purge_all(void)
{
	unsigned nr = span_count();
	size_t nr_bytes = 0;

	for (unsigned i = 0; i < nr; i++)
		nr_bytes += purge_span_whole(span_at(i));
	for (unsigned i = 0; i < nr; i++) {
		struct span *span = span_at(i);
		size_t nr_blocks = span_committed(span);

		for (size_t k = 0; k < nr_blocks; k++)
			nr_bytes += purge_partial(&span->blocks[k]);
	}
	return nr_bytes;
}
