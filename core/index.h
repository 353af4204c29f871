/*
 * The index: which pageblock to take next.  One list for each type, largest free order
 * and fullness, and a mask for each type and order of the lists that are not empty.
 */
#ifndef PB_CORE_INDEX_H
#define PB_CORE_INDEX_H

#include "core/pageblock.h"

#define INDEX_NONE UINT16_MAX
#define INDEX_ORDERS (PAGEBLOCK_ORDER + 1)
/*
 * Fullness is nr_free >> 5.  Wholly free blocks are all alike, so theirs says whether
 * they are resident: dirty ones come first, in the order in which they became idle.
 */
#define INDEX_FULLNESS 17u
#define INDEX_IDLE_DIRTY 15u
#define INDEX_IDLE_CLEAN 16u

/* All under the zone lock. */

/* Puts the block on the list its state asks for. */
void index_update(struct pageblock *block);
/* The fullest block of the type that has a free run of the order; NULL: none. */
struct pageblock *index_fullest(enum migratetype mt, unsigned order);
/* The emptiest block of the type with the largest order, if that is >= order. */
struct pageblock *index_emptiest(enum migratetype mt, unsigned order);
/* A wholly free block of the type, the last to become idle; NULL: none. */
struct pageblock *index_whole(enum migratetype mt, bool dirty);
/* The wholly free dirty block of the type that is idle longest; NULL: none. */
struct pageblock *index_oldest_idle(enum migratetype mt);

/* Walks all lists: rings, masks, and that each block is where it belongs.  Returns the
 * number of blocks on them. */
size_t index_check(void);

#endif
