/*
 * The zone's interface: runs within blocks and across them, fallback, extending,
 * isolation accounting, and what must stop the program.
 */
#include "tests/core/on_fake_os.h"
#include "tests/support/dies.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>

#define NR ((size_t)64)

static void start(void)
{
	struct core_config config = {
		.client_bytes = 2 * PAGE_BYTES,
		.span_added = fake_os_data,
		.reserve_bytes = NR * PAGEBLOCK_BYTES,
		.decay_ns = 1000000,
		.thp_from_bytes = SIZE_MAX,
	};

	start_core(&config);
}

static pfn_t alloc(size_t nr_pages, unsigned align_order, enum migratetype mt)
{
	pfn_t pfn = zone_alloc(nr_pages, align_order, mt, NULL);

	if (pfn != 0)
		fake_os_touch(pfn, nr_pages);
	return pfn;
}

Test(zone, slabs_are_packed, .init = start, .fini = finish)
{
	pfn_t first = alloc(16, 4, MIGRATE_UNMOVABLE);

	for (unsigned i = 1; i < 32; i++)
		cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) == first + 16 * i);
	cr_assert(stats().nr_blocks == 1);
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) != 0);
	cr_assert(stats().free_pages + stats().allocated_pages == stats().total_pages);
}

Test(zone, exact_runs_first_fit, .init = start, .fini = finish)
{
	pfn_t a = alloc(5, 0, MIGRATE_MOVABLE);
	pfn_t b = alloc(3, 0, MIGRATE_MOVABLE);
	bool zeroed = false;

	cr_assert(b == a + 5);
	zone_free(a, 5);
	cr_assert(zone_alloc(3, 0, MIGRATE_MOVABLE, &zeroed) == a && !zeroed);
	cr_assert(zone_alloc(511, 0, MIGRATE_MOVABLE, &zeroed) != 0 && zeroed);
	cr_assert(stats().allocated_pages == 3 + 3 + 511);
}

/* Of any length and place, also where no power of two would fit. */
Test(zone, holes_between_runs_are_filled, .init = start, .fini = finish)
{
	pfn_t first = alloc(27, 0, MIGRATE_MOVABLE);
	pfn_t hole = alloc(21, 0, MIGRATE_MOVABLE);
	pfn_t rest = alloc(PAGEBLOCK_PAGES - 48, 0, MIGRATE_MOVABLE);
	pfn_t roomy = alloc(100, 0, MIGRATE_MOVABLE);

	cr_assert(hole == first + 27 && rest == hole + 21 && roomy == first + PAGEBLOCK_PAGES);
	zone_free(hole, 21);
	cr_assert(alloc(22, 0, MIGRATE_MOVABLE) == roomy + 100);
	for (unsigned n = 21; n > 16; n--) {
		cr_assert(alloc(n, 0, MIGRATE_MOVABLE) == hole);
		zone_free(hole, n);
	}
	/* Over the end of a word. */
	zone_free(rest, 30);
	cr_assert(alloc(51, 0, MIGRATE_MOVABLE) == hole);
	cr_assert(alloc(512 - 122, 0, MIGRATE_MOVABLE) == roomy + 122);
}

Test(zone, more_than_a_gigabyte, .init = start, .fini = finish)
{
	size_t nr_pages = 60 * PAGEBLOCK_PAGES + 7;
	pfn_t pfn = alloc(nr_pages, 0, MIGRATE_MOVABLE);
	pfn_t tail;

	cr_assert(pfn != 0 && pfn % PAGEBLOCK_PAGES == 0);
	cr_assert(fake_os_committed(pfn, nr_pages));
	/* The tail of the last block stays free, for small runs. */
	tail = alloc(8, 3, MIGRATE_MOVABLE);
	cr_assert(tail > pfn + nr_pages && tail < pfn + 61 * PAGEBLOCK_PAGES);
	/* Freed in parts that cross blocks. */
	zone_free(pfn, 700);
	zone_free(pfn + 700, nr_pages - 700);
	zone_free(tail, 8);
	cr_assert(stats().free_pages == stats().total_pages);
}

/* What a run of so many blocks and a bit leaves is taken by the next one, whoever is behind it. */
Test(zone, a_long_run_ends_in_a_block_in_use, .init = start, .fini = finish)
{
	size_t nr_pages = 4 * PAGEBLOCK_PAGES + 33;
	pfn_t run = alloc(nr_pages, 0, MIGRATE_MOVABLE);
	pfn_t behind = alloc(200, 0, MIGRATE_MOVABLE);
	uint64_t grown = stats().grown;
	bool zeroed = true;

	cr_assert(behind > run + 4 * PAGEBLOCK_PAGES && behind < run + 5 * PAGEBLOCK_PAGES);
	zone_free(run, nr_pages);
	cr_assert(zone_alloc(nr_pages, 0, MIGRATE_MOVABLE, &zeroed) == run && !zeroed);
	zone_free(run, nr_pages);
	/* At the end of the stretch that is there. */
	cr_assert(alloc(nr_pages - PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE) == run + PAGEBLOCK_PAGES);
	zone_free(run + PAGEBLOCK_PAGES, nr_pages - PAGEBLOCK_PAGES);
	/* Not where the tail has no room, or belongs to another type. */
	cr_assert(alloc(32, 0, MIGRATE_MOVABLE) == run + 4 * PAGEBLOCK_PAGES);
	cr_assert(alloc(nr_pages, 0, MIGRATE_MOVABLE) > behind);
	cr_assert(alloc(nr_pages - PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE) == run);
	cr_assert(stats().grown > grown);
}

Test(zone, long_runs_take_what_is_resident, .init = start, .fini = finish)
{
	pfn_t cold = alloc(2 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE);
	pfn_t between = alloc(PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE);
	pfn_t warm = alloc(2 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE);
	bool zeroed = true;

	cr_assert(between > cold && between < warm);
	zone_free(cold, 2 * PAGEBLOCK_PAGES);
	(void)purge_all();
	zone_free(warm, 2 * PAGEBLOCK_PAGES);
	cr_assert(zone_alloc(2 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, &zeroed) == warm && !zeroed);
	cr_assert(zone_alloc(2 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, &zeroed) == cold && zeroed);
}

Test(zone, alignment_beyond_a_block, .init = start, .fini = finish)
{
	for (unsigned order = 9; order <= 14; order++) {
		pfn_t pfn = alloc(3, order, MIGRATE_MOVABLE);

		cr_assert(pfn != 0 && pfn % ((pfn_t)1 << order) == 0);
		core_check();
		zone_free(pfn, 3);
	}
	cr_assert(alloc(3, 30, MIGRATE_MOVABLE) == 0);
	cr_assert(alloc(1, 60, MIGRATE_MOVABLE) == 0);
	cr_assert(alloc(SIZE_MAX, 0, MIGRATE_MOVABLE) == 0);
	cr_assert(alloc(SIZE_MAX / PAGE_BYTES, 0, MIGRATE_MOVABLE) == 0);
	cr_assert(alloc((NR + 1) * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE) == 0);
}

Test(zone, whole_blocks_change_sides, .init = start, .fini = finish)
{
	pfn_t movable = alloc(512, 0, MIGRATE_MOVABLE);
	uint64_t grown = stats().grown;

	zone_free(movable, 512);
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) == movable);
	cr_assert(stats().claims == 1 && stats().grown == grown && stats().steals == 0);
}

Test(zone, resident_blocks_before_clean_ones, .init = start, .fini = finish)
{
	pfn_t two = alloc(1024, 0, MIGRATE_MOVABLE);
	pfn_t clean;
	bool zeroed = true;

	zone_free(two, 1024);
	(void)purge_all();
	clean = zone_alloc(512, 0, MIGRATE_MOVABLE, &zeroed);
	cr_assert(zeroed);
	zone_free(clean, 512);
	/* UNMOVABLE has a clean block of its own, MOVABLE a resident one. */
	zone_lock();
	zone_set_type_locked(span_block(two == clean ? two + 512 : two), MIGRATE_UNMOVABLE);
	zone_unlock();
	cr_assert(zone_alloc(16, 4, MIGRATE_UNMOVABLE, &zeroed) == clean && !zeroed);
}

/* All blocks in use as MOVABLE, each with some pages freed again. */
static pfn_t crowd(unsigned nr_free_each)
{
	pfn_t base = alloc(NR * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE);

	cr_assert(base != 0);
	for (size_t b = 0; b < NR; b++)
		zone_free(base + b * PAGEBLOCK_PAGES + 32, nr_free_each);
	return base;
}

Test(zone, r10_steals_when_it_cannot_claim, .init = start, .fini = finish)
{
	(void)crowd(64);
	cr_assert(alloc(32, 5, MIGRATE_UNMOVABLE) != 0);
	cr_assert(stats().steals == 1 && stats().claims == 0);
	/* And as long as there is a page at all (R10). */
	for (size_t i = 32; i < NR * 64; i++)
		cr_assert(alloc(1, 0, i % 2 ? MIGRATE_UNMOVABLE : MIGRATE_RECLAIMABLE) != 0);
	cr_assert(stats().free_pages == 0);
	cr_assert(alloc(1, 0, MIGRATE_UNMOVABLE) == 0);
}

Test(zone, claims_what_is_half_free, .init = start, .fini = finish)
{
	pfn_t base = crowd(64);

	zone_free(base + 10 * PAGEBLOCK_PAGES + 96, 192);
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) / 512 == base / 512 + 10);
	cr_assert(stats().claims == 1 && stats().steals == 0);
	/* What follows finds room in the same block. */
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) / 512 == base / 512 + 10);
	cr_assert(stats().claims == 1);
}

Test(zone, cma_is_lent_to_movable_only, .init = start, .fini = finish)
{
	pfn_t base = crowd(16);
	pfn_t cma = base + 5 * PAGEBLOCK_PAGES;

	zone_free(cma, 32);
	zone_free(cma + 48, 512 - 48);
	zone_lock();
	zone_set_type_locked(span_block(cma), MIGRATE_CMA);
	zone_unlock();
	cr_assert(alloc(512, 0, MIGRATE_UNMOVABLE) == 0);
	cr_assert(alloc(64, 6, MIGRATE_UNMOVABLE) == 0);
	cr_assert(alloc(64, 6, MIGRATE_MOVABLE) / 512 == cma / 512);
	cr_assert(alloc(64, 6, MIGRATE_CMA) / 512 == cma / 512);
	cr_assert(pageblock_type(span_block(cma)) == MIGRATE_CMA);
	cr_assert(alloc(1024, 0, MIGRATE_CMA) == 0);
}

Test(zone, extends_in_place, .init = start, .fini = finish)
{
	pfn_t pfn = alloc(10, 0, MIGRATE_MOVABLE);
	pfn_t behind;
	bool zeroed = false;

	cr_assert(zone_extend(pfn, 10, 100, &zeroed) && zeroed);
	/* Into the next blocks, some of them not committed yet. */
	cr_assert(zone_extend(pfn, 100, 5000, &zeroed) && zeroed);
	behind = alloc(1, 0, MIGRATE_MOVABLE);
	cr_assert(behind == pfn + 5000);
	cr_assert(!zone_extend(pfn, 5000, 5001, &zeroed));
	zone_free(behind, 1);
	cr_assert(zone_extend(pfn, 5000, 5002, &zeroed) && !zeroed);
	cr_assert(!zone_extend(pfn, 5002, NR * 512 + 1, NULL));
	cr_assert(!zone_extend(pfn, 5002, SIZE_MAX - 5, NULL));
	cr_assert(zone_extend(pfn, 5002, NR * 512, NULL));
	zone_free(pfn, NR * 512);
	cr_assert(stats().free_pages == stats().total_pages);
}

Test(zone, extends_into_whole_blocks_of_others_only, .init = start, .fini = finish)
{
	pfn_t base = alloc(NR * 512, 0, MIGRATE_MOVABLE);

	zone_free(base + 512, 512);
	zone_lock();
	zone_set_type_locked(span_block(base + 512), MIGRATE_UNMOVABLE);
	zone_unlock();
	cr_assert(zone_extend(base, 512, 600, NULL));
	cr_assert(pageblock_type(span_block(base + 512)) == MIGRATE_MOVABLE);
	zone_free(base + 1024, 512);
	zone_lock();
	zone_set_type_locked(span_block(base + 1024), MIGRATE_UNMOVABLE);
	zone_unlock();
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) == base + 1024);
	zone_free(base + 1024, 16);
	cr_assert(alloc(16, 4, MIGRATE_UNMOVABLE) == base + 1024);
	cr_assert(!zone_extend(base, 600, 1025, NULL));
}

Test(zone, isolated_frees_are_counted_apart, .init = start, .fini = finish)
{
	pfn_t pfn = alloc(100, 0, MIGRATE_MOVABLE);
	struct pageblock *block = span_block(pfn);

	zone_lock();
	zone_set_isolated_locked(block, true);
	zone_unlock();
	cr_assert(stats().isolated_free_pages == 412 && stats().free_pages == 0);
	zone_free(pfn, 50);
	cr_assert(stats().isolated_free_pages == 462 && stats().free_pages == 0);
	core_check();
	cr_assert(!zone_extend(pfn + 50, 50, 60, NULL));
	cr_assert(alloc(1, 0, MIGRATE_MOVABLE) / 512 != pfn / 512);
	zone_lock();
	zone_set_isolated_locked(block, false);
	zone_unlock();
	cr_assert(stats().isolated_free_pages == 0);
}

/* R3: isolating and undoing every block in random order leaves the free runs as they were. */
Test(zone, r3_undo_re_merges, .init = start, .fini = finish)
{
	struct random random;
	pfn_t base = alloc(NR * 512, 0, MIGRATE_MOVABLE);
	unsigned examined = 0;

	zone_free(base, NR * 512);
	random_seed(&random, 5);
	for (unsigned round = 0; round < 2000; round++) {
		struct pageblock *block = span_block(base + random_below(&random, NR) * 512);

		zone_lock();
		zone_set_isolated_locked(block, !pageblock_isolated(block));
		zone_unlock();
	}
	for (size_t b = 0; b < NR; b++) {
		zone_lock();
		zone_set_isolated_locked(span_block(base + b * 512), false);
		zone_unlock();
		cr_assert(span_block(base + b * 512)->order == 9);
		examined++;
	}
	cr_assert(examined == NR && stats().free_pages == NR * 512);
	cr_assert(alloc(NR * 512, 0, MIGRATE_MOVABLE) == base);
}

Test(zone, clean_pages_stay_clean, .init = start, .fini = finish)
{
	pfn_t pfn = alloc(600, 0, MIGRATE_MOVABLE);
	bool zeroed = false;

	zone_mark_clean(pfn + 100, 500);
	zone_free(pfn, 600);
	cr_assert(stats().dirty_free_pages == 100);
	cr_assert(zone_alloc(512, 0, MIGRATE_MOVABLE, &zeroed) == pfn && !zeroed);
	cr_assert(stats().dirty_free_pages == 0);
}

Test(zone, owns_and_client, .init = start, .fini = finish)
{
	pfn_t pfn = alloc(1500, 0, MIGRATE_MOVABLE);
	char *at = pfn_to_addr(pfn);
	char *client = zone_client(at);
	int here = 0;

	cr_assert(zone_owns(at) && zone_owns(at + 1500 * PAGE_BYTES - 1));
	cr_assert(!zone_owns(at - 1) && !zone_owns(&here) && !zone_owns(NULL));
	cr_assert(!zone_owns(at + NR * PAGEBLOCK_BYTES - 1));
	cr_assert((char *)zone_client(at + PAGEBLOCK_BYTES - 1) == client);
	cr_assert((char *)zone_client(at + PAGEBLOCK_BYTES) == client + 2 * PAGE_BYTES);
	/* Zeroed, writable, kept. */
	for (size_t i = 0; i < 4 * PAGE_BYTES; i++)
		cr_assert(client[i] == 0);
	client[4 * PAGE_BYTES - 1] = 1;
}

static pfn_t victim;

static void free_a_free_page(void)
{
	zone_free(victim + 3, 1);
}

static void free_outside(void)
{
	zone_free(victim + NR * 512, 1);
}

static void free_past_the_end(void)
{
	zone_free(victim, NR * 512 + 1);
}

static void free_nothing(void)
{
	zone_free(victim, 0);
}

static void free_null(void)
{
	zone_free(0, 1);
}

static void clean_a_free_page(void)
{
	zone_mark_clean(victim + 2, 2);
}

static void extend_a_free_page(void)
{
	(void)zone_extend(victim, 4, 5, NULL);
}

Test(zone, misuse_stops_the_program, .init = start)
{
	victim = alloc(3, 0, MIGRATE_MOVABLE);
	cr_assert(dies_with(free_a_free_page, "check failed: !page_is_free at"));
	cr_assert(dies_with(free_outside, "check failed: page_is_ours at"));
	cr_assert(dies_with(free_null, "check failed: page_is_ours at"));
	cr_assert(dies_with(free_nothing, "check failed: nr_pages > 0 at"));
	cr_assert(dies_with(clean_a_free_page, "check failed: pages_are_taken at"));
	cr_assert(dies_with(extend_a_free_page, "check failed: page_is_taken at"));
	zone_free(victim, 3);
	cr_assert(alloc(NR * 512, 0, MIGRATE_MOVABLE) == victim);
	cr_assert(dies_with(free_past_the_end, "check failed: page_is_ours at"));
}

static void lose_a_page(void)
{
	zone.free_pages--;
	core_check();
}

static void break_a_bit(void)
{
	struct pageblock *block = span_block(victim);

	block->free[7] ^= 1;
	core_check();
}

static void break_a_list(void)
{
	struct pageblock *block = span_block(victim);

	zone_lock();
	zone.free_pages -= block->nr_free;
	zone.isolated_free_pages += block->nr_free;
	atomic_store_explicit(&block->isolated, 1, memory_order_relaxed);
	zone_unlock();
	core_check();
}

Test(zone, core_check_sees_damage, .init = start)
{
	victim = alloc(3, 0, MIGRATE_MOVABLE);
	core_check();
	cr_assert(dies_with(lose_a_page, "zone.free_pages is kept as 508 but found to be 509"));
	cr_assert(dies_with(break_a_bit, "check failed"));
	cr_assert(dies_with(break_a_list, "check failed"));
}
