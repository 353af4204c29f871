/*
 * The index of pageblocks by type, largest free order and fullness.
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

#define LISTS_PER_ORDER (NR_MIGRATETYPES * INDEX_FULLNESS)
#define NR_LISTS (INDEX_ORDERS * LISTS_PER_ORDER)
/* Lists of whole blocks of any type but CMA, which is the last type. */
#define WHOLE_FIRST (PAGEBLOCK_ORDER * LISTS_PER_ORDER)
#define WHOLE_LISTS (MIGRATE_CMA * INDEX_FULLNESS)

STATIC_ASSERT(NR_LISTS < INDEX_NONE, "a list number fits 16 bits");
STATIC_ASSERT(MIGRATE_CMA == NR_MIGRATETYPES - 1, "WHOLE_LISTS counts on it");

static struct pageblock *lists[NR_LISTS];
static uint32_t masks[NR_MIGRATETYPES][INDEX_ORDERS];

static inline unsigned list_number(enum migratetype mt, unsigned order, unsigned fullness)
{
	return order * LISTS_PER_ORDER + (unsigned)mt * INDEX_FULLNESS + fullness;
}

/* The list the block belongs on. */
static inline unsigned list_of(const struct pageblock *block)
{
	unsigned fullness = block->nr_free >> 5;

	if (unlikely(block->order == ORDER_NONE || pageblock_isolated(block)))
		return INDEX_NONE;
	if (fullness == INDEX_IDLE_CLEAN && block->nr_dirty != 0)
		fullness = INDEX_IDLE_DIRTY;
	return list_number(pageblock_type(block), block->order, fullness);
}

static inline uint32_t *mask_of(unsigned list)
{
	return &masks[list % LISTS_PER_ORDER / INDEX_FULLNESS][list / LISTS_PER_ORDER];
}

static inline bool is_whole_list(unsigned list)
{
	return list - WHOLE_FIRST < WHOLE_LISTS;
}

static void list_remove(struct pageblock *block, unsigned list)
{
	if (block->next == block) {
		lists[list] = NULL;
		*mask_of(list) &= ~(1u << list % INDEX_FULLNESS);
		return;
	}
	block->next->prev = block->prev;
	block->prev->next = block->next;
	if (lists[list] == block)
		lists[list] = block->next;
}

static void list_add(struct pageblock *block, unsigned list)
{
	struct pageblock *first = lists[list];

	if (first == NULL) {
		block->next = block;
		block->prev = block;
		*mask_of(list) |= 1u << list % INDEX_FULLNESS;
	} else {
		block->next = first;
		block->prev = first->prev;
		first->prev->next = block;
		first->prev = block;
	}
	lists[list] = block;
}

static NOINLINE void index_move(struct pageblock *block, unsigned from, unsigned to)
{
	bool was_whole = is_whole_list(from);
	bool whole = is_whole_list(to);

	if (from != INDEX_NONE)
		list_remove(block, from);
	if (to != INDEX_NONE)
		list_add(block, to);
	block->list = (uint16_t)to;
	if (was_whole != whole)
		span_set_whole(block, whole);
}

void index_update(struct pageblock *block)
{
	unsigned list = list_of(block);

	ASSERT(lock_held(LOCK_ZONE));
	if (list != block->list)
		index_move(block, block->list, list);
}

struct pageblock *index_fullest(enum migratetype mt, unsigned order)
{
	const uint32_t *mask = masks[mt];
	uint32_t any = 0;
	unsigned fullness;

	for (unsigned k = order; k < INDEX_ORDERS; k++)
		any |= mask[k];
	if (any == 0)
		return NULL;
	fullness = (unsigned)__builtin_ctz(any);
	/* Equally full: the smallest order keeps the larger runs whole. */
	while ((mask[order] >> fullness & 1) == 0)
		order++;
	return lists[list_number(mt, order, fullness)];
}

struct pageblock *index_emptiest(enum migratetype mt, unsigned order)
{
	for (unsigned k = INDEX_ORDERS; k-- > order;)
		if (masks[mt][k] != 0)
			return lists[list_number(mt, k, log2_floor(masks[mt][k]))];
	return NULL;
}

struct pageblock *index_whole(enum migratetype mt, bool dirty)
{
	return lists[list_number(mt, PAGEBLOCK_ORDER,
				 dirty ? INDEX_IDLE_DIRTY : INDEX_IDLE_CLEAN)];
}

struct pageblock *index_oldest_idle(enum migratetype mt)
{
	struct pageblock *newest = index_whole(mt, true);

	return newest == NULL ? NULL : newest->prev;
}

size_t index_check(void)
{
	size_t nr_blocks = 0;

	for (unsigned list = 0; list < NR_LISTS; list++) {
		struct pageblock *first = lists[list];
		struct pageblock *block = first;
		bool in_mask = (*mask_of(list) >> list % INDEX_FULLNESS & 1) != 0;

		CHECK(in_mask == (first != NULL));
		if (first == NULL)
			continue;
		do {
			CHECK_COUNT(block->list, list);
			CHECK_COUNT(block->list, list_of(block));
			CHECK(block->next->prev == block);
			/* Newest first: purge takes from the other end. */
			if (list % INDEX_FULLNESS == INDEX_IDLE_DIRTY && pageblock_whole(block))
				CHECK(block->next == first ||
				      block->idle_since_ns >= block->next->idle_since_ns);
			nr_blocks++;
			block = block->next;
		} while (block != first);
	}
	return nr_blocks;
}
