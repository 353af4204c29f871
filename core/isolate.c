/*
 * Isolation: pageblocks from which nothing is handed out.
 *
 * A bit on the block, apart from its type, with the token of its owner.  An isolated
 * block is on no list and in no map of whole blocks, so that no allocation ever looks at
 * it and none has to ask; pages freed to it stay on it.  What remains is what somebody
 * holds or caches: draining the caches once is enough, because a cache looks at the bit
 * under its own lock, which the drain takes after the bit was set (R5).
 *
 * A range is marked BATCH_BLOCKS at a time, each batch looked at and marked in one
 * critical section, lowest first; where one cannot be had, what was marked is undone
 * (R9).  Since nobody waits while holding a part, two overlapping ranges cannot keep each
 * other from both being marked for ever.  Undoing needs no merging: `free` and `order`
 * are kept on isolated blocks as on others (R3).
 *
 * Invariants: core_check().  Not guaranteed: that isolated pages ever become free, and
 * that the decay of an idle block goes on where it was: undo starts it anew.
 */
#include "core/isolate.h"

#include "core/span.h"
#include "core/zone.h"

#include <errno.h>

/* For one critical section: a few microseconds. */
#define BATCH_BLOCKS ((size_t)64)

/* Some blocks in a row. */
struct range {
	struct pageblock *blocks;
	size_t nr_blocks;
};

static inline size_t batch_at(const struct range *range, size_t done)
{
	size_t left = range->nr_blocks - done;

	return left < BATCH_BLOCKS ? left : BATCH_BLOCKS;
}

/* The blocks of a range given by pages; 0 or -errno. */
static int range_find(pfn_t start, size_t nr_pages, struct range *range)
{
	struct pageblock *first;
	struct span *span;

	if (nr_pages == 0 || start % PAGEBLOCK_PAGES != 0 || nr_pages % PAGEBLOCK_PAGES != 0)
		return -EINVAL;
	first = span_block(start);
	if (first == NULL)
		return -ERANGE;
	span = span_of(first);
	*range = (struct range){.blocks = first, .nr_blocks = nr_pages / PAGEBLOCK_PAGES};
	if (range->nr_blocks > span_committed(span) - (size_t)(first - span->blocks))
		return -ERANGE;
	return 0;
}

/* --- owners ------------------------------------------------------------------------------ */

static uint32_t next_owner(void)
{
	static _Atomic uint32_t last;
	uint32_t owner;

	do
		/* Relaxed: only that each gets another number. */
		owner = (atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1) &
			(ISOLATE_CORE - 1);
	while (owner == 0 || (owner | ISOLATE_CORE) == ISOLATE_OFFLINE);
	return owner;
}

uint32_t isolate_owner(void)
{
	return next_owner();
}

uint32_t isolate_owner_core(void)
{
	return next_owner() | ISOLATE_CORE;
}

static inline bool is_core_call(uint32_t owner)
{
	return (owner & ISOLATE_CORE) != 0 && owner != ISOLATE_OFFLINE;
}

/* --- one block --------------------------------------------------------------------------- */

bool isolate_possible_locked(const struct pageblock *block)
{
	return !pageblock_isolated(block) && block->nr_purging == 0;
}

void isolate_mark_locked(struct pageblock *block, uint32_t owner)
{
	ASSERT(isolate_possible_locked(block));
	zone_set_isolated_locked(block, true);
	block->owner = owner;
	zone.isolated_core_blocks += is_core_call(owner);
}

void isolate_unmark_locked(struct pageblock *block)
{
	zone.isolated_core_blocks -= is_core_call(block->owner);
	block->owner = 0;
	zone_set_isolated_locked(block, false);
}

void isolate_rename_locked(struct pageblock *block, uint32_t owner)
{
	ASSERT(pageblock_isolated(block));
	zone.isolated_core_blocks -= is_core_call(block->owner);
	block->owner = owner;
	zone.isolated_core_blocks += is_core_call(owner);
}

bool isolate_is_free_locked(pfn_t pfn, size_t nr_pages)
{
	while (nr_pages > 0) {
		struct pageblock *block = span_block(pfn);
		unsigned from = (unsigned)(pfn - block->pfn);
		size_t left = PAGEBLOCK_PAGES - from;
		unsigned n = (unsigned)(nr_pages < left ? nr_pages : left);

		if (!pageblock_bits_all(block->free, from, n))
			return false;
		pfn += n;
		nr_pages -= n;
	}
	return true;
}

/* --- ranges ------------------------------------------------------------------------------- */

/* Marks n blocks, or none. */
static bool mark_batch(struct pageblock *blocks, size_t n, uint32_t owner)
{
	bool possible = true;

	zone_lock();
	for (size_t i = 0; i < n && possible; i++)
		possible = isolate_possible_locked(&blocks[i]);
	for (size_t i = 0; i < n && possible; i++)
		isolate_mark_locked(&blocks[i], owner);
	zone_unlock();
	return possible;
}

/*
 * Hands a range on from one owner to another, if all of it is the former's, in one critical
 * section: a few ns a block.  While a call of core is at it in batches, the range is
 * core's, so that a fork in the middle leaves nothing isolated in the child.
 */
static bool rename_all(const struct range *range, uint32_t from, uint32_t to)
{
	bool owns = true;

	zone_lock();
	for (size_t i = 0; i < range->nr_blocks && owns; i++)
		owns = pageblock_isolated(&range->blocks[i]) && range->blocks[i].owner == from;
	for (size_t i = 0; i < range->nr_blocks && owns && from != to; i++)
		isolate_rename_locked(&range->blocks[i], to);
	zone_unlock();
	return owns;
}

/* Who it belongs to until all of it is done. */
static uint32_t meanwhile(uint32_t owner)
{
	return is_core_call(owner) ? owner : isolate_owner_core();
}

/* Opens those of the first nr_blocks that are the owner's. */
static void unmark(struct pageblock *blocks, size_t nr_blocks, uint32_t owner)
{
	while (nr_blocks > 0) {
		size_t n = nr_blocks < BATCH_BLOCKS ? nr_blocks : BATCH_BLOCKS;

		zone_lock();
		/* Downwards: a list's newest is taken first, and that shall be the lowest. */
		for (; n > 0; n--) {
			struct pageblock *block = &blocks[--nr_blocks];

			if (pageblock_isolated(block) && block->owner == owner)
				isolate_unmark_locked(block);
		}
		zone_unlock();
	}
}

static void count_result(bool ok)
{
	zone_lock();
	zone.isolate_ok += ok;
	zone.isolate_busy += !ok;
	zone_unlock();
}

/* The range, for an owner that a caller may name; 0 or -errno. */
static int range_find_owned(pfn_t start, size_t nr_pages, uint32_t owner, struct range *range)
{
	int err = range_find(start, nr_pages, range);

	if (err == 0 && (owner == 0 || owner == ISOLATE_OFFLINE))
		err = -EINVAL;
	return err;
}

int isolate_range(pfn_t start, size_t nr_pages, uint32_t owner)
{
	struct range range;
	uint32_t marker = meanwhile(owner);
	bool is_ours;
	size_t n;
	int err = range_find_owned(start, nr_pages, owner, &range);

	if (err != 0)
		return err;
	for (size_t done = 0; done < range.nr_blocks; done += n) {
		n = batch_at(&range, done);
		if (!mark_batch(range.blocks + done, n, marker)) {
			unmark(range.blocks, done, marker);
			count_result(false);
			return -EBUSY;
		}
		PAUSE(ISOLATE_BATCH);
	}
	is_ours = rename_all(&range, marker, owner);
	CHECK(is_ours);
	count_result(true);
	return 0;
}

int isolate_undo(pfn_t start, size_t nr_pages, uint32_t owner)
{
	struct range range;
	uint32_t marker = meanwhile(owner);
	int err = range_find_owned(start, nr_pages, owner, &range);

	if (err != 0)
		return err;
	if (!rename_all(&range, owner, marker))
		return -EPERM;
	PAUSE(ISOLATE_UNDO);
	unmark(range.blocks, range.nr_blocks, marker);
	return 0;
}

bool isolate_any(void)
{
	/* Relaxed: counted before the blocks are marked; see isolate_is_marked(). */
	return atomic_load_explicit(&zone.isolated_blocks, memory_order_relaxed) != 0;
}

bool isolate_is_marked(const void *addr)
{
	return isolate_any() && pageblock_isolated(span_block(pfn_of(addr)));
}

bool isolate_test(pfn_t start, size_t nr_pages)
{
	pfn_t end = start + nr_pages;
	struct pageblock *first = span_block(start);
	struct span *span;
	bool is_free = true;

	if (first == NULL || nr_pages == 0)
		return false;
	span = span_of(first);
	if (nr_pages > span->start + span_committed(span) * PAGEBLOCK_PAGES - start)
		return false;
	while (start < end && is_free) {
		size_t n = end - start < BATCH_BLOCKS * PAGEBLOCK_PAGES
				   ? end - start
				   : BATCH_BLOCKS * PAGEBLOCK_PAGES;

		zone_lock();
		is_free = isolate_is_free_locked(start, n);
		zone_unlock();
		start += n;
	}
	return is_free;
}

/* --- fork --------------------------------------------------------------------------------- */

void isolate_fork_child(void)
{
	unsigned nr = span_count();

	zone_lock();
	for (unsigned i = 0; i < nr && zone.isolated_core_blocks > 0; i++) {
		struct span *span = span_at(i);

		for (size_t k = 0; k < span_committed(span); k++) {
			struct pageblock *block = &span->blocks[k];

			if (is_core_call(block->owner))
				isolate_unmark_locked(block);
		}
	}
	zone_unlock();
}
