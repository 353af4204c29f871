/*
 * The index: which pageblock to take next.  One list for each group, largest free order
 * and fullness, and a mask for each group and order of the lists that are not empty.
 * A group is a type, or one of the kinds of UNMOVABLE blocks (but for wholly free blocks,
 * which have no kind).
 */
#ifndef PB_CORE_INDEX_H
#define PB_CORE_INDEX_H

#include "core/pageblock.h"

#define INDEX_NONE UINT16_MAX
#define INDEX_ORDERS (PAGEBLOCK_ORDER + 1)
/*
 * Fullness is nr_free >> 5.  Wholly free blocks are all alike, so theirs says whether
 * they are resident: dirty ones come first, in the order in which they became idle, then
 * those that are kept ready.
 */
#define INDEX_IDLE_DIRTY 15u
#define INDEX_READY 16u
#define INDEX_IDLE_CLEAN 17u

/* Groups: the types, then the kinds from 1 on. */
#define NR_GROUPS (NR_MIGRATETYPES + NR_KINDS - 1)

static inline unsigned index_group(enum migratetype mt, unsigned kind)
{
	return kind == 0 || mt != MIGRATE_UNMOVABLE ? (unsigned)mt : NR_MIGRATETYPES - 1 + kind;
}

/*
 * A list's number, and a row's, which is all but the fullness:
 *
 *     14    10 9      5 4                 0
 *    | group  | order  | fullness, 0 to 17 |
 *
 * A group's lists lie together, so that few pages of them are ever touched.  Its rows of
 * orders that do not exist stay empty: index_fullest() need not know how many there are
 * above an order.
 */
#define INDEX_SHIFT 5u
#define INDEX_GROUP_ROWS (1u << 5)
#define INDEX_ROWS (NR_GROUPS * INDEX_GROUP_ROWS)
#define NR_INDEX_LISTS (INDEX_ROWS << INDEX_SHIFT)

STATIC_ASSERT(INDEX_READY == PAGEBLOCK_PAGES >> 5, "index_list_of() counts on it");
STATIC_ASSERT(NR_INDEX_LISTS < INDEX_NONE, "a list's number fits 16 bits");
STATIC_ASSERT(2 * INDEX_ORDERS <= INDEX_GROUP_ROWS, "as many rows stay empty as are used");

/* All under the zone lock. */

extern struct pageblock *index_lists[NR_INDEX_LISTS];
/* Of each row, a bit for each list that is not empty. */
extern uint32_t index_masks[INDEX_ROWS];

static inline unsigned index_row(unsigned group, unsigned order)
{
	return group * INDEX_GROUP_ROWS + order;
}

static inline unsigned index_list(unsigned group, unsigned order, unsigned fullness)
{
	return index_row(group, order) << INDEX_SHIFT | fullness;
}

/* The list the block belongs on. */
static inline unsigned index_list_of(const struct pageblock *block)
{
	unsigned fullness = block->nr_free >> 5;
	unsigned kind = block->kind;

	if (unlikely(block->order == ORDER_NONE || pageblock_isolated(block)))
		return INDEX_NONE;
	if (unlikely(fullness == PAGEBLOCK_PAGES >> 5)) {
		kind = 0;
		if (block->nr_dirty == 0)
			fullness = INDEX_IDLE_CLEAN;
		else if ((block->apart & APART_READY) == 0)
			fullness = INDEX_IDLE_DIRTY;
	}
	return index_list(index_group(pageblock_type(block), kind), block->order, fullness);
}

void index_move(struct pageblock *block, unsigned list);

/* Puts the block on the list its state asks for. */
static inline void index_update(struct pageblock *block)
{
	unsigned list = index_list_of(block);

	ASSERT(lock_held(LOCK_ZONE));
	if (list != block->list)
		index_move(block, list);
}

/* A bit for each fullness that a block of the group with a free run of the order has. */
static inline uint32_t index_any(unsigned group, unsigned order)
{
	const uint32_t *mask = &index_masks[index_row(group, order)];

	/* Orders `order` to 9, and beyond them rows that are always empty. */
	return mask[0] | mask[1] | mask[2] | mask[3] | mask[4] | mask[5] | mask[6] | mask[7] |
	       mask[8] | mask[9];
}

/* The fullest block of the group that has a free run of the order; NULL: none. */
static inline struct pageblock *index_fullest(unsigned group, unsigned order)
{
	unsigned row = index_row(group, order);
	uint32_t any = index_any(group, order);
	unsigned fullness;

	if (unlikely(any == 0))
		return NULL;
	fullness = (unsigned)__builtin_ctz(any);
	/* Equally full: the smallest order keeps the larger runs whole. */
	while ((index_masks[row] >> fullness & 1) == 0)
		row++;
	return index_lists[row << INDEX_SHIFT | fullness];
}

/* The emptiest block of the group that has a free run of the order; NULL: none. */
struct pageblock *index_emptiest(unsigned group, unsigned order);
/* A wholly free block of the type, resident or not: the last to become idle, one that is
 * kept ready; NULL: none. */
struct pageblock *index_whole(enum migratetype mt, bool dirty);
/* The wholly free dirty block of the type that is idle longest; NULL: none. */
struct pageblock *index_oldest_idle(enum migratetype mt);

/* Walks all lists: rings, masks, and that each block is where it belongs.  Returns the
 * number of blocks on them. */
size_t index_check(void);

#endif
