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
 * Neighbours share one part, and several parts one call where the kernel takes vectors.  A
 * clean block is on another list, so an idle block costs one madvise however long it is
 * idle.  Given back lazily (MADV_FREE) its pages count as clean, but not as zero.
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
/* Without a background thread, of what is idle for a part of the decay: this much and a 32nd. */
#define WAITING_EARLY_PAGES ((uint64_t)4096)
/* Two hundred times what it takes to give back and have again a page, about, as a part of a huge
 * one. */
#define EARLY_MISS_NS ((uint64_t)160 * 1000)

static uint64_t due_ns(const struct pageblock *block)
{
	/* In a fork child: what it has of its parent is copied when that writes to it. */
	uint64_t decay = zone.inherited_blocks > 0 ? 0 : zone.config.decay_ns;

	return decay > UINT64_MAX - block->idle_since_ns ? UINT64_MAX
							 : block->idle_since_ns + decay;
}

/* Blocks looked at in one critical section. */
#define SCAN_BLOCKS ((size_t)256)
#define REFUSED_NS ((uint64_t)100 * 1000 * 1000)
#define REFUSED_DOUBLINGS 8u

/* Refusals by the system in a row, and when it is asked again.  Under the zone lock. */
static unsigned nr_refused;
static uint64_t retry_ns;

/* More waited than may: it is being brought down. */
static bool above_mark, above_early_mark;

/*
 * Without a background thread nobody may come by when a decay is over.  So of what has been
 * idle for a part of it less may wait: a 20th, or a quarter.  What went early for that and is
 * wanted again before its decay would have been over was needed: with each such block it is
 * longer until something goes so early again, so that this costs at most half a percent of
 * the time.  Under the zone lock.
 */
static struct early {
	unsigned part;       /* of the decay */
	uint64_t gone_ns;    /* when something went early last */
	uint64_t gone_pages; /* till then, a decay or less apart, and not wanted again */
	uint64_t patient_until_ns;
} early[] = {{.part = 20}, {.part = 4}};
#define NR_EARLY (sizeof(early) / sizeof(early[0]))

/* As kswapd does, it goes on until there is room for a part again, so that it is not done for
 * each block. */
static bool is_above(bool *above, uint64_t most, uint64_t part)
{
	most += zone.ready_blocks * PAGEBLOCK_PAGES;
	if (*above)
		most -= most / part;
	*above = nr_refused == 0 && zone.dirty_free_pages > most;
	return *above;
}

/* Whether so much waits that the oldest goes at once: a peak's memory is not kept whole. */
static bool too_much_waits(void)
{
	return is_above(&above_mark, WAITING_PAGES + zone.taken_pages / 2,
			work_has_background() ? 8 : UINT64_MAX) ||
	       (nr_refused == 0 && limit_is_soft_hit_locked());
}

/* How early blocks go, as things are now; NULL: not early. */
static struct early *early_now(uint64_t now_ns)
{
	if (work_has_background() ||
	    !is_above(&above_early_mark, WAITING_EARLY_PAGES + zone.taken_pages / 32, 2))
		return NULL;
	for (unsigned i = 0; i < NR_EARLY; i++)
		if (now_ns >= early[i].patient_until_ns)
			return &early[i];
	return NULL;
}

/* When the block goes, as things are now. */
static uint64_t goes_ns(const struct pageblock *block, uint64_t now_ns)
{
	uint64_t due = due_ns(block);
	const struct early *now;

	if (due > now_ns && too_much_waits())
		return now_ns;
	now = early_now(now_ns);
	return now != NULL ? block->idle_since_ns + (due - block->idle_since_ns) / now->part : due;
}

/* The block goes. */
static void count_early(const struct pageblock *block, uint64_t now_ns)
{
	struct early *now = due_ns(block) > now_ns ? early_now(now_ns) : NULL;

	if (now == NULL)
		return;
	if (now_ns - now->gone_ns >= zone.config.decay_ns)
		now->gone_pages = 0;
	now->gone_pages += block->nr_dirty;
	now->gone_ns = now_ns;
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
	if (block->kind != 0)
		zone.kind_blocks[block->kind]--;
	block->kind = 0;
	block->broken = 0;
	if (block->nr_dirty == 0 || pageblock_isolated(block))
		return;
	block->idle_since_ns = os_now_ns();
	if (unlikely(zone.inherited_blocks > 0))
		zone.inherited_blocks--;
	work_due(&purge_work, goes_ns(block, block->idle_since_ns));
}

static void miss(struct early *gone, uint64_t now_ns)
{
	uint64_t nr_pages = gone->gone_pages < PAGEBLOCK_PAGES ? gone->gone_pages : PAGEBLOCK_PAGES;

	gone->gone_pages -= nr_pages;
	if (now_ns - gone->gone_ns >= zone.config.decay_ns) {
		gone->gone_pages = 0;
		return;
	}
	if (gone->patient_until_ns < now_ns)
		gone->patient_until_ns = now_ns;
	gone->patient_until_ns += nr_pages * EARLY_MISS_NS;
}

void purge_missed_locked(void)
{
	for (unsigned i = 0; i < NR_EARLY; i++)
		if (early[i].gone_pages > 0)
			miss(&early[i], os_now_ns());
}

/* --- a batch --------------------------------------------------------------------------------- */

/* A block on its way, and what of it: a copy, because the block goes on. */
struct going {
	struct pageblock *block;
	uint64_t runs[PAGEBLOCK_WORDS];  /* taken off free */
	uint64_t dirty[PAGEBLOCK_WORDS]; /* those of them that are dirty */
	uint64_t done[PAGEBLOCK_WORDS];  /* those that were given back */
};

/* Blocks on their way, lowest first. */
struct batch {
	unsigned nr;
	unsigned nr_calls;
	bool lazily; /* only with wholly free blocks */
	int err;
	struct going going[BATCH_BLOCKS];
};

/* What is given back by one call. */
#define PARTS_MAX 16u
struct parts {
	unsigned nr;
	struct os_range ranges[PARTS_MAX];
};

static void begin_locked(struct batch *batch, struct pageblock *block)
{
	unsigned i = batch->nr++;
	bool all;

	for (; i > 0 && batch->going[i - 1].block->pfn > block->pfn; i--)
		batch->going[i] = batch->going[i - 1];
	batch->going[i] = (struct going){.block = block};
	zone_count_free_locked(block, -(uint64_t)block->nr_free);
	zone.purging_pages += block->nr_free;
	zone.dirty_free_pages -= block->nr_dirty;
	all = pageblock_all_resident(block);
	pageblock_purge_begin(block);
	for (unsigned k = 0; k < PAGEBLOCK_WORDS; k++) {
		batch->going[i].runs[k] = block->purging[k];
		batch->going[i].dirty[k] = block->purging[k] & (all ? ~(uint64_t)0 : block->dirty[k]);
	}
	index_update(block);
}

/* Puts a block's pages back. */
static void end_locked(struct pageblock *block, const uint64_t *done, bool lazily)
{
	uint32_t nr_purging = block->nr_purging;
	uint32_t nr_purged = 0;
	uint32_t nr_dirty = block->nr_dirty;

	for (unsigned i = 0; done != NULL && i < PAGEBLOCK_WORDS; i++)
		nr_purged += word_count(block->purging[i] & block->dirty[i] & done[i]);
	if (lazily && nr_purged > 0)
		block->apart |= APART_LAZY;
	else if (nr_purging == PAGEBLOCK_PAGES && done != NULL && done[0] != 0)
		block->apart &= (uint8_t)~APART_LAZY;
	pageblock_purge_end(block, done);
	block->broken |= nr_purged > 0;
	zone.purging_pages -= nr_purging;
	zone_count_free_locked(block, nr_purging);
	zone.dirty_free_pages += block->nr_dirty - nr_dirty;
	zone.purged_pages += nr_purged;
	if (pageblock_whole(block))
		zone_idle_locked(block);
	index_update(block);
}

static void mark_done(struct batch *batch, pfn_t from, pfn_t end)
{
	for (unsigned i = 0; i < batch->nr; i++) {
		pfn_t start = batch->going[i].block->pfn;
		pfn_t first = from > start ? from : start;
		pfn_t last = end < start + PAGEBLOCK_PAGES ? end : start + PAGEBLOCK_PAGES;

		if (first < last)
			pageblock_bits_set(batch->going[i].done, (unsigned)(first - start),
					   (unsigned)(last - first));
	}
}

static void flush_parts(struct batch *batch, struct parts *parts)
{
	pfn_t from[PARTS_MAX], end[PARTS_MAX];

	for (unsigned i = 0; i < parts->nr; i++) {
		from[i] = pfn_of(parts->ranges[i].addr);
		end[i] = from[i] + parts->ranges[i].bytes / PAGE_BYTES;
	}
	batch->nr_calls += os_purge_ranges(parts->ranges, parts->nr, batch->lazily);
	for (unsigned i = 0; i < parts->nr; i++) {
		if (parts->ranges[i].err == 0)
			mark_done(batch, from[i], end[i]);
		else
			batch->err = parts->ranges[i].err;
	}
	parts->nr = 0;
}

/* Neighbours become one part. */
static void add_part(struct batch *batch, struct parts *parts, pfn_t pfn, size_t nr_pages)
{
	struct os_range *last = &parts->ranges[parts->nr - 1];

	if (parts->nr > 0 && pfn_of(last->addr) + last->bytes / PAGE_BYTES == pfn) {
		last->bytes += nr_pages * PAGE_BYTES;
		return;
	}
	if (parts->nr == PARTS_MAX)
		flush_parts(batch, parts);
	parts->ranges[parts->nr++] = (struct os_range){
		.addr = pfn_to_addr(pfn),
		.bytes = nr_pages * PAGE_BYTES,
	};
}

/* The runs that have a dirty page, wholly for the sake of fewer calls. */
static void add_block(struct batch *batch, struct parts *parts, const struct going *going)
{
	const uint64_t *runs = going->runs;
	unsigned from = pageblock_bits_next(runs, 0, true);
	unsigned os_pages = (unsigned)(os_page_bytes() / PAGE_BYTES);

	while (from != PAGE_NONE) {
		unsigned end = pageblock_bits_next(runs, from, false);
		/* What the system leaves out where its pages are larger. */
		unsigned first = (unsigned)round_up(from, os_pages);
		unsigned last = (unsigned)round_down(end, os_pages);
		bool whole = last - first == PAGEBLOCK_PAGES;

		/* A whole clean block is here because it was given back lazily. */
		if (first < last &&
		    (whole || !pageblock_bits_none(going->dirty, first, last - first)))
			add_part(batch, parts, going->block->pfn + first, last - first);
		from = pageblock_bits_next(runs, end, true);
	}
}

/* The system has refused: said once, and tried again after longer and longer. */
static void refuse_locked(int err)
{
	static bool said;
	uint64_t wait_ns = zone.config.decay_ns > REFUSED_NS ? zone.config.decay_ns : REFUSED_NS;
	uint64_t now_ns = os_now_ns();

	if (!said)
		util_say("the system does not take memory back, which stays resident: error",
			 (uint64_t)-err);
	said = true;
	/* As often as somebody asks for it meanwhile. */
	if (nr_refused > 0 && now_ns < retry_ns)
		return;
	retry_ns = now_ns + (wait_ns << nr_refused);
	if (nr_refused < REFUSED_DOUBLINGS)
		nr_refused++;
}

static bool is_wholly_done(const struct going *going)
{
	uint64_t all = ~(uint64_t)0;

	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		all &= going->done[i];
	return all == ~(uint64_t)0;
}

/*
 * The metadata of wholly free blocks that were given back: nobody reads or writes it until
 * their pages can be had again.
 */
static void drop_client_parts(struct batch *batch)
{
	struct os_range ranges[BATCH_BLOCKS];
	unsigned nr = 0;

	if (zone.config.client_droppable_bytes == 0)
		return;
	for (unsigned i = 0; i < batch->nr; i++) {
		const struct going *going = &batch->going[i];

		if (is_wholly_done(going))
			ranges[nr++] = (struct os_range){
				.addr = zone_client(pfn_to_addr(going->block->pfn)),
				.bytes = zone.config.client_droppable_bytes,
			};
	}
	/* Advice: what is refused stays resident. */
	if (nr > 0)
		batch->nr_calls += os_purge_ranges(ranges, nr, false);
}

/* Gives what the batch has back, with the lock dropped; the bytes that were dirty. */
static size_t give(struct batch *batch)
{
	struct parts parts = {.nr = 0};
	uint64_t before;
	size_t nr_bytes;

	PAUSE(PURGE_UNLOCKED);
	for (unsigned i = 0; i < batch->nr; i++)
		add_block(batch, &parts, &batch->going[i]);
	if (parts.nr > 0)
		flush_parts(batch, &parts);
	drop_client_parts(batch);
	for (unsigned i = 0; i < batch->nr && batch->err == 0; i++)
		thp_given_back(batch->going[i].block,
			       pageblock_bits_all(batch->going[i].done, 0, PAGEBLOCK_PAGES));
	PAUSE(PURGE_ADVISED);
	zone_lock();
	before = zone.purged_pages;
	zone.purge_calls += batch->nr_calls;
	if (batch->err != 0)
		refuse_locked(batch->err);
	else
		nr_refused = 0;
	for (unsigned i = 0; i < batch->nr; i++)
		end_locked(batch->going[i].block, batch->going[i].done, batch->lazily);
	nr_bytes = (size_t)(zone.purged_pages - before) * PAGE_BYTES;
	zone_unlock();
	return nr_bytes;
}

size_t purge_blocks(struct pageblock **blocks, unsigned nr)
{
	struct batch batch = {.nr = 0};

	ASSERT(nr <= BATCH_BLOCKS);
	zone_lock();
	for (unsigned i = 0; i < nr; i++)
		/* nr_purging: somebody else is at it. */
		if (blocks[i]->nr_purging == 0 &&
		    (blocks[i]->nr_dirty > 0 || pageblock_all_resident(blocks[i])))
			begin_locked(&batch, blocks[i]);
	zone_unlock();
	return batch.nr > 0 ? give(&batch) : 0;
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
	(void)purge_blocks(blocks, nr);
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

/* A batch of what is due; when the next is. */
static uint64_t purge_due(uint64_t now_ns)
{
	struct batch batch = {.lazily = zone.config.purge_lazily};
	struct pageblock *oldest;
	uint64_t due = WORK_NEVER;

	zone_lock();
	if (nr_refused > 0 && now_ns < retry_ns) {
		due = oldest_idle() != NULL ? retry_ns : WORK_NEVER;
		zone_unlock();
		return due;
	}
	while ((oldest = oldest_idle()) != NULL) {
		due = goes_ns(oldest, now_ns);
		if (due > now_ns || batch.nr == BATCH_BLOCKS)
			break;
		count_early(oldest, now_ns);
		begin_locked(&batch, oldest);
		due = WORK_NEVER;
	}
	zone_unlock();
	if (batch.nr > 0)
		(void)give(&batch);
	return due;
}

/*
 * A slice.  Without a background thread nobody may come by again: what is too much goes at
 * once, however much it is.  Whoever comes by with it is mostly who has just freed it.
 */
static COLD uint64_t purge_run(uint64_t now_ns)
{
	uint64_t due;
	bool much;

	do {
		due = purge_due(now_ns);
		zone_lock();
		much = due <= now_ns && !work_has_background() &&
		       (too_much_waits() || early_now(now_ns) != NULL);
		zone_unlock();
	} while (much);
	return due;
}

/* --- everything ------------------------------------------------------------------------------------ */

/* What of a span's blocks purge_all() takes in one pass. */
typedef bool takes_fn(const struct pageblock *block);

static bool takes_whole(const struct pageblock *block)
{
	return pageblock_whole(block) && (block->apart & APART_READY) == 0 &&
	       (block->nr_dirty > 0 || (block->apart & APART_LAZY) != 0);
}

static bool takes_partial(const struct pageblock *block)
{
	return block->nr_dirty > 0 && block->nr_purging == 0 && !pageblock_whole(block);
}

/* The bytes given back of those blocks of a span. */
static size_t purge_span(struct span *span, takes_fn *takes)
{
	size_t nr = span_committed(span);
	size_t nr_bytes = 0;

	for (size_t i = 0; i < nr;) {
		struct batch batch = {.nr = 0};
		size_t end = nr - i > SCAN_BLOCKS ? i + SCAN_BLOCKS : nr;

		zone_lock();
		for (; i < end && batch.nr < BATCH_BLOCKS; i++)
			if (takes(&span->blocks[i]))
				begin_locked(&batch, &span->blocks[i]);
		zone_unlock();
		if (batch.nr > 0)
			nr_bytes += give(&batch);
	}
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
				end_locked(&span->blocks[k], NULL, false);
	}
	zone_unlock();
}

size_t purge_whole(void)
{
	unsigned nr = span_count();
	size_t nr_bytes = 0;

	for (unsigned i = 0; i < nr; i++)
		nr_bytes += purge_span(span_at(i), takes_whole);
	return nr_bytes;
}

size_t purge_all(void)
{
	unsigned nr = span_count();
	size_t nr_bytes = purge_whole();

	for (unsigned i = 0; i < nr; i++)
		nr_bytes += purge_span(span_at(i), takes_partial);
	return nr_bytes;
}
