/*
 * The index of pageblocks by group, largest free order and fullness.
 *
 * Algorithm: a list is a ring without a head, newest first.  The fullest block that can
 * serve an order is found by an OR over the masks of that order and the larger ones:
 * its lowest bit is the fullness, the first order with this bit the list.
 *
 * Blocks without a free page, isolated ones and no others are on no list.  A wholly
 * free block of a list that anybody may claim has its bit in its span's map of whole
 * blocks.  Invariants: index_check(), pageblock_check(), span_check().
 */
#include "core/index.h"

#include "core/span.h"
#include "core/zone.h"

STATIC_ASSERT(MIGRATE_CMA == NR_MIGRATETYPES - 1, "is_whole_list() counts on it");

struct pageblock *index_lists[NR_INDEX_LISTS];
uint32_t index_masks[INDEX_ROWS];

static inline unsigned row_of(unsigned list)
{
	return list >> INDEX_SHIFT;
}

static inline uint32_t mask_bit(unsigned list)
{
	return 1u << (list & ((1u << INDEX_SHIFT) - 1));
}

/* Of wholly free blocks of any type but CMA, which is the last type. */
static inline bool is_whole_list(unsigned list)
{
	unsigned row = row_of(list);

	return row % INDEX_GROUP_ROWS == PAGEBLOCK_ORDER && row < index_row(MIGRATE_CMA, 0);
}

static inline void list_remove(struct pageblock *block, unsigned list)
{
	struct pageblock *next = block->next;

	if (next == block) {
		index_lists[list] = NULL;
		index_masks[row_of(list)] &= ~mask_bit(list);
		return;
	}
	next->prev = block->prev;
	block->prev->next = next;
	if (index_lists[list] == block)
		index_lists[list] = next;
}

static inline void list_add(struct pageblock *block, unsigned list)
{
	struct pageblock *first = index_lists[list];

	index_lists[list] = block;
	if (first == NULL) {
		block->next = block;
		block->prev = block;
		index_masks[row_of(list)] |= mask_bit(list);
		return;
	}
	block->next = first;
	block->prev = first->prev;
	first->prev->next = block;
	first->prev = block;
}

void index_move(struct pageblock *block, unsigned list)
{
	unsigned was = block->list;

	if (was != INDEX_NONE)
		list_remove(block, was);
	if (list != INDEX_NONE)
		list_add(block, list);
	block->list = (uint16_t)list;
	if (unlikely(is_whole_list(was) != is_whole_list(list)))
		span_set_whole(block, is_whole_list(list));
}

struct pageblock *index_emptiest(unsigned group, unsigned order)
{
	uint32_t any = 0;
	unsigned row = index_row(group, INDEX_ORDERS);

	for (unsigned k = order; k < INDEX_ORDERS; k++)
		any |= index_masks[index_row(group, k)];
	if (any == 0)
		return NULL;
	any = 1u << log2_floor(any);
	/* Equally empty: the largest order. */
	do
		row--;
	while ((index_masks[row] & any) == 0);
	return index_lists[row << INDEX_SHIFT | log2_floor(any)];
}

static struct pageblock *first_whole(enum migratetype mt, unsigned state)
{
	return index_lists[index_list(mt, PAGEBLOCK_ORDER, state)];
}

struct pageblock *index_whole(enum migratetype mt, bool dirty)
{
	struct pageblock *block;

	if (!dirty)
		return first_whole(mt, INDEX_IDLE_CLEAN);
	block = first_whole(mt, INDEX_IDLE_DIRTY);
	return block != NULL ? block : first_whole(mt, INDEX_READY);
}

struct pageblock *index_oldest_idle(enum migratetype mt)
{
	struct pageblock *newest = first_whole(mt, INDEX_IDLE_DIRTY);

	return newest == NULL ? NULL : newest->prev;
}

size_t index_check(void)
{
	size_t nr_blocks = 0;

	for (unsigned list = 0; list < NR_INDEX_LISTS; list++) {
		struct pageblock *first = index_lists[list];
		struct pageblock *block = first;
		bool in_mask = (index_masks[row_of(list)] & mask_bit(list)) != 0;
		bool idle = list % (1u << INDEX_SHIFT) == INDEX_IDLE_DIRTY;

		CHECK(in_mask == (first != NULL));
		if (first == NULL)
			continue;
		do {
			CHECK_COUNT(block->list, list);
			CHECK_COUNT(block->list, index_list_of(block));
			CHECK(block->next->prev == block);
			/* Newest first: purge takes from the other end. */
			if (idle && pageblock_whole(block))
				CHECK(block->next == first ||
				      block->idle_since_ns >= block->next->idle_since_ns);
			nr_blocks++;
			block = block->next;
		} while (block != first);
	}
	for (unsigned row = 0; row < INDEX_ROWS; row++)
		CHECK(row % INDEX_GROUP_ROWS < INDEX_ORDERS || index_masks[row] == 0);
	return nr_blocks;
}
