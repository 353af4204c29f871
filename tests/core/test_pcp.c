/*
 * pcplists: order of service, bounds, adapting, draining, and that a type is read when
 * pages leave.
 */
#include "tests/core/on_fake_os.h"
#include "tests/support/dies.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <string.h>

#define HIGH_MAX 256u

static struct pcp pcp, other, unregistered;

static struct core_config config = {
	.client_bytes = PAGE_BYTES,
	.span_added = fake_os_data,
	.reserve_bytes = 64 * PAGEBLOCK_BYTES,
	.decay_ns = 1000000,
	.thp_from_bytes = SIZE_MAX,
};

static void start(void)
{
	start_core(&config);
	pcp_init(&pcp);
	pcp_init(&other);
}

static pfn_t take(struct pcp *from, unsigned order, enum migratetype mt)
{
	pfn_t pfn = pcp_alloc(from, order, mt, NULL);

	if (pfn != 0)
		fake_os_use(pfn, (size_t)1 << order);
	return pfn;
}

static void give(struct pcp *to, pfn_t pfn, unsigned order)
{
	fake_os_unuse(pfn, (size_t)1 << order);
	pcp_free(to, pfn, order);
}

Test(pcp, last_in_first_out, .init = start, .fini = finish)
{
	pfn_t a = take(&pcp, 4, MIGRATE_UNMOVABLE);
	pfn_t b = take(&pcp, 4, MIGRATE_UNMOVABLE);

	give(&pcp, a, 4);
	give(&pcp, b, 4);
	cr_assert(take(&pcp, 4, MIGRATE_UNMOVABLE) == b);
	cr_assert(take(&pcp, 4, MIGRATE_UNMOVABLE) == a);
	/* Orders and types are apart. */
	give(&pcp, a, 4);
	cr_assert(take(&pcp, 3, MIGRATE_UNMOVABLE) != a);
	cr_assert(take(&pcp, 4, MIGRATE_MOVABLE) != a);
	cr_assert(take(&other, 4, MIGRATE_UNMOVABLE) != a);
}

Test(pcp, counts_are_exact_at_rest, .init = start, .fini = finish)
{
	pfn_t pfn = take(&pcp, 5, MIGRATE_MOVABLE);
	struct core_stats now = stats();

	cr_assert(now.allocated_pages == 32 + 0 && now.pcp_pages == 0);
	give(&pcp, pfn, 5);
	now = stats();
	cr_assert(now.allocated_pages == 0 && now.pcp_pages == 32);
	cr_assert(now.free_pages + now.pcp_pages == now.total_pages);
	pcp_drain(&pcp);
	cr_assert(stats().pcp_pages == 0 && stats().free_pages == stats().total_pages);
}

Test(pcp, bounded, .init = start, .fini = finish)
{
	static pfn_t runs[2000];
	unsigned nr = 0;

	for (unsigned order = 0; order < PCP_ORDERS; order++)
		for (unsigned i = 0; i < 100; i++)
			runs[nr++] = take(&pcp, order, (enum migratetype)(i % PCP_TYPES));
	nr = 0;
	for (unsigned order = 0; order < PCP_ORDERS; order++)
		for (unsigned i = 0; i < 100; i++) {
			cr_assert(runs[nr] != 0);
			give(&pcp, runs[nr++], order);
			cr_assert(atomic_load(&pcp.nr_pages) <= HIGH_MAX);
			core_check();
		}
	pcp_drain(&pcp);
	cr_assert(stats().free_pages == stats().total_pages);
}

Test(pcp, refills_take_the_zone_lock_less_and_less, .init = start, .fini = finish)
{
	unsigned refills = 0;

	for (unsigned i = 0; i < 64; i++) {
		refills += atomic_load(&pcp.nr_pages) == 0;
		cr_assert(take(&pcp, 3, MIGRATE_UNMOVABLE) != 0);
	}
	cr_assert(refills < 20, "%u refills", refills);
}

/* One slot more freed in a row than fits, again and again: high grows until it fits. */
Test(pcp, high_adapts, .init = start, .fini = finish)
{
	uint32_t high = pcp.high;
	pfn_t runs[12];

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 12; i++)
			runs[i] = take(&pcp, 4, MIGRATE_UNMOVABLE);
		for (unsigned i = 0; i < 12; i++)
			give(&pcp, runs[i], 4);
	}
	cr_assert(pcp.high > high && pcp.high <= HIGH_MAX);
	cr_assert(atomic_load(&pcp.nr_pages) >= 12 * 16, "%u pages, high %u",
		  atomic_load(&pcp.nr_pages), pcp.high);
	high = pcp.high;
	/* And it shrinks when most of it is not used any more. */
	for (unsigned round = 0; round < 5000; round++) {
		runs[0] = take(&pcp, 4, MIGRATE_UNMOVABLE);
		give(&pcp, runs[0], 4);
	}
	cr_assert(pcp.high < high);
	cr_assert(atomic_load(&pcp.nr_pages) <= 64);
}

Test(pcp, high_zero_caches_nothing, .init = start, .fini = finish)
{
	pfn_t pfn = take(&pcp, 4, MIGRATE_UNMOVABLE);

	pcp_drain(&pcp);
	pcp.high = 0;
	for (unsigned i = 0; i < 2000; i++) {
		give(&pcp, pfn, 4);
		cr_assert(stats().pcp_pages == 0);
		pfn = take(&pcp, 4, MIGRATE_UNMOVABLE);
		cr_assert(stats().pcp_pages == 0);
	}
	cr_assert(pcp.high == 0);
}

Test(pcp, zeroed_memory_is_an_empty_pcp, .init = start, .fini = finish)
{
	for (unsigned i = 0; i < 2000; i++) {
		pfn_t pfn = take(&unregistered, 4, MIGRATE_UNMOVABLE);

		cr_assert(pfn != 0);
		give(&unregistered, pfn, 4);
	}
	cr_assert(stats().free_pages == stats().total_pages);
}

Test(pcp, initialised_twice, .init = start, .fini = finish)
{
	give(&pcp, take(&pcp, 4, MIGRATE_UNMOVABLE), 4);
	pcp_init(&pcp);
	cr_assert(stats().pcp_pages == 0);
	core_check();
}

/* R1: what sat in a cache goes to the list of its block as that is now. */
Test(pcp, type_is_read_when_leaving, .init = start, .fini = finish)
{
	pfn_t pfn = take(&pcp, 4, MIGRATE_UNMOVABLE);
	struct pageblock *block = span_block(pfn);

	give(&pcp, pfn, 4);
	zone_lock();
	zone_set_type_locked(block, MIGRATE_MOVABLE);
	zone_unlock();
	pcp_drain(&pcp);
	cr_assert(pageblock_whole(block) && pageblock_type(block) == MIGRATE_MOVABLE);
	core_check();
	pfn = take(&pcp, 4, MIGRATE_MOVABLE);
	give(&pcp, pfn, 4);
	zone_lock();
	zone_set_isolated_locked(block, true);
	zone_unlock();
	pcp_drain(&pcp);
	cr_assert(stats().isolated_free_pages == 512);
	zone_lock();
	zone_set_type_locked(block, MIGRATE_CMA);
	zone_set_isolated_locked(block, false);
	zone_unlock();
	core_check();
	/* A page of CMA may be cached, as MOVABLE, and comes back to it. */
	pfn = zone_alloc(1, 0, MIGRATE_CMA, NULL);
	pcp_free(&pcp, pfn, 0);
	cr_assert(take(&pcp, 0, MIGRATE_MOVABLE) == pfn);
	give(&pcp, pfn, 0);
	pcp_drain(&pcp);
	cr_assert(pageblock_whole(block) && pageblock_type(block) == MIGRATE_CMA);
}

/* Isolate, drain, refill, drain: nothing of the block in the cache or on a list. */
Test(pcp, nothing_isolated_stays_cached, .init = start, .fini = finish)
{
	pfn_t runs[8];
	struct pageblock *block;

	for (unsigned i = 0; i < 8; i++)
		runs[i] = take(&pcp, 4, MIGRATE_UNMOVABLE);
	block = span_block(runs[0]);
	for (unsigned i = 0; i < 3; i++)
		give(&pcp, runs[i], 4);
	zone_lock();
	zone_set_isolated_locked(block, true);
	zone_unlock();
	pcp_drain(&pcp);
	for (unsigned i = 3; i < 8; i++)
		give(&pcp, runs[i], 4);
	for (unsigned i = 0; i < 20; i++)
		cr_assert(span_block(take(&pcp, 4, MIGRATE_UNMOVABLE)) != block);
	cr_assert(block->nr_free == 512);
}

Test(pcp, keeps_what_reads_as_zero_apart, .init = start, .fini = finish)
{
	bool zeroed = false;
	unsigned nr_zero = 0;
	pfn_t pfn = 0;

	/* Refilled, not handed out, drained: clean as before. */
	for (unsigned i = 0; i < 4; i++) {
		pfn = pcp_alloc(&pcp, 4, MIGRATE_UNMOVABLE, &zeroed);
		nr_zero += zeroed;
		fake_os_use(pfn, 16);
	}
	cr_assert(nr_zero == 4 && stats().pcp_pages > 0);
	pcp_drain(&pcp);
	cr_assert(stats().dirty_free_pages == 0);
	give(&pcp, pfn, 4);
	cr_assert(pcp_alloc(&pcp, 4, MIGRATE_UNMOVABLE, &zeroed) == pfn && !zeroed);
}

/* R10, R6: before an allocation fails, what caches hold is taken back. */
Test(pcp, an_allocation_drains_the_caches_before_it_fails, .init = start, .fini = finish)
{
	pfn_t mine, theirs;

	fake_os.commit_limit = PAGEBLOCK_BYTES;
	mine = take(&pcp, 4, MIGRATE_UNMOVABLE);
	theirs = take(&other, 4, MIGRATE_UNMOVABLE);
	give(&pcp, mine, 4);
	give(&other, theirs, 4);
	cr_assert(zone_alloc(512, 0, MIGRATE_MOVABLE, NULL) != 0);
	cr_assert(pcp_alloc(&pcp, 0, MIGRATE_MOVABLE, NULL) == 0);
}

Test(pcp, large_orders_go_to_the_zone, .init = start, .fini = finish)
{
	pfn_t pfn = pcp_alloc(&pcp, 9, MIGRATE_MOVABLE, NULL);

	cr_assert(pfn % 512 == 0);
	pcp_free(&pcp, pfn, 9);
	cr_assert(stats().pcp_pages == 0);
	pfn = pcp_alloc(&pcp, 2, MIGRATE_CMA, NULL);
	cr_assert(pfn == 0);
}

Test(pcp, core_fork_takes_and_gives_all_locks, .init = start, .fini = finish)
{
	struct lock heaps = {0};

	give(&pcp, take(&pcp, 4, MIGRATE_UNMOVABLE), 4);
	for (unsigned child = 0; child < 2; child++) {
		lock_acquire(&heaps, LOCK_HEAPS);
		core_fork_prepare();
		cr_assert(!lock_try(&pcp.lock, LOCK_PCP));
		cr_assert(!lock_try(&other.lock, LOCK_PCP));
		cr_assert(!lock_try(&zone.lock, LOCK_ZONE));
		(child ? core_fork_child : core_fork_parent)();
		lock_release(&heaps, LOCK_HEAPS);
		cr_assert(lock_try(&pcp.lock, LOCK_PCP));
		cr_assert(lock_try(&other.lock, LOCK_PCP));
		cr_assert(lock_try(&zone.lock, LOCK_ZONE));
		lock_release(&zone.lock, LOCK_ZONE);
		lock_release(&other.lock, LOCK_PCP);
		lock_release(&pcp.lock, LOCK_PCP);
	}
}

static void free_a_stranger(void)
{
	pcp_free(&pcp, 5, 0);
}

static pfn_t victim;

static void free_a_cached_run_to_the_zone(void)
{
	pcp_free(&pcp, victim, 4);
	zone_free(victim, 16);
	pcp_drain(&pcp);
}

Test(pcp, misuse_stops_the_program, .init = start)
{
	victim = pcp_alloc(&pcp, 4, MIGRATE_UNMOVABLE, NULL);
	cr_assert(dies_with(free_a_stranger, "check failed: page_is_ours at"));
	cr_assert(dies_with(free_a_cached_run_to_the_zone, "check failed: !page_is_free at"));
}
