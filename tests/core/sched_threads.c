/*
 * The interleavings of the five mailing-list threads the project comes from, step by step.
 *
 * Each test is named after its thread and says who is stopped where.  They run on core's
 * debug build with all counters compared at every drop of the zone lock.
 */
#include "core/isolate.h"
#include "tests/core/on_fake_os.h"
#include "tests/support/dies.h"
#include "tests/support/sched.h"

#include <criterion/criterion.h>
#include <errno.h>

#define BLOCK PAGEBLOCK_PAGES
#define NR ((size_t)16)

static struct pcp pcps[3];
static pfn_t base;
static uint32_t owner;

/* NR blocks, free and clean, and all there is. */
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
	fake_os.yield_ns = 1000;
	base = zone_alloc(NR * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(base != 0);
	zone_mark_clean(base, NR * BLOCK);
	zone_free(base, NR * BLOCK);
	for (unsigned i = 0; i < 2; i++)
		pcp_init(&pcps[i]);
	owner = isolate_owner();
	core_check_every(1);
}

static void finish_own(void)
{
	sched_end();
	finish();
}

static struct pageblock *block_at(pfn_t pfn)
{
	return span_block(pfn);
}

static pfn_t block_start(pfn_t pfn)
{
	return round_down(pfn, BLOCK);
}

/* --- what threads do ------------------------------------------------------------------- */

static pfn_t the_pfn;
static size_t the_nr;
static int result;

static pfn_t take(size_t nr_pages)
{
	the_pfn = zone_alloc(nr_pages, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(the_pfn != 0);
	the_nr = nr_pages;
	return the_pfn;
}

/* A run of 16 pages from a cache, which is empty afterwards. */
static pfn_t take_cached(void)
{
	the_pfn = pcp_alloc(&pcps[1], 4, MIGRATE_MOVABLE, NULL);
	cr_assert(the_pfn != 0);
	pcp_drain_all();
	return the_pfn;
}

static void *free_to_zone(void *arg)
{
	(void)arg;
	zone_free(the_pfn, the_nr);
	return NULL;
}

static void *free_to_cache(void *arg)
{
	(void)arg;
	pcp_free(&pcps[1], the_pfn, 4);
	return NULL;
}

static void *alloc_cached(void *arg)
{
	pfn_t *pfn = arg;

	*pfn = pcp_alloc(&pcps[1], 4, MIGRATE_MOVABLE, NULL);
	return NULL;
}

static void *isolate_its_block(void *arg)
{
	(void)arg;
	result = isolate_range(block_start(the_pfn), BLOCK, owner);
	return NULL;
}

static void *isolate_and_drain(void *arg)
{
	(void)isolate_its_block(arg);
	pcp_drain_all();
	return NULL;
}

static void *isolate_and_disable(void *arg)
{
	pcp_disable();
	(void)isolate_its_block(arg);
	return NULL;
}

static void *drain(void *arg)
{
	(void)arg;
	pcp_drain_all();
	return NULL;
}

static unsigned is_disabled; /* by how many at this moment */

static void *disable_and_enable(void *arg)
{
	(void)arg;
	pcp_disable();
	is_disabled++;
	os_yield();
	is_disabled--;
	pcp_enable();
	return NULL;
}

static void *init_cache(void *arg)
{
	pcp_init(arg);
	return NULL;
}

static void undo(void)
{
	cr_assert(isolate_undo(block_start(the_pfn), BLOCK, owner) == 0);
}

/* The whole block is free on itself, counted as isolated, and nowhere else. */
static void assert_isolated_whole(void)
{
	struct pageblock *block = block_at(the_pfn);

	cr_assert(result == 0 && stats().pcp_pages == 0);
	cr_assert(isolate_test(block_start(the_pfn), BLOCK));
	cr_assert(pageblock_isolated(block) && block->nr_free == BLOCK);
	cr_assert(stats().isolated_free_pages == BLOCK);
	cr_assert(stats().free_pages == stats().total_pages - BLOCK);
}

/* --- thread 000: one truth about a free page, its block ----------------------------------- */

/* Freed while its block is being isolated: nothing but the free bit says that it is free. */
Test(thread_000, a_page_freed_into_an_isolated_block, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take(16);
	freer = sched_spawn(free_to_zone, NULL);
	isolator = sched_spawn(isolate_its_block, NULL);
	cr_assert(sched_run_to(freer, PAUSE_ZONE_FREE));
	cr_assert(sched_run(isolator));
	cr_assert(!isolate_test(block_start(the_pfn), BLOCK));
	cr_assert(sched_run(freer));
	assert_isolated_whole();
	undo();
}

/* A page in a cache is not isolated, whoever last had the block's type. */
Test(thread_000, cached_pages_do_not_count_as_isolated, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take_cached();
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_drain, NULL);
	cr_assert(sched_run(freer) && stats().pcp_pages == 16);
	cr_assert(sched_run_to(isolator, PAUSE_PCP_FLUSH));
	cr_assert(result == 0 && stats().allocated_pages == 0);
	cr_assert(!isolate_test(block_start(the_pfn), BLOCK));
	cr_assert(sched_run(isolator));
	assert_isolated_whole();
	undo();
}

/* expand(): what an allocation leaves of a larger run belongs to the block, not to a type
 * it once had. */
Test(thread_000, what_a_split_leaves, .init = start, .fini = finish_own)
{
	unsigned allocator, isolator;
	pfn_t pfn = 0;

	/* Its block has been written to and goes first. */
	pcp_free(&pcps[0], take_cached(), 4);
	pcp_drain_all();
	allocator = sched_spawn(alloc_cached, &pfn);
	isolator = sched_spawn(isolate_and_drain, NULL);
	/* The run is out of the block; the rest of the block is isolated; it is handed out. */
	cr_assert(sched_run_to(allocator, PAUSE_PCP_REFILL));
	cr_assert(!sched_run(isolator) && result == 0);
	cr_assert(stats().isolated_free_pages == BLOCK - 16);
	cr_assert(sched_run(allocator) && sched_run(isolator));
	cr_assert(pfn == the_pfn && !isolate_test(block_start(pfn), BLOCK));
	pcp_free(&pcps[1], pfn, 4);
	assert_isolated_whole();
	undo();
}

/* --- thread 001: free pages are counted once, and where they are ------------------------------ */

/* Patch 1: what a free knew before it had the lock is not what it counts by. */
Test(thread_001, the_type_is_read_under_the_lock, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take(BLOCK);
	freer = sched_spawn(free_to_zone, NULL);
	isolator = sched_spawn(isolate_its_block, NULL);
	cr_assert(sched_run_to(freer, PAUSE_ZONE_FREE));
	cr_assert(sched_run(isolator) && stats().isolated_free_pages == 0);
	cr_assert(sched_run(freer));
	assert_isolated_whole();
	/* The other way round. */
	undo();
	take(BLOCK);
	result = isolate_range(block_start(the_pfn), BLOCK, owner);
	freer = sched_spawn(free_to_zone, NULL);
	cr_assert(sched_run_to(freer, PAUSE_ZONE_FREE));
	undo();
	cr_assert(sched_run(freer));
	cr_assert(stats().free_pages == stats().total_pages && stats().isolated_free_pages == 0);
}

/* Patch 2: pages cached before the isolation leave the cache for the isolated block. */
Test(thread_001, cached_pages_are_counted_by_their_block, .init = start, .fini = finish_own)
{
	unsigned drainer;

	take_cached();
	pcp_free(&pcps[1], the_pfn, 4);
	drainer = sched_spawn(drain, NULL);
	cr_assert(sched_run_to(drainer, PAUSE_PCP_FLUSH));
	result = isolate_range(block_start(the_pfn), BLOCK, owner);
	cr_assert(sched_run(drainer));
	assert_isolated_whole();
	undo();
	cr_assert(stats().free_pages == stats().total_pages);
}

/* Patch 4: free pages of isolated and of open blocks do not become one run. */
Test(thread_001, no_run_of_mixed_blocks, .init = start, .fini = finish_own)
{
	unsigned freer;
	pfn_t mixed;

	cr_assert(cma_reserve(2 * PAGEBLOCK_BYTES) == 0);
	take(3 * BLOCK);
	cr_assert(isolate_range(the_pfn + BLOCK, BLOCK, owner) == 0);
	freer = sched_spawn(free_to_zone, NULL);
	cr_assert(sched_run(freer));
	cr_assert(stats().isolated_free_pages == BLOCK && stats().cma_free_pages == 2 * BLOCK);
	/* Neither over the isolated block nor over the end of the reserve. */
	mixed = zone_alloc((NR - 4) * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(mixed == the_pfn + 2 * BLOCK);
	zone_free(mixed, (NR - 4) * BLOCK);
	cr_assert(zone_alloc((NR - 3) * BLOCK, 0, MIGRATE_MOVABLE, NULL) == 0);
	cr_assert(isolate_undo(the_pfn + BLOCK, BLOCK, owner) == 0);
	/* Opened, it joins its neighbours again. */
	mixed = zone_alloc((NR - 2) * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(mixed == the_pfn);
	zone_free(mixed, (NR - 2) * BLOCK);
	cr_assert(zone_alloc((NR - 1) * BLOCK, 0, MIGRATE_MOVABLE, NULL) == 0);
}

static void *alloc_contig(void *arg)
{
	(void)arg;
	result = contig_alloc_range(base + 100, BLOCK, 0, 0);
	return NULL;
}

static void *alloc_all(void *arg)
{
	size_t *nr = arg;

	while (zone_alloc(4, 2, MIGRATE_MOVABLE, NULL) != 0)
		*nr += 4;
	return NULL;
}

/* R8: taking the run out of its isolated blocks and opening these is one step, whatever an
 * allocation that comes between does: it is let in at each stop in turn. */
static void contig_with_an_allocation_at(unsigned stop)
{
	size_t nr = 0;
	unsigned contig = sched_spawn(alloc_contig, NULL);
	unsigned other = sched_spawn(alloc_all, &nr);

	for (unsigned i = 0; i < stop && sched_step(contig); i++)
		;
	if (!sched_run(other))
		cr_assert(sched_run(contig) && sched_run(other));
	else
		cr_assert(sched_run(contig));
	sched_end();
	/* It had all of it or none; what the other found isolated is left. */
	cr_assert(result == 0 || result == -EBUSY);
	cr_assert(stats().allocated_pages == nr + (result == 0 ? BLOCK : 0));
	core_check();
}

/* Each in a process of its own. */
#define CONTIG_AT(n)                                                                           \
	Test(thread_001, r8_a_run_is_taken_in_one_step_##n, .init = start)                        \
	{                                                                                      \
		contig_with_an_allocation_at(n);                                               \
	}
CONTIG_AT(1)
CONTIG_AT(2)
CONTIG_AT(3)
CONTIG_AT(4)
CONTIG_AT(5)
CONTIG_AT(6)
CONTIG_AT(7)
CONTIG_AT(8)
CONTIG_AT(9)
CONTIG_AT(10)
CONTIG_AT(11)
CONTIG_AT(12)
CONTIG_AT(13)
CONTIG_AT(14)
CONTIG_AT(15)
CONTIG_AT(16)

/* --- thread 002: flag words ------------------------------------------------------------------ */

static struct lock lock;
static unsigned nr_had_it;

static void *hold_it(void *arg)
{
	(void)arg;
	lock_acquire(&lock, LOCK_ZONE);
	nr_had_it++;
	lock_release(&lock, LOCK_ZONE);
	return NULL;
}

/*
 * The lock's word holds two flags, held and slept on.  A holder that clears the one by
 * reading and writing loses the other, set by a waiter in between, and nobody wakes it: at
 * each stop of the holder, with one waiter and with two.
 */
Test(thread_002, r7_clearing_one_flag_does_not_lose_the_other, .init = start, .fini = finish_own)
{
	for (unsigned stop = 1; stop < 8; stop++)
		for (unsigned nr = 1; nr <= 2; nr++) {
			unsigned holder = sched_spawn(hold_it, NULL);
			unsigned waiters[2];

			nr_had_it = 0;
			for (unsigned i = 0; i < stop; i++)
				(void)sched_step(holder);
			for (unsigned i = 0; i < nr; i++) {
				waiters[i] = sched_spawn(hold_it, NULL);
				(void)sched_run(waiters[i]);
			}
			cr_assert(sched_run(holder));
			for (unsigned i = 0; i < nr; i++)
				cr_assert(sched_run(waiters[i]) ||
						  sched_state(waiters[i]) == SCHED_ENDED,
					  "waiter %u sleeps for ever, stop %u", i, stop);
			cr_assert(nr_had_it == nr + 1);
			sched_end();
		}
}

/* Type and isolation change next to each other, each in a word of its own. */
static void *change_type(void *arg)
{
	(void)arg;
	/* Growing a run in place takes the next block over. */
	result = zone_extend(the_pfn - BLOCK, BLOCK, 2 * BLOCK, NULL);
	return NULL;
}

static void *isolate_it(void *arg)
{
	(void)arg;
	cr_assert(isolate_range(the_pfn, BLOCK, owner) == 0);
	return NULL;
}

Test(thread_002, neighbouring_fields_do_not_undo_each_other, .init = start, .fini = finish_own)
{
	struct pageblock *block = block_at(base + BLOCK);

	STATIC_ASSERT(sizeof(block->type) == 1 && sizeof(block->isolated) == 1,
		      "bytes, each stored by itself");
	for (unsigned stop = 0; stop < 12; stop++) {
		unsigned changer, isolator;

		the_pfn = zone_alloc(BLOCK + 1, 0, MIGRATE_UNMOVABLE, NULL) + BLOCK;
		cr_assert(the_pfn == base + BLOCK);
		zone_free(the_pfn, 1);
		zone_lock();
		zone_set_type_locked(block, MIGRATE_MOVABLE);
		zone_unlock();
		changer = sched_spawn(change_type, NULL);
		isolator = sched_spawn(isolate_it, NULL);
		for (unsigned i = 0; i < stop; i++)
			(void)sched_step(isolator);
		if (!sched_run(changer))
			cr_assert(sched_run(isolator) && sched_run(changer));
		cr_assert(sched_run(isolator) || sched_state(isolator) == SCHED_ENDED);
		cr_assert(pageblock_isolated(block) && block->owner == owner);
		cr_assert(pageblock_type(block) == (result ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE));
		undo();
		zone_free(base, result ? 2 * BLOCK : BLOCK);
		sched_end();
	}
}

/*
 * "refcount is 0": a block's words are written plainly only while nobody can find it.  The
 * assertion says so for every block from the first one on; start() has come by it NR times.
 */
static void assert_seen(void)
{
	span_assert_unseen(the_pfn);
}

Test(thread_002, r7_plain_writes_before_anybody_sees, .init = start, .fini = finish_own)
{
	span_assert_unseen(base - 1);
	span_assert_unseen(base + NR * BLOCK);
	for (the_pfn = base; the_pfn < base + NR * BLOCK; the_pfn += 5 * BLOCK)
		cr_assert(dies_with(assert_seen, "check failed: block_is_unseen"));
	/* More blocks for a second span: unseen until their words are there. */
	fake_os.reserve_limit = SIZE_MAX;
	the_pfn = zone_alloc(2 * NR * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(the_pfn != 0 && dies_with(assert_seen, "check failed: block_is_unseen"));
	zone_free(the_pfn, 2 * NR * BLOCK);
}

/* --- thread 003: disabling the caches -------------------------------------------------------- */

/* Fast: stopped before the push and after it, the drain comes second or first. */
Test(thread_003, stopped_before_the_lock_then_drained, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take_cached();
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_drain, NULL);
	cr_assert(sched_run_to(freer, PAUSE_PCP_FREE_TYPE_READ));
	cr_assert(sched_run(isolator));
	cr_assert(sched_run(freer));
	assert_isolated_whole();
	undo();
}

/* The cache looks empty when the drain comes by, but somebody is about to push. */
Test(thread_003, a_cache_that_looks_empty, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take_cached();
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_drain, NULL);
	cr_assert(sched_run_to(freer, PAUSE_PCP_FREE_PUSH) && stats().pcp_pages == 0);
	/* It waits for the cache's lock. */
	cr_assert(!sched_run(isolator) && sched_state(isolator) == SCHED_BLOCKED);
	cr_assert(sched_run(freer) && sched_run(isolator));
	assert_isolated_whole();
	undo();
}

/* Hard: whoever has not seen high = 0 holds the cache's lock, which the disabler takes. */
Test(thread_003, stopped_before_the_push_then_disabled, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take_cached();
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_disable, NULL);
	cr_assert(sched_run_to(freer, PAUSE_PCP_FREE_PUSH));
	cr_assert(!sched_run(isolator));
	cr_assert(sched_run(freer) && sched_run(isolator));
	assert_isolated_whole();
	cr_assert(pcps[1].high == 0);
	undo();
}

Test(thread_003, stopped_before_the_lock_then_disabled, .init = start, .fini = finish_own)
{
	unsigned freer, isolator;

	take_cached();
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_disable, NULL);
	cr_assert(sched_run_to(freer, PAUSE_PCP_FREE_TYPE_READ));
	cr_assert(sched_run(isolator) && sched_run(freer));
	assert_isolated_whole();
	undo();
}

/* A refill brings runs into a cache that was disabled while it was at it. */
Test(thread_003, a_refill_across_the_disabling, .init = start, .fini = finish_own)
{
	unsigned allocator, disabler;
	pfn_t pfn = 0;

	/* The second refill in a row brings more than one. */
	for (unsigned i = 0; i < 2; i++)
		pcp_free(&pcps[0], pcp_alloc(&pcps[1], 4, MIGRATE_MOVABLE, NULL), 4);
	(void)pcp_alloc(&pcps[1], 4, MIGRATE_MOVABLE, NULL);
	allocator = sched_spawn(alloc_cached, &pfn);
	disabler = sched_spawn(disable_and_enable, NULL);
	while (stats().pcp_pages != 0) {
		unsigned drainer = sched_spawn(drain, NULL);

		cr_assert(sched_run(drainer));
	}
	cr_assert(sched_run_to(allocator, PAUSE_PCP_REFILL));
	cr_assert(!sched_run(disabler) && sched_state(disabler) == SCHED_BLOCKED);
	cr_assert(sched_run(allocator));
	while (pcps[1].high != 0)
		cr_assert(sched_step(disabler));
	while (stats().pcp_pages != 0)
		cr_assert(sched_step(disabler) && pcps[1].high == 0);
	cr_assert(pcps[1].high == 0);
	cr_assert(sched_run(disabler) && pcps[1].high != 0);
}

/* Several at once: the caches come back with the last one, at whichever stop of the first
 * one's enabling the second comes. */
Test(thread_003, several_disable_at_once, .init = start, .fini = finish_own)
{
	uint32_t high = pcps[0].high;
	bool more = true;

	for (unsigned stop = 1; more; stop++) {
		unsigned first = sched_spawn(disable_and_enable, NULL);
		unsigned second = sched_spawn(disable_and_enable, NULL);

		for (unsigned i = 0; i < stop && more; i++)
			more = sched_step(first);
		/* Until the second has them disabled; it may have to wait for a lock. */
		is_disabled = 0;
		while (is_disabled == 0 || sched_state(first) == SCHED_READY) {
			bool ran = is_disabled == 0 && sched_step(second);

			if (!ran && !sched_step(first))
				cr_assert(is_disabled > 0 || sched_state(second) != SCHED_BLOCKED,
					  "both wait for ever");
			if (is_disabled > 0)
				cr_assert(pcps[0].high == 0 && pcps[1].high == 0);
			if (sched_state(second) == SCHED_ENDED)
				break;
		}
		cr_assert(sched_run(second) || sched_state(second) == SCHED_ENDED);
		cr_assert(sched_run(first) || sched_state(first) == SCHED_ENDED);
		cr_assert(pcps[0].high == high && pcps[1].high == high);
		sched_end();
	}
}

/* A cache that is made while others are being disabled starts disabled, and is enabled with
 * them, at whichever stop of the disabler it is made. */
Test(thread_003, a_cache_made_meanwhile, .init = start, .fini = finish_own)
{
	unsigned disabler = sched_spawn(disable_and_enable, NULL);
	unsigned maker = sched_spawn(init_cache, &pcps[2]);

	cr_assert(sched_run_to(disabler, PAUSE_PCP_DISABLE));
	cr_assert(sched_run_to(maker, PAUSE_PCP_INIT) && pcps[2].high == 0);
	cr_assert(sched_run_to(disabler, PAUSE_PCP_DRAIN_NEXT));
	cr_assert(sched_run(maker) && pcps[2].high == 0);
	cr_assert(sched_run(disabler) && pcps[2].high > 0);
}

Test(thread_003, a_cache_made_while_enabling, .init = start, .fini = finish_own)
{
	unsigned disabler = sched_spawn(disable_and_enable, NULL);
	unsigned maker = sched_spawn(init_cache, &pcps[2]);

	cr_assert(sched_run_to(maker, PAUSE_PCP_INIT));
	cr_assert(sched_run_to(disabler, PAUSE_PCP_ENABLE));
	cr_assert(sched_run(maker) && sched_run(disabler));
	cr_assert(pcps[0].high > 0 && pcps[2].high > 0);
}

/* --- thread 004: isolate, drain, refill, drain ------------------------------------------------ */

/*
 * The path to destruction, with everything but the reserve isolated so that there is
 * nothing but the reserve to refill from: a page cached before the isolation, drained
 * after it, must not be found by a refill nor change the block's type.
 */
Test(thread_004, isolate_drain_refill_drain, .init = start, .fini = finish_own)
{
	uint32_t rest = isolate_owner();
	unsigned freer, isolator;
	pfn_t pfn, other;

	cr_assert(cma_reserve(2 * PAGEBLOCK_BYTES) == 0);
	cr_assert(isolate_range(base + 2 * BLOCK, (NR - 2) * BLOCK, rest) == 0);
	the_pfn = take_cached();
	cr_assert(pageblock_type(block_at(the_pfn)) == MIGRATE_CMA);
	freer = sched_spawn(free_to_cache, NULL);
	isolator = sched_spawn(isolate_and_drain, NULL);
	/* The type is read, the block isolated, and then comes the push. */
	cr_assert(sched_run_to(freer, PAUSE_PCP_FREE_PUSH));
	cr_assert(!sched_run(isolator) && result == 0);
	cr_assert(sched_run(freer) && sched_run(isolator));
	cr_assert(stats().pcp_pages == 0 && isolate_test(block_start(the_pfn), BLOCK));
	/* The refill finds the other block of the reserve, never this one. */
	pfn = pcp_alloc(&pcps[0], 4, MIGRATE_MOVABLE, NULL);
	cr_assert(pfn != 0 && block_start(pfn) != block_start(the_pfn));
	other = pcp_alloc(&pcps[0], 4, MIGRATE_RECLAIMABLE, NULL);
	cr_assert(other != 0 && block_start(other) != block_start(the_pfn));
	cr_assert(pcp_alloc(&pcps[0], 4, MIGRATE_UNMOVABLE, NULL) == 0);
	pcp_free(&pcps[0], pfn, 4);
	pcp_free(&pcps[0], other, 4);
	pcp_drain_all();
	for (unsigned b = 0; b < 2; b++)
		cr_assert(pageblock_type(block_at(base + b * BLOCK)) == MIGRATE_CMA);
	cr_assert(stats().cma_free_pages == BLOCK);
	undo();
	cr_assert(stats().cma_free_pages == 2 * BLOCK && stats().cma_total_pages == 2 * BLOCK);
	cr_assert(isolate_undo(base + 2 * BLOCK, (NR - 2) * BLOCK, rest) == 0);
}

/* The same with the isolation between two drains: what was cached goes home as it is. */
Test(thread_004, a_reserve_stays_one, .init = start, .fini = finish_own)
{
	uint32_t rest = isolate_owner();
	unsigned drainer;

	cr_assert(cma_reserve(PAGEBLOCK_BYTES) == 0);
	cr_assert(isolate_range(base + BLOCK, (NR - 1) * BLOCK, rest) == 0);
	the_pfn = take_cached();
	pcp_free(&pcps[1], the_pfn, 4);
	drainer = sched_spawn(drain, NULL);
	cr_assert(sched_run_to(drainer, PAUSE_PCP_FLUSH));
	result = isolate_range(base, BLOCK, owner);
	cr_assert(result == 0 && sched_run(drainer));
	cr_assert(pageblock_type(block_at(base)) == MIGRATE_CMA && isolate_test(base, BLOCK));
	cr_assert(pcp_alloc(&pcps[0], 4, MIGRATE_MOVABLE, NULL) == 0);
	undo();
	cr_assert(pageblock_type(block_at(base)) == MIGRATE_CMA);
	cr_assert(stats().cma_free_pages == BLOCK);
	cr_assert(isolate_undo(base + BLOCK, (NR - 1) * BLOCK, rest) == 0);
}
