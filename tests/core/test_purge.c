/*
 * Giving back: when, how often, and what may happen meanwhile (R11).
 */
#include "tests/core/on_fake_os.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)
#define NR ((size_t)32)

static struct core_config config = {
	.client_bytes = PAGE_BYTES,
	.span_added = fake_os_data,
	.reserve_bytes = NR * PAGEBLOCK_BYTES,
	.decay_ns = 100 * MS,
	.thp_from_bytes = SIZE_MAX,
};

static void start(void)
{
	start_core(&config);
}

static void finish_own(void)
{
	fake_os.during_purge = NULL;
	finish();
}

static pfn_t take(size_t nr_pages)
{
	return take_pages(nr_pages, MIGRATE_MOVABLE);
}

static void start_large(void)
{
	config.reserve_bytes = 4 * NR * PAGEBLOCK_BYTES;
	start();
}

static void nobody(void)
{
}

static unsigned nr_waiting(void)
{
	return (unsigned)(stats().dirty_free_pages / 512);
}

/* 64 MiB and half of what is allocated may wait; of what is more the oldest goes at once, until
 * there is room for an eighth. */
Test(purge, too_much_does_not_wait, .init = start_large, .fini = finish_own)
{
	pfn_t kept = take(8 * 512), first = take(36 * 512), second = take(4 * 512);

	work_background(nobody);
	give_pages(first, 36 * 512);
	(void)work_run(fake_os.now_ns);
	cr_assert(fake_os.nr_purges == 0);
	fake_os.now_ns += MS;
	give_pages(second, 4 * 512);
	for (unsigned i = 0; i < 4; i++)
		(void)work_run(fake_os.now_ns);
	cr_assert(nr_waiting() == 31, "%u", nr_waiting());
	for (pfn_t pfn = second; pfn < second + 4 * 512; pfn += 512)
		cr_assert(fake_os_touched(pfn));
	give_pages(kept, 8 * 512);
	for (unsigned i = 0; i < 4; i++)
		(void)work_run(fake_os.now_ns);
	cr_assert(nr_waiting() == 28, "%u", nr_waiting());
}

/* Frees so many blocks, which whoever comes by next finds idle for so long. */
static void idle_for(pfn_t pfn, size_t nr_blocks, uint64_t ns)
{
	give_pages(pfn, nr_blocks * 512);
	fake_os.now_ns += ns;
	work_tick();
}

/* Of what has been idle for a 20th of the decay 16 MiB and a 32nd, down to half of it, by whoever
 * comes by, who may be the last one; after some of that was needed within the decay, of what has
 * been idle for a quarter, for 82 ms for each block that was. */
Test(purge, less_waits_without_a_background_thread, .init = start_large, .fini = finish_own)
{
	pfn_t kept = take(64 * 512);

	idle_for(take(10 * 512), 10, 5 * MS);
	cr_assert(nr_waiting() == 10 && fake_os.nr_purges == 0);
	idle_for(take(16 * 512), 16, 4 * MS);
	cr_assert(nr_waiting() == 16, "too young: %u", nr_waiting());
	for (unsigned i = 0; i < 3; i++) {
		idle_for(take(16 * 512), 16, 5 * MS);
		/* The second time it is known: 11 blocks, 901 ms. */
		cr_assert(nr_waiting() == (i == 0 ? 5 : 16), "%u in round %u", nr_waiting(), i);
	}
	idle_for(take(16 * 512), 16, 24 * MS);
	cr_assert(nr_waiting() == 16, "%u", nr_waiting());
	fake_os.now_ns += 1 * MS;
	work_tick();
	cr_assert(nr_waiting() == 5, "a quarter: %u", nr_waiting());
	idle_for(take(16 * 512), 16, 25 * MS);
	cr_assert(nr_waiting() == 16, "it is known of the quarter too: %u", nr_waiting());
	fake_os.now_ns += 75 * MS;
	work_tick();
	work_tick();
	cr_assert(nr_waiting() == 0, "%u", nr_waiting());
	/* 141 ms have passed. */
	fake_os.now_ns += 740 * MS;
	idle_for(take(16 * 512), 16, 5 * MS);
	cr_assert(nr_waiting() == 16, "%u", nr_waiting());
	fake_os.now_ns += 95 * MS;
	work_tick();
	work_tick();
	idle_for(take(16 * 512), 16, 5 * MS);
	cr_assert(nr_waiting() == 5, "it is forgotten: %u", nr_waiting());
	/* What is wanted after its decay was not needed. */
	fake_os.now_ns += 100 * MS;
	idle_for(take(16 * 512), 16, 5 * MS);
	cr_assert(nr_waiting() == 5, "%u", nr_waiting());
	give_pages(kept, 64 * 512);
}

/* When the system refuses, that is believed until a decay has passed. */
Test(purge, too_much_waits_when_refused, .init = start_large, .fini = finish_own)
{
	pfn_t pfn = take(40 * 512);
	unsigned nr_purges;

	fake_os.fail_purge = true;
	give_pages(pfn, 40 * 512);
	work_tick();
	nr_purges = fake_os.nr_purges;
	cr_assert(nr_purges > 0 && stats().purged_pages == 0);
	for (unsigned i = 0; i < 10; i++)
		work_tick();
	cr_assert(fake_os.nr_purges == nr_purges, "%u", (unsigned)fake_os.nr_purges);
	fake_os.fail_purge = false;
	fake_os.now_ns += 100 * MS;
	for (unsigned i = 0; i < 5; i++)
		work_tick();
	cr_assert(stats().dirty_free_pages == 0);
}

Test(purge, r11_after_the_decay_and_once, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	give_pages(pfn, 512);
	work_tick();
	fake_os.now_ns += 99 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 0);
	fake_os.now_ns += 1 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 1 && stats().purged_pages == 512);
	for (unsigned i = 0; i < 100; i++) {
		fake_os.now_ns += 1000 * MS;
		work_tick();
	}
	cr_assert(fake_os.nr_purges == 1 && purge_all() == 0);
}

Test(purge, use_starts_the_decay_anew, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	give_pages(pfn, 512);
	fake_os.now_ns += 90 * MS;
	pfn = take(1);
	give_pages(pfn, 1);
	fake_os.now_ns += 90 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 0);
	fake_os.now_ns += 10 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 1);
}

Test(purge, neighbours_share_a_call, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(8 * 512);

	/* 0 1 2 and 4 5 6 7: two calls. */
	give_pages(pfn + 4 * 512, 4 * 512);
	give_pages(pfn + 1 * 512, 512);
	give_pages(pfn, 512);
	give_pages(pfn + 2 * 512, 512);
	fake_os.now_ns += 1000 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 2 && stats().purged_pages == 7 * 512);
	cr_assert(stats().purge_calls == 2);
}

Test(purge, oldest_first_and_a_few_at_a_time, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(NR * 512);
	unsigned ticks = 0;

	/* With which more may wait. */
	work_background(nobody);
	for (size_t b = 0; b < NR; b++) {
		fake_os.now_ns += MS;
		give_pages(pfn + (NR - 1 - b) * 512, 512);
	}
	fake_os.now_ns += 100 * MS - NR * MS;
	/* The first one freed, the highest, is due now; then one each ms. */
	for (size_t b = 0; b < 4; b++) {
		fake_os.now_ns += MS;
		(void)work_run(fake_os.now_ns);
		cr_assert(!fake_os_touched(pfn + (NR - 1 - b) * 512));
		cr_assert(fake_os_touched(pfn + (NR - 2 - b) * 512));
	}
	fake_os.now_ns += 1000 * MS;
	while (stats().dirty_free_pages > 0) {
		uint64_t before = stats().purged_pages;

		(void)work_run(fake_os.now_ns);
		cr_assert(stats().purged_pages - before <= 8 * 512);
		cr_assert(++ticks < 100);
	}
	cr_assert(ticks == 4);
}

Test(purge, tick_without_work_asks_nobody, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	cr_assert(atomic_load(&work_next_ns) == WORK_NEVER);
	give_pages(pfn, 512);
	cr_assert(atomic_load(&work_next_ns) == fake_os.now_ns + 100 * MS);
	fake_os.now_ns += 100 * MS;
	work_tick();
	cr_assert(atomic_load(&work_next_ns) == WORK_NEVER);
}

Test(purge, all_gives_partly_used_blocks_back_too, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(2000);
	bool zeroed = false;

	give_pages(pfn, 512);
	give_pages(pfn + 592, 16);
	give_pages(pfn + 700, 3);
	cr_assert(stats().dirty_free_pages == 531);
	cr_assert(purge_all() == 531 * PAGE_BYTES);
	cr_assert(fake_os.nr_purges == 3 && stats().dirty_free_pages == 0);
	cr_assert(stats().purged_pages == 531 && stats().purging_pages == 0);
	cr_assert(zone_alloc(16, 0, MIGRATE_MOVABLE, &zeroed) == pfn + 592 && zeroed);
	cr_assert(purge_all() == 0 && fake_os.nr_purges == 3);
}

Test(purge, a_failure_is_tried_again_after_the_decay, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(1024);
	bool zeroed = true;

	give_pages(pfn, 1024);
	fake_os.fail_purge = true;
	fake_os.now_ns += 100 * MS;
	for (unsigned i = 0; i < 10; i++)
		work_tick();
	cr_assert(fake_os.nr_purges == 1 && stats().purged_pages == 0);
	cr_assert(stats().dirty_free_pages == 1024 && stats().free_pages == 1024);
	cr_assert(purge_all() == 0);
	core_check();
	fake_os.fail_purge = false;
	fake_os.now_ns += 100 * MS;
	work_tick();
	cr_assert(stats().purged_pages == 1024);
	cr_assert(zone_alloc(1024, 0, MIGRATE_MOVABLE, &zeroed) == pfn && zeroed);
}

/* --- in the window between unlock and madvise ----------------------------------------- */

static pfn_t window_pfn;
static unsigned windows;

static void allocate_in_window(void *addr, size_t bytes)
{
	pfn_t first = pfn_of(addr);
	pfn_t pfn;

	windows++;
	cr_assert(!lock_held(LOCK_ZONE) || PB_DEBUG == 0);
	cr_assert(stats().purging_pages == bytes / PAGE_BYTES);
	core_check();
	pfn = zone_alloc(512, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(pfn != 0 && (pfn < first || pfn >= first + bytes / PAGE_BYTES));
	pfn = zone_alloc(1, 0, MIGRATE_UNMOVABLE, NULL);
	cr_assert(pfn != 0 && (pfn < first || pfn >= first + bytes / PAGE_BYTES));
	cr_assert(!zone_extend(first - 512, 512, 513, NULL));
	core_check();
}

Test(purge, r11_nobody_gets_a_block_being_purged, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(3 * 512);

	give_pages(pfn + 512, 1024);
	fake_os.now_ns += 1000 * MS;
	fake_os.during_purge = allocate_in_window;
	work_tick();
	cr_assert(windows == 1);
}

static void free_in_window(void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	windows++;
	give_pages(window_pfn, 5);
	core_check();
}

Test(purge, frees_in_a_block_being_purged, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	window_pfn = pfn + 40;
	give_pages(pfn + 30, 10);
	fake_os.during_purge = free_in_window;
	cr_assert(purge_all() == 10 * PAGE_BYTES);
	cr_assert(windows == 1);
	/* What came in the window is free, and dirty still. */
	cr_assert(stats().dirty_free_pages == 5);
}

static void isolate_in_window(void *addr, size_t bytes)
{
	(void)bytes;
	windows++;
	zone_lock();
	zone_set_isolated_locked(span_block(pfn_of(addr)), true);
	zone_unlock();
	core_check();
}

Test(purge, a_block_isolated_meanwhile_comes_back_isolated, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	give_pages(pfn, 512);
	fake_os.now_ns += 1000 * MS;
	fake_os.during_purge = isolate_in_window;
	work_tick();
	cr_assert(windows == 1 && stats().isolated_free_pages == 512);
	cr_assert(stats().free_pages == stats().total_pages - 512);
	cr_assert(zone_alloc(1, 0, MIGRATE_MOVABLE, NULL) / 512 != pfn / 512);
}

Test(purge, undone_isolation_starts_the_decay, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	zone_lock();
	zone_set_isolated_locked(span_block(pfn), true);
	zone_unlock();
	give_pages(pfn, 512);
	fake_os.now_ns += 1000 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 0);
	zone_lock();
	zone_set_isolated_locked(span_block(pfn), false);
	zone_unlock();
	work_tick();
	cr_assert(fake_os.nr_purges == 0);
	fake_os.now_ns += 100 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 1 && stats().purged_pages == 512);
}

static void purge_in_window(void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	windows++;
	fake_os.during_purge = NULL;
	cr_assert(purge_all() == 0);
	work_tick();
}

Test(purge, r11_two_at_once_do_not_meet, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(512);

	give_pages(pfn, 500);
	fake_os.during_purge = purge_in_window;
	cr_assert(purge_all() > 0);
	cr_assert(windows == 1);
	cr_assert(stats().dirty_free_pages == 0);
}

static void fail_in_window(void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	windows++;
	/* Nothing else is free and nothing can grow: it waits, in vain, and says so. */
	cr_assert(zone_alloc(NR * 512, 0, MIGRATE_MOVABLE, NULL) == 0);
}

Test(purge, an_allocation_that_needs_the_purged_pages_waits, .init = start, .fini = finish_own)
{
	pfn_t pfn = take(NR * 512);

	give_pages(pfn, NR * 512);
	fake_os.during_purge = fail_in_window;
	cr_assert(purge_all() == NR * PAGEBLOCK_BYTES);
	cr_assert(windows > 0);
	cr_assert(zone_alloc(NR * 512, 0, MIGRATE_MOVABLE, NULL) == pfn);
}

/* --- several parts, lazily ------------------------------------------------------------ */

Test(purge, parts_share_a_call_where_the_kernel_takes_vectors, .init = start,
     .fini = finish_own)
{
	pfn_t pfn = take(8 * 512);

	fake_os.takes_vectors = true;
	for (unsigned i = 0; i < 8; i += 2)
		give_pages(pfn + i * 512, 512);
	fake_os.now_ns += 100 * MS;
	work_tick();
	cr_assert(fake_os.nr_purges == 1 && stats().purge_calls == 1);
	cr_assert(stats().purged_pages == 4 * 512);
}

static void start_lazily(void)
{
	config.purge_lazily = true;
	start();
}

/* Given back, but not zero; once; and all_ takes what the system has not taken. */
Test(purge, lazily_is_not_zero, .init = start_lazily, .fini = finish_own)
{
	pfn_t pfn = take(NR * 512), one;
	bool zeroed = true;

	give_pages(pfn, 1024);
	fake_os.now_ns += 100 * MS;
	for (unsigned i = 0; i < 3; i++, fake_os.now_ns += 1000 * MS)
		work_tick();
	cr_assert(fake_os.nr_purges == 1 && stats().purged_pages == 1024);
	cr_assert(stats().dirty_free_pages == 0 && fake_os_touched(pfn));
	cr_assert(zone_alloc(1024, 0, MIGRATE_MOVABLE, &zeroed) == pfn && !zeroed);
	zone_mark_clean(pfn, 1024);
	zone_free(pfn, 1024);
	one = zone_alloc(1, 0, MIGRATE_MOVABLE, &zeroed);
	cr_assert(one != 0 && !zeroed);
	zone_free(one, 1);
	(void)purge_all();
	cr_assert(!fake_os_touched(pfn) && !fake_os_touched(pfn + 512));
	cr_assert(zone_alloc(1024, 0, MIGRATE_MOVABLE, &zeroed) == pfn && zeroed);
}

/* --- blocks in use ---------------------------------------------------------------------- */

static void passes(unsigned nr)
{
	for (; nr > 0; nr--) {
		fake_os.now_ns += 50 * MS;
		/* A pass is several slices. */
		for (unsigned i = 0; i < 20; i++)
			work_tick();
	}
}

/* Every block of these has one page in use in the middle. */
static pfn_t sparse_blocks(unsigned nr)
{
	pfn_t pfn = take((size_t)nr * 512);

	for (unsigned i = 0; i < nr; i++) {
		give_pages(pfn + i * 512, 256);
		give_pages(pfn + i * 512 + 257, 255);
	}
	return pfn;
}

Test(purge, what_is_cold_in_a_block_in_use_goes, .init = start, .fini = finish_own)
{
	pfn_t pfn = sparse_blocks(16);

	work_tick();
	cr_assert(fake_os.nr_purges == 0);
	passes(1);
	cr_assert(fake_os.nr_purges == 0, "looked at once only");
	passes(1);
	cr_assert(stats().purged_pages == 16 * 511 && stats().dirty_free_pages == 0);
	/* Neighbours' runs go together, in two batches. */
	cr_assert(fake_os.nr_purges == 18, "%u", fake_os.nr_purges);
	passes(20);
	cr_assert(fake_os.nr_purges == 18 && work_next_ns == WORK_NEVER);
	cr_assert(fake_os_touched(pfn + 256) && !fake_os_touched(pfn));
}

Test(purge, what_changes_in_a_block_in_use_stays, .init = start, .fini = finish_own)
{
	pfn_t pfn = sparse_blocks(16);

	/* More and more of the first block is used. */
	for (unsigned i = 0; i < 10; i++) {
		cr_assert(zone_extend(pfn + 256, 1 + 2 * i, 3 + 2 * i, NULL));
		fake_os_use(pfn + 257 + 2 * i, 2);
		passes(1);
		cr_assert(fake_os_touched(pfn + 511));
	}
	cr_assert(stats().purged_pages == 15 * 511, "%llu",
		  (unsigned long long)stats().purged_pages);
	passes(2);
	cr_assert(!fake_os_touched(pfn + 511));
}

Test(purge, a_little_in_a_block_in_use_stays, .init = start_large, .fini = finish_own)
{
	pfn_t pfn = take(128 * 512);

	/* 128 times 15 pages: more than what begins a pass, less than what pays. */
	for (unsigned i = 0; i < 128; i++)
		give_pages(pfn + i * 512, 15);
	passes(10);
	cr_assert(stats().purged_pages == 0 && work_next_ns == WORK_NEVER);
}

/* A fork in the middle of it: what the parent's thread had off the lists is free. */
static void fork_in_window(void *addr, size_t bytes)
{
	(void)addr;
	cr_assert(stats().purging_pages == bytes / PAGE_BYTES);
	core_fork_prepare();
	core_fork_child();
	cr_assert(stats().purging_pages == 0 && stats().free_pages == stats().total_pages);
	cr_assert(isolate_range(pfn_of(addr), bytes / PAGE_BYTES, isolate_owner()) == 0);
	core_check();
	/* The child does not come back from here. */
	_exit(0);
}

Test(purge, fork_in_the_window)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		start();
		give_pages(take(1024), 1024);
		fake_os.now_ns += 1000 * MS;
		fake_os.during_purge = fork_in_window;
		work_tick();
		_exit(1);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void start_droppable(void)
{
	config.client_bytes = 3 * PAGE_BYTES;
	config.client_droppable_bytes = 2 * PAGE_BYTES;
	fake_os.takes_vectors = true;
	start();
}

/* What is of no use without a block's pages goes with them, by one more call, and only of
 * blocks that are wholly given back. */
Test(purge, metadata_of_free_blocks_goes_too, .init = start_droppable, .fini = finish_own)
{
	pfn_t gone = take(4 * 512), kept = take(1);

	for (unsigned i = 0; i < 5; i++) {
		memset(zone_client(pfn_to_addr(gone + i * 512)), 0x5a, 3 * PAGE_BYTES);
	}
	give_pages(gone, 4 * 512);
	fake_os.now_ns += 1000 * MS;
	work_tick();
	cr_assert(stats().purged_pages == 4 * 512);
	cr_assert(fake_os.nr_metadata_purges == 4, "%u", fake_os.nr_metadata_purges);
	cr_assert(fake_os.nr_purges == 2, "%u calls", fake_os.nr_purges);
	for (unsigned i = 0; i < 5; i++) {
		const char *client = zone_client(pfn_to_addr(gone + i * 512));
		bool whole = i < 4;

		cr_assert(client[0] == (whole ? 0 : 0x5a), "block %u", i);
		cr_assert(client[2 * PAGE_BYTES - 1] == (whole ? 0 : 0x5a));
		cr_assert(client[2 * PAGE_BYTES] == 0x5a, "the rest stays");
	}
	give_pages(kept, 1);
}

/* Refused: nothing is dropped of a block that keeps its pages. */
Test(purge, metadata_of_blocks_that_stay_is_kept, .init = start_droppable, .fini = finish_own)
{
	pfn_t pfn = take(512);

	memset(zone_client(pfn_to_addr(pfn)), 0x5a, 3 * PAGE_BYTES);
	give_pages(pfn, 512);
	fake_os.now_ns += 1000 * MS;
	fake_os.fail_purge = true;
	work_tick();
	fake_os.fail_purge = false;
	cr_assert(fake_os.nr_metadata_purges == 0);
	cr_assert(*(const char *)zone_client(pfn_to_addr(pfn)) == 0x5a);
}
