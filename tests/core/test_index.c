/*
 * The index: fullest first, emptiest, idle ones in order, and the map of whole blocks.
 */
#include "core/index.h"
#include "tests/core/on_fake_os.h"

#include <criterion/criterion.h>

#define NR 16u

static struct pageblock *block_at(unsigned i)
{
	return span_block(span_at(0)->start + i * PAGEBLOCK_PAGES);
}

static pfn_t take_all(void)
{
	return zone_alloc(NR * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL);
}

static void start(void)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.reserve_bytes = NR * PAGEBLOCK_BYTES,
		.decay_ns = 1000,
		.thp_from_bytes = SIZE_MAX,
	};

	start_core(&config);
	/* All blocks, all MOVABLE, all free and clean. */
	fake_os_touch(take_all(), NR * PAGEBLOCK_PAGES);
	zone_free(span_at(0)->start, NR * PAGEBLOCK_PAGES);
	(void)purge_all();
}

/* Leaves a block with n free pages, all at its end. */
static void fill_to(unsigned i, unsigned nr_free)
{
	struct pageblock *block = block_at(i);

	zone_lock();
	zone.dirty_free_pages -= pageblock_take(block, 0, (unsigned)PAGEBLOCK_PAGES - nr_free);
	zone.free_pages -= PAGEBLOCK_PAGES - nr_free;
	zone.taken_pages += PAGEBLOCK_PAGES - nr_free;
	index_update(block);
	zone_unlock();
}

Test(index, fullest_that_can_serve, .init = start)
{
	fill_to(0, 200);
	fill_to(1, 70);
	fill_to(2, 40);
	fill_to(3, 5);
	core_check();
	cr_assert(index_fullest(MIGRATE_MOVABLE, 0) == block_at(3));
	cr_assert(index_fullest(MIGRATE_MOVABLE, 2) == block_at(3));
	cr_assert(index_fullest(MIGRATE_MOVABLE, 3) == block_at(2));
	cr_assert(index_fullest(MIGRATE_MOVABLE, 6) == block_at(1));
	cr_assert(index_fullest(MIGRATE_MOVABLE, 7) == block_at(0));
	cr_assert(pageblock_whole(index_fullest(MIGRATE_MOVABLE, 8)));
	cr_assert(index_fullest(MIGRATE_UNMOVABLE, 0) == NULL);
}

Test(index, equally_full_smallest_order, .init = start)
{
	/* Both have 64 free pages; one has them as an order-6 run, the other scattered. */
	fill_to(0, 64);
	fill_to(1, 128);
	zone_lock();
	for (unsigned i = 384; i < 512; i += 2) {
		zone.dirty_free_pages -= pageblock_take(block_at(1), i, 1);
		zone.free_pages--;
		zone.taken_pages++;
	}
	index_update(block_at(1));
	zone_unlock();
	core_check();
	cr_assert(index_fullest(MIGRATE_MOVABLE, 0) == block_at(1));
	cr_assert(index_fullest(MIGRATE_MOVABLE, 1) == block_at(0));
}

Test(index, emptiest, .init = start)
{
	for (unsigned i = 0; i < NR; i++)
		fill_to(i, 10 + 9 * i);
	cr_assert(index_emptiest(MIGRATE_MOVABLE, 0) == block_at(15));
	cr_assert(index_emptiest(MIGRATE_MOVABLE, 7) == block_at(15));
	zone_free(block_at(7)->pfn, 300);
	cr_assert(index_emptiest(MIGRATE_MOVABLE, 0) == block_at(7));
	cr_assert(index_emptiest(MIGRATE_MOVABLE, 9) == NULL);
	cr_assert(index_emptiest(MIGRATE_RECLAIMABLE, 0) == NULL);
	core_check();
}

Test(index, idle_blocks_oldest_last, .init = start)
{
	pfn_t pfn = zone_alloc(4 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL);
	static const unsigned order[] = {2, 0, 3, 1};

	for (unsigned i = 0; i < 4; i++) {
		fake_os.now_ns += 10;
		zone_free(pfn + order[i] * PAGEBLOCK_PAGES, PAGEBLOCK_PAGES);
	}
	core_check();
	cr_assert(index_oldest_idle(MIGRATE_MOVABLE)->pfn == pfn + 2 * PAGEBLOCK_PAGES);
	cr_assert(index_whole(MIGRATE_MOVABLE, true)->pfn == pfn + 1 * PAGEBLOCK_PAGES);
	/* The newest idle one is reused first: it is the warmest. */
	cr_assert(zone_alloc(512, 0, MIGRATE_MOVABLE, NULL) == pfn + PAGEBLOCK_PAGES);
}

Test(index, isolated_blocks_are_on_no_list, .init = start)
{
	for (unsigned i = 0; i < NR; i++) {
		zone_lock();
		zone_set_isolated_locked(block_at(i), true);
		zone_unlock();
		core_check();
	}
	cr_assert(index_fullest(MIGRATE_MOVABLE, 0) == NULL);
	cr_assert(zone_alloc(1, 0, MIGRATE_MOVABLE, NULL) == 0);
	cr_assert(zone_alloc(1024, 0, MIGRATE_MOVABLE, NULL) == 0);
}
