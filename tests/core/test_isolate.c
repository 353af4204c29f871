/*
 * Isolation: owners, all or nothing, what it counts, and the caches (R1, R3 to R6, R8, R9).
 */
#include "core/isolate.h"

#include "tests/core/on_fake_os.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BLOCK PAGEBLOCK_PAGES
#define NR ((size_t)200)

static struct pcp pcp, other_pcp;
static pfn_t base;

/* NR blocks, all committed, free and clean. */
static void start(void)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.reserve_bytes = NR * PAGEBLOCK_BYTES,
		.decay_ns = 1000000,
		.thp_from_bytes = SIZE_MAX,
	};

	start_core(&config);
	base = zone_alloc(NR * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(base != 0);
	zone_mark_clean(base, NR * BLOCK);
	zone_free(base, NR * BLOCK);
	cr_assert(stats().free_pages == NR * BLOCK && stats().dirty_free_pages == 0);
}

/* Free runs per order as /proc/buddyinfo would show them: maximal aligned runs. */
static void free_per_order(size_t nr[PAGEBLOCK_ORDER + 1])
{
	memset(nr, 0, (PAGEBLOCK_ORDER + 1) * sizeof(*nr));
	for (size_t b = 0; b < NR; b++) {
		struct pageblock *block = span_block(base + b * BLOCK);

		if (pageblock_isolated(block))
			continue;
		for (unsigned i = 0; i < BLOCK;) {
			unsigned k = i == 0 ? PAGEBLOCK_ORDER : (unsigned)__builtin_ctz(i);

			if (!pageblock_bits_all(block->free, i, 1)) {
				i++;
				continue;
			}
			while (!pageblock_bits_all(block->free, i, 1u << k))
				k--;
			nr[k]++;
			i += 1u << k;
		}
	}
}

Test(isolate, bad_input_changes_nothing, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	struct core_stats before = stats(), after;
	pfn_t end = base + NR * BLOCK;

	cr_assert(owner != 0 && isolate_owner() != owner);
	cr_assert(isolate_range(base, 0, owner) == -EINVAL);
	cr_assert(isolate_range(base + 1, BLOCK, owner) == -EINVAL);
	cr_assert(isolate_range(base, BLOCK - 1, owner) == -EINVAL);
	cr_assert(isolate_range(base, BLOCK, 0) == -EINVAL);
	cr_assert(isolate_range(base, BLOCK, ISOLATE_OFFLINE) == -EINVAL);
	cr_assert(isolate_range(0, BLOCK, owner) == -ERANGE);
	cr_assert(isolate_range(base - BLOCK, BLOCK, owner) == -ERANGE);
	cr_assert(isolate_range(base - BLOCK, 2 * BLOCK, owner) == -ERANGE);
	cr_assert(isolate_range(end, BLOCK, owner) == -ERANGE);
	cr_assert(isolate_range(end - BLOCK, 2 * BLOCK, owner) == -ERANGE);
	cr_assert(isolate_range(base, SIZE_MAX - BLOCK + 1, owner) == -ERANGE);
	cr_assert(isolate_undo(base, 0, owner) == -EINVAL);
	cr_assert(isolate_undo(base, BLOCK, 0) == -EINVAL);
	cr_assert(isolate_undo(end, BLOCK, owner) == -ERANGE);
	cr_assert(isolate_undo(base, BLOCK, owner) == -EPERM);
	cr_assert(!isolate_test(base, 0) && !isolate_test(end, 1) && !isolate_test(0, 1));
	cr_assert(!isolate_test(end - 1, 2) && !isolate_test(base, SIZE_MAX));
	cr_assert(isolate_test(end - 1, 1) && isolate_test(base, NR * BLOCK));
	after = stats();
	cr_assert(memcmp(&before, &after, sizeof(before)) == 0);
}

Test(isolate, r9_the_loser_changes_nothing, .init = start, .fini = finish)
{
	uint32_t winner = isolate_owner(), loser = isolate_owner();

	cr_assert(isolate_range(base + 10 * BLOCK, 10 * BLOCK, winner) == 0);
	cr_assert(isolate_range(base + 5 * BLOCK, 6 * BLOCK, loser) == -EBUSY);
	cr_assert(isolate_range(base + 19 * BLOCK, 6 * BLOCK, loser) == -EBUSY);
	cr_assert(isolate_range(base + 12 * BLOCK, BLOCK, winner) == -EBUSY);
	cr_assert(stats().isolated_free_pages == 10 * BLOCK);
	cr_assert(stats().free_pages == (NR - 10) * BLOCK);
	cr_assert(stats().isolate_ok == 1 && stats().isolate_busy == 3);
	/* Nor can it open the winner's blocks, not even those beside its own. */
	cr_assert(isolate_undo(base + 10 * BLOCK, 10 * BLOCK, loser) == -EPERM);
	cr_assert(isolate_range(base + 20 * BLOCK, 5 * BLOCK, loser) == 0);
	cr_assert(isolate_undo(base + 15 * BLOCK, 10 * BLOCK, loser) == -EPERM);
	cr_assert(isolate_undo(base + 15 * BLOCK, 10 * BLOCK, winner) == -EPERM);
	cr_assert(stats().isolated_free_pages == 15 * BLOCK);
	cr_assert(isolate_undo(base + 20 * BLOCK, 5 * BLOCK, loser) == 0);
	/* A part may be opened alone. */
	cr_assert(isolate_undo(base + 12 * BLOCK, 3 * BLOCK, winner) == 0);
	cr_assert(isolate_undo(base + 10 * BLOCK, 10 * BLOCK, winner) == -EPERM);
	cr_assert(isolate_undo(base + 10 * BLOCK, 2 * BLOCK, winner) == 0);
	cr_assert(isolate_undo(base + 15 * BLOCK, 5 * BLOCK, winner) == 0);
	cr_assert(stats().isolated_free_pages == 0 && stats().free_pages == NR * BLOCK);
}

/* The conflict at each block of the range in turn, in every batch. */
Test(isolate, each_step_is_rolled_back, .init = start, .fini = finish)
{
	uint32_t other = isolate_owner(), owner = isolate_owner();

	for (size_t b = 0; b < NR; b++) {
		cr_assert(isolate_range(base + b * BLOCK, BLOCK, other) == 0);
		cr_assert(isolate_range(base, NR * BLOCK, owner) == -EBUSY);
		cr_assert(stats().isolated_free_pages == BLOCK);
		core_check();
		for (size_t i = 0; i < NR; i++)
			cr_assert(span_block(base + i * BLOCK)->owner == (i == b ? other : 0));
		cr_assert(isolate_undo(base + b * BLOCK, BLOCK, other) == 0);
	}
	cr_assert(isolate_range(base, NR * BLOCK, owner) == 0);
	cr_assert(isolate_undo(base, NR * BLOCK, owner) == 0);
	cr_assert(stats().free_pages == NR * BLOCK);
}

static unsigned windows;

static void isolate_in_window(void *addr, size_t bytes)
{
	uint32_t owner = isolate_owner();
	pfn_t pfn = pfn_of(addr);

	(void)bytes;
	windows++;
	cr_assert(isolate_range(pfn, BLOCK, owner) == -EBUSY);
	cr_assert(isolate_range(base, NR * BLOCK, owner) == -EBUSY);
	cr_assert(!isolate_test(pfn, BLOCK));
	cr_assert(stats().isolated_free_pages == 0);
	core_check();
}

Test(isolate, a_block_being_purged_is_busy, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t pfn = take_pages(BLOCK, MIGRATE_MOVABLE);

	give_pages(pfn, BLOCK);
	fake_os.during_purge = isolate_in_window;
	cr_assert(purge_all() == PAGEBLOCK_BYTES && windows == 1);
	fake_os.during_purge = NULL;
	cr_assert(isolate_range(pfn, BLOCK, owner) == 0);
	cr_assert(isolate_undo(pfn, BLOCK, owner) == 0);
}

/* R3: each block isolated and undone in random order, on a wholly free pool and on one in
 * use: the free runs of each order are what they were. */
static void isolate_in_random_order(uint64_t seed)
{
	size_t before[PAGEBLOCK_ORDER + 1], after[PAGEBLOCK_ORDER + 1];
	uint32_t owners[NR] = {0};
	size_t order[NR];
	struct random random;

	random_seed(&random, seed);
	free_per_order(before);
	for (size_t i = 0; i < NR; i++) {
		size_t k = random_below(&random, i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (size_t i = 0; i < NR; i++) {
		owners[order[i]] = isolate_owner();
		cr_assert(isolate_range(base + order[i] * BLOCK, BLOCK, owners[order[i]]) == 0);
	}
	cr_assert(stats().free_pages == 0 && zone_alloc(1, 0, MIGRATE_MOVABLE, NULL) == 0);
	for (size_t i = 0; i < NR; i++) {
		size_t b = order[(i * 7 + 3) % NR];

		cr_assert(isolate_undo(base + b * BLOCK, BLOCK, owners[b]) == 0);
	}
	free_per_order(after);
	cr_assert(memcmp(before, after, sizeof(before)) == 0);
	core_check();
}

Test(isolate, r3_random_order_leaves_the_free_counts, .init = start, .fini = finish)
{
	size_t orders[PAGEBLOCK_ORDER + 1];
	pfn_t pfn;

	for (uint64_t seed = 1; seed <= 20; seed++)
		isolate_in_random_order(seed);
	free_per_order(orders);
	cr_assert(orders[PAGEBLOCK_ORDER] == NR);
	pfn = take_pages(5000, MIGRATE_MOVABLE);
	for (unsigned i = 0; i + 3 <= 5000; i += 7)
		give_pages(pfn + i, 3);
	for (uint64_t seed = 1; seed <= 20; seed++)
		isolate_in_random_order(seed);
}

/* R4: only what is free on the block counts, whatever the block's type says. */
Test(isolate, r4_the_test_looks_at_what_is_free, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t pfn, cached;

	pcp_init(&pcp);
	pfn = take_pages(20, MIGRATE_MOVABLE);
	cached = pcp_alloc(&pcp, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(cached / BLOCK == pfn / BLOCK);
	pcp_free(&pcp, cached, 0);
	cr_assert(stats().pcp_pages > 0);
	cr_assert(isolate_range(pfn, BLOCK, owner) == 0);
	give_pages(pfn, 20);
	/* Free for the program, but not on the block. */
	cr_assert(stats().allocated_pages == 0 && !isolate_test(pfn, BLOCK));
	cr_assert(isolate_test(pfn, 20));
	pcp_drain_all();
	cr_assert(isolate_test(pfn, BLOCK));
	cr_assert(stats().isolated_free_pages == BLOCK && stats().free_pages == (NR - 1) * BLOCK);
	/* All of the isolated block is free, and none of it can be had. */
	for (unsigned i = 0; i < 1000; i++) {
		pfn_t run = pcp_alloc(&pcp, i % PCP_ORDERS, MIGRATE_MOVABLE, NULL);

		cr_assert(run != 0 && run / BLOCK != pfn / BLOCK);
	}
	cr_assert(isolate_undo(pfn, BLOCK, owner) == 0);
}

/* R1: isolate, drain, refill, drain: a page is never on a list but its block's. */
Test(isolate, r1_a_cached_page_goes_home, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t runs[256];
	unsigned nr = 0;

	cr_assert(cma_reserve(4 * PAGEBLOCK_BYTES) == 0);
	pcp_init(&pcp);
	/* Borrow all of the reserve, because there is nothing else. */
	cr_assert(isolate_range(base + 4 * BLOCK, (NR - 4) * BLOCK, owner) == 0);
	while (nr < 256 && (runs[nr] = pcp_alloc(&pcp, 3, MIGRATE_MOVABLE, NULL)) != 0)
		nr++;
	cr_assert(nr == 256 && runs[0] / BLOCK < base / BLOCK + 4);
	for (unsigned i = 0; i < nr; i++) {
		pcp_free(&pcp, runs[i], 3);
		if (i == 100)
			cr_assert(isolate_range(base, 2 * BLOCK, owner) == 0);
		if (i == 200)
			pcp_drain_all();
		if (i == 220)
			cr_assert(isolate_undo(base, 2 * BLOCK, owner) == 0);
		for (unsigned b = 0; b < 4; b++)
			cr_assert(pageblock_type(span_block(base + b * BLOCK)) == MIGRATE_CMA);
		core_check();
	}
	/* From the cache to another MOVABLE request, and back. */
	runs[0] = pcp_alloc(&pcp, 3, MIGRATE_MOVABLE, NULL);
	cr_assert(runs[0] != 0 && pcp_alloc(&pcp, 3, MIGRATE_UNMOVABLE, NULL) == 0);
	pcp_free(&pcp, runs[0], 3);
	pcp_drain_all();
	cr_assert(stats().cma_free_pages == 4 * BLOCK && stats().cma_total_pages == 4 * BLOCK);
	cr_assert(stats().free_pages == 4 * BLOCK);
	for (unsigned b = 0; b < 4; b++)
		cr_assert(span_block(base + b * BLOCK)->order == PAGEBLOCK_ORDER);
}

/* R8: a run over several blocks, one of them isolated, is freed in one piece. */
Test(isolate, r8_a_run_over_several_blocks, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t pfn = take_pages(4 * BLOCK + 10, MIGRATE_MOVABLE);

	cr_assert(pfn == base);
	cr_assert(isolate_range(base + BLOCK, BLOCK, owner) == 0);
	cr_assert(isolate_range(base + (NR - 1) * BLOCK, BLOCK, owner) == 0);
	give_pages(pfn + 5, 4 * BLOCK);
	cr_assert(stats().isolated_free_pages == 2 * BLOCK);
	cr_assert(isolate_test(base + BLOCK, 3 * BLOCK) && !isolate_test(base, BLOCK));
	core_check();
	/* Never past the last block. */
	cr_assert(isolate_test(base + (NR - 1) * BLOCK, BLOCK));
	cr_assert(isolate_undo(base + BLOCK, BLOCK, owner) == 0);
	cr_assert(isolate_undo(base + (NR - 1) * BLOCK, BLOCK, owner) == 0);
	give_pages(pfn, 5);
	give_pages(pfn + 4 * BLOCK + 5, 5);
	cr_assert(stats().free_pages == NR * BLOCK);
}

/* --- caches against isolation ---------------------------------------------------------- */

static pfn_t paused_pfn;

static void *free_one(void *arg)
{
	(void)arg;
	pcp_free(&other_pcp, paused_pfn, 4);
	return NULL;
}

/* Starts a thread that has read the type of a page's block, and not yet pushed. */
static pthread_t paused_free(void)
{
	pthread_t thread;

	pcp_init(&other_pcp);
	paused_pfn = pcp_alloc(&other_pcp, 4, MIGRATE_MOVABLE, NULL);
	cr_assert(paused_pfn != 0);
	pcp_drain_all();
	lock_acquire(&other_pcp.lock, LOCK_PCP);
	cr_assert(pthread_create(&thread, NULL, free_one, NULL) == 0);
	while ((atomic_load(&other_pcp.lock.state) & 0xff) != LOCK_SLEPT_ON)
		os_yield();
	return thread;
}

/*
 * R5: what closes it is the pcp's lock.  The drain takes it after the block was marked, so
 * a push before the drain is drained, and a push after it sees the mark.
 */
Test(isolate, r5_paused_before_the_push, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pthread_t thread = paused_free();

	cr_assert(isolate_range(round_down(paused_pfn, BLOCK), BLOCK, owner) == 0);
	lock_release(&other_pcp.lock, LOCK_PCP);
	pcp_drain_all();
	(void)pthread_join(thread, NULL);
	cr_assert(stats().pcp_pages == 0);
	cr_assert(isolate_test(round_down(paused_pfn, BLOCK), BLOCK));
	cr_assert(isolate_undo(round_down(paused_pfn, BLOCK), BLOCK, owner) == 0);
}

Test(isolate, r5_paused_before_the_push_hard, .init = start, .fini = finish)
{
	pthread_t thread = paused_free();

	lock_release(&other_pcp.lock, LOCK_PCP);
	pcp_disable();
	(void)pthread_join(thread, NULL);
	cr_assert(stats().pcp_pages == 0 && other_pcp.high == 0);
	pcp_enable();
	cr_assert(other_pcp.high > 0);
}

/* R6: caches of threads that are gone are drained as well, and new ones start disabled. */
Test(isolate, r6_every_cache_is_covered, .init = start, .fini = finish)
{
	uint64_t drains;
	uint32_t high;
	pfn_t pfn;

	pcp_init(&other_pcp);
	pfn = pcp_alloc(&other_pcp, 2, MIGRATE_MOVABLE, NULL);
	pcp_free(&other_pcp, pfn, 2);
	cr_assert(stats().pcp_pages > 0);
	high = other_pcp.high;
	drains = stats().pcp_drains;
	pcp_disable();
	cr_assert(stats().pcp_pages == 0 && stats().pcp_drains == drains + 1);
	pcp_init(&pcp);
	cr_assert(pcp.high == 0);
	pcp_disable();
	for (unsigned i = 0; i < 2000; i++) {
		struct pcp *here = i % 2 == 0 ? &pcp : &other_pcp;

		pfn = pcp_alloc(here, i % PCP_ORDERS, (enum migratetype)(i % PCP_TYPES), NULL);
		cr_assert(pfn != 0 && stats().pcp_pages == 0);
		pcp_free(here, pfn, i % PCP_ORDERS);
		cr_assert(stats().pcp_pages == 0);
	}
	/* Restored when the last one ends. */
	pcp_enable();
	cr_assert(pcp.high == 0 && other_pcp.high == 0);
	pcp_enable();
	cr_assert(pcp.high > 0 && other_pcp.high == high);
	pfn = pcp_alloc(&pcp, 2, MIGRATE_MOVABLE, NULL);
	pcp_free(&pcp, pfn, 2);
	cr_assert(stats().pcp_pages > 0);
}

/* Isolating and undoing with nothing live: 5 GiB/s and 5 us a block are asked for. */
Test(isolate, speed_with_nothing_live, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	struct timespec from, to;
	double ns_a_block;
	unsigned rounds = 500;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (unsigned i = 0; i < rounds; i++) {
		cr_assert(isolate_range(base, NR * BLOCK, owner) == 0);
		cr_assert(isolate_undo(base, NR * BLOCK, owner) == 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	ns_a_block = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
		     (double)(rounds * NR);
	fprintf(stderr, "isolate and undo: %.0f ns a block, %.0f GiB/s\n", ns_a_block,
		1e9 / ns_a_block / 512);
	cr_assert(PB_DEBUG > 0 || ns_a_block < 5000);
}

/* In the child of a fork nobody is left to finish what other threads were at. */
Test(isolate, fork_child_undoes_calls_in_progress, .init = start, .fini = finish)
{
	uint32_t mine = isolate_owner(), calls = isolate_owner_core();

	pcp_init(&pcp);
	cr_assert(isolate_range(base, BLOCK, mine) == 0);
	cr_assert(isolate_range(base + BLOCK, 3 * BLOCK, calls) == 0);
	core_fork_prepare();
	core_fork_child();
	cr_assert(stats().isolated_free_pages == BLOCK);
	cr_assert(isolate_undo(base, BLOCK, mine) == 0);
}
