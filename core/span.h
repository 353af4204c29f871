/*
 * Spans: contiguous reservations of address space, and the pageblocks in them.
 */
#ifndef PB_CORE_SPAN_H
#define PB_CORE_SPAN_H

#include "core/pageblock.h"

/*
 *    start                committed end                  end
 *      |  pageblocks in use     |  reserved, no access     | guard | client | blocks | whole
 *
 * What is set before the span is published never changes again; the rest is under the
 * zone lock, but for nr_committed, which is read without it.
 */
struct span {
	pfn_t start;
	size_t nr_blocks;
	struct pageblock *blocks;
	char *client;
	uint64_t *whole; /* one bit a block: wholly free, anybody may claim it */
	char *base;
	/* Blocks in use.  Release when it grows: publishes their metadata. */
	_Atomic size_t nr_committed;
	/* No bit of whole is set below this block. */
	size_t first_whole;
};

/* 0 or -ENOMEM: reserves the first span. */
int span_init(void) MUST_CHECK;

/* The committed block of a page; NULL when it is in none.  Lock-free. */
struct pageblock *span_block(pfn_t pfn);
/* The span of a block. */
struct span *span_of(const struct pageblock *block);
unsigned span_count(void);
struct span *span_at(unsigned number);

/* --- under the zone lock --- */

/* The first of nr_blocks consecutive whole blocks, at a multiple of align_blocks; NULL: none. */
struct pageblock *span_find_whole(size_t nr_blocks, size_t align_blocks);
/*
 * Where a run of more than a block goes: the block that it begins with.  Its last one, where
 * the run takes a part of it only, is rather one in use with that part free, so that no whole
 * one is broken into; and rather blocks that are resident than such as were given back.  NULL:
 * there is no room among the blocks there are.
 */
struct pageblock *span_find_run(size_t nr_pages, enum migratetype mt);
/* Whether a run of a type that goes on here may take n pages of the block, from `from` on. */
bool span_may_take(const struct pageblock *block, unsigned from, unsigned n,
		   enum migratetype mt);
/*
 * Commits what is missing for such a run at the end of a span, or in a new one: the first
 * block, or NULL when the system gives no more.  New blocks have type mt.
 */
struct pageblock *span_grow(size_t nr_blocks, size_t align_blocks, enum migratetype mt);
/* Commits at least nr_blocks more in this span. */
bool span_grow_in_place(struct span *span, size_t nr_blocks, enum migratetype mt);
void span_set_whole(const struct pageblock *block, bool whole);

/*
 * Debug builds: nobody else can see the block of this page yet, so that its words may be
 * written plainly (R7).  Whoever finds a block does so by span_block(), from the very
 * first one on.
 */
static inline void span_assert_unseen(pfn_t pfn)
{
	bool block_is_unseen = PB_DEBUG == 0 || span_block(pfn) == NULL;

	ASSERT(block_is_unseen);
}

/* Compares the maps of whole blocks with the blocks. */
void span_check(const struct span *span);

static inline size_t span_committed(const struct span *span)
{
	/* Acquire pairs with the release in span_commit(): the blocks' metadata is there. */
	return atomic_load_explicit(&span->nr_committed, memory_order_acquire);
}

#endif
