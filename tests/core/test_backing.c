/*
 * What backs blocks: memory kept ready, huge pages and how many mappings they cost, and
 * what a fork child inherits.
 */
#include "core/index.h"
#include "tests/core/on_fake_os.h"

#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS ((uint64_t)1000000)
#define NR ((size_t)64)

static struct core_config config = {
	.client_bytes = PAGE_BYTES,
	.span_added = fake_os_data,
	.reserve_bytes = NR * PAGEBLOCK_BYTES,
	.decay_ns = 100 * MS,
	.thp_from_bytes = SIZE_MAX,
	.thp_extra_percent = 3,
};

static void start(void)
{
	start_core(&config);
}

static pfn_t take(size_t nr_pages)
{
	return take_pages(nr_pages, MIGRATE_MOVABLE);
}

/* As the background thread does. */
static void work(unsigned nr_runs)
{
	for (; nr_runs > 0; nr_runs--)
		(void)work_run(fake_os.now_ns);
}

/* --- ready ------------------------------------------------------------------------------- */

static void start_ready(void)
{
	config.ready_bytes = 8 * PAGEBLOCK_BYTES;
	start();
}

Test(backing, ready_blocks_are_made_and_not_purged, .init = start_ready, .fini = finish)
{
	work_tick();
	cr_assert(zone.ready_blocks == 0, "only the background thread makes them");
	ready_soon();
	work(10);
	cr_assert(zone.ready_blocks == 8 && fake_os.nr_populates == 8);
	core_check();
	for (unsigned i = 0; i < 10; i++) {
		fake_os.now_ns += 1000 * MS;
		work(2);
	}
	cr_assert(zone.ready_blocks == 8 && fake_os.nr_purges == 0);
	cr_assert(purge_all() == 0 && work_next_ns == WORK_NEVER);
}

Test(backing, ready_blocks_go_first_and_are_made_again, .init = start_ready, .fini = finish)
{
	pfn_t pfn;

	work(10);
	pfn = zone_alloc(512, 0, MIGRATE_UNMOVABLE, NULL);
	cr_assert(pfn != 0 && fake_os_touched(pfn) && zone.ready_blocks == 7);
	core_check();
	/* And for another type, in part. */
	pfn = zone_alloc(1, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(pfn != 0 && fake_os_touched(pfn) && zone.ready_blocks == 6);
	core_check();
	work(10);
	cr_assert(zone.ready_blocks == 8 && fake_os.nr_populates == 10);
	/* What waits for its decay is preferred, and purged when that is over. */
	zone_free(pfn, 1);
	pfn = zone_alloc(1, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(zone.ready_blocks == 8);
	zone_free(pfn, 1);
	fake_os.now_ns += 100 * MS;
	work(10);
	cr_assert(stats().purged_pages == 512 && zone.ready_blocks == 8);
}

Test(backing, ready_blocks_are_isolated_like_others, .init = start_ready, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t start_pfn = span_at(0)->start;

	work(10);
	cr_assert(isolate_range(start_pfn, 8 * 512, owner) == 0 && zone.ready_blocks == 0);
	core_check();
	cr_assert(isolate_undo(start_pfn, 8 * 512, owner) == 0);
	work(10);
	cr_assert(zone.ready_blocks == 8);
}

Test(backing, ready_without_memory, .init = start_ready, .fini = finish)
{
	for (unsigned nr = 1; nr < 20; nr++) {
		fake_os.fail_at = nr;
		ready_soon();
		work(3);
		core_check();
	}
	fake_os.fail_at = 0;
	ready_soon();
	fake_os.now_ns += 1000 * MS;
	work(10);
	cr_assert(zone.ready_blocks == 8);
}

/* --- huge pages ------------------------------------------------------------------------------ */

static void start_huge(void)
{
	config.thp_from_bytes = 0;
	start();
}

/* One page stays in use in each of these blocks. */
static void make_sparse(pfn_t pfn)
{
	give_pages(pfn, 256);
	give_pages(pfn + 257, 255);
}

static void age(unsigned nr)
{
	for (; nr > 0; nr--) {
		fake_os.now_ns += 50 * MS;
		work(20);
	}
}

Test(backing, sparse_blocks_lose_their_huge_page, .init = start_huge, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);
	unsigned nr_on = fake_os.nr_hugepage_on, nr_off = fake_os.nr_hugepage_off;

	cr_assert(nr_on > 0 && span_block(pfn)->thp == THP_HUGE);
	for (size_t i = 8; i < 16; i++)
		make_sparse(pfn + i * 512);
	age(3);
	cr_assert(stats().purged_pages == 8 * 511);
	cr_assert(fake_os.nr_hugepage_off == nr_off + 8 && zone.thp_edges == 2, "%llu",
		  (unsigned long long)zone.thp_edges);
	/* As a whole they go, and may have one again. */
	for (size_t i = 8; i < 16; i++)
		give_pages(pfn + i * 512 + 256, 1);
	age(3);
	cr_assert(zone.thp_edges == 0 && fake_os.nr_hugepage_on == nr_on + 8);
}

static void start_from(void)
{
	config.thp_from_bytes = 1;
	config.thp_extra_percent = 1;
	start();
}

/* A kind's newest block is half empty in the mean: huge only where that is little. */
Test(backing, a_kind_begins_with_small_pages, .init = start_from, .fini = finish)
{
	static struct pcp pcps[3];
	/* From the second growth on. */
	pfn_t first = take(1), pfn = take(54 * 512), of_kind[3];
	unsigned nr_off = fake_os.nr_hugepage_off;

	for (unsigned kind = 1; kind < 3; kind++) {
		pcp_init(&pcps[kind]);
		pcps[kind].kind = (uint8_t)kind;
	}
	pcp_disable();
	give_pages(pfn + 50 * 512, 4 * 512);
	age(3);
	cr_assert(span_block(pfn + 50 * 512)->thp == THP_HUGE);
	for (unsigned kind = 1; kind < 3; kind++) {
		of_kind[kind] = pcp_alloc(&pcps[kind], 4, MIGRATE_UNMOVABLE, NULL);
		cr_assert(of_kind[kind] != 0);
		fake_os_use(of_kind[kind], 16);
	}
	cr_assert(span_block(of_kind[1])->thp == THP_HUGE);
	cr_assert(span_block(of_kind[2])->thp == THP_SMALL);
	cr_assert(fake_os.nr_hugepage_off == nr_off + 1 && zone_nr_kinds_locked() == 2);
	for (unsigned kind = 1; kind < 3; kind++) {
		fake_os_unuse(of_kind[kind], 16);
		pcp_free(&pcps[kind], of_kind[kind], 4);
	}
	cr_assert(zone_nr_kinds_locked() == 0);
	give_pages(pfn, 50 * 512);
	give_pages(first, 1);
	pcp_enable();
	age(3);
}

/* So does the first block that is opened after a quiet time; the next one does not. */
Test(backing, a_block_opened_in_quiet_begins_with_small_pages, .init = start_from, .fini = finish)
{
	pfn_t first = take(1), pfn = take(54 * 512), rest, p[5];
	unsigned nr_off = fake_os.nr_hugepage_off;

	pcp_disable();
	rest = take(511);
	give_pages(pfn + 50 * 512, 4 * 512);
	age(3);
	for (unsigned i = 0; i < 5; i++)
		p[i] = take(128);
	cr_assert(span_block(p[0])->thp == THP_SMALL);
	cr_assert(span_block(p[4]) != span_block(p[0]) && span_block(p[4])->thp == THP_HUGE);
	cr_assert(fake_os.nr_hugepage_off == nr_off + 1);
	for (unsigned i = 0; i < 5; i++)
		give_pages(p[i], 128);
	give_pages(pfn, 50 * 512);
	give_pages(rest, 511);
	give_pages(first, 1);
	pcp_enable();
	age(3);
}

static void start_many(void)
{
	config.thp_from_bytes = 0;
	config.reserve_bytes = 4000 * PAGEBLOCK_BYTES;
	fake_os.memory_bytes = (size_t)16 << 30;
	start();
}

/* Every other block sparse: as many mappings as may be, and no more. */
Test(backing, mappings_are_bounded, .init = start_many, .fini = finish)
{
	pfn_t pfn = take(3000 * 512);

	for (size_t i = 0; i < 3000; i += 2)
		make_sparse(pfn + i * 512);
	age(30);
	cr_assert(stats().purged_pages == 1500 * 511);
	cr_assert(zone.thp_edges <= 1000 && zone.thp_edges > 800, "%llu",
		  (unsigned long long)zone.thp_edges);
}

/* A block that is seven eighths full, or nearly so, does not lose its huge page. */
Test(backing, a_little_is_not_worth_a_huge_page, .init = start_huge, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);

	for (size_t i = 0; i < NR / 2; i++)
		give_pages(pfn + i * 512, i % 4 == 0 ? 48 : 47);
	age(10);
	cr_assert(stats().purged_pages == NR / 8 * 48, "%llu",
		  (unsigned long long)stats().purged_pages);
	for (size_t i = 0; i < NR / 2; i++)
		cr_assert(span_block(pfn + i * 512)->thp == (i % 4 == 0 ? THP_SMALL : THP_HUGE));
}

/* As at vm.max_map_count: nothing is told, the memory goes all the same. */
Test(backing, advice_that_is_refused_counts_for_nothing, .init = start_huge, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);

	fake_os.fail_hugepage = true;
	for (size_t i = 0; i < 16; i += 2)
		make_sparse(pfn + i * 512);
	age(3);
	cr_assert(stats().purged_pages == 8 * 511 && zone.thp_edges == 0);
	cr_assert(span_block(pfn)->thp == THP_HUGE);
}

static void start_late(void)
{
	config.thp_from_bytes = 4 * PAGEBLOCK_BYTES;
	start();
}

Test(backing, what_is_dense_is_collapsed, .init = start_late, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);
	unsigned nr_small = 0;

	for (size_t i = 0; i < NR / 2; i++)
		nr_small += span_block(pfn + i * 512)->thp == THP_NONE;
	cr_assert(nr_small > 0);
	/* One of them is not dense, and another is in use, but not resident as a whole. */
	make_sparse(pfn);
	(void)purge_all();
	fake_os_clean(pfn + 512, 16);
	fake_os.now_ns += 3000 * MS;
	work_tick();
	cr_assert(fake_os.nr_collapses == 0, "only in the background");
	thp_grown_locked(span_at(0), 0, 0, false);
	fake_os.now_ns += 3000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses == nr_small - 2, "%u of %u", fake_os.nr_collapses, nr_small);
	fake_os.now_ns += 100000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses == nr_small - 2 && work_next_ns == WORK_NEVER);
}

/* Given back as wholes in a large heap, they have huge pages when they are used again. */
Test(backing, what_is_from_before_becomes_huge_when_given_back, .init = start_late, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);

	cr_assert(span_block(pfn)->thp == THP_NONE);
	give_pages(pfn, 512);
	age(3);
	cr_assert(span_block(pfn)->thp == THP_HUGE);
	cr_assert(span_block(pfn + 512)->thp == THP_NONE && zone.thp_edges > 0);
	give_pages(pfn + 512, (NR / 2 - 1) * 512);
	age(3);
	cr_assert(zone.thp_edges == 0);
}

/* Where there is no such thing the system is not asked for each block, nor for good. */
Test(backing, a_refusal_is_believed_for_a_while, .init = start_late, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);

	fake_os.fail_hugepage = true;
	for (unsigned i = 0; i < 8; i++) {
		give_pages(pfn + i * 512, 512);
		age(1);
	}
	cr_assert(span_block(pfn)->thp == THP_NONE);
	cr_assert(fake_os.nr_hugepage_refused == 1, "%u", fake_os.nr_hugepage_refused);
	fake_os.now_ns += 1000 * MS;
	fake_os.fail_hugepage = false;
	give_pages(pfn + 8 * 512, 512);
	age(3);
	cr_assert(span_block(pfn + 8 * 512)->thp == THP_HUGE);
	give_pages(pfn + 9 * 512, (NR / 2 - 9) * 512);
}

/* thp_extra may change while the program runs. */
Test(backing, the_percentage_may_change, .init = start_late, .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);

	/* More than 3 % of each block are not resident, and fewer than 20 %. */
	for (size_t i = 0; i < NR / 2; i++)
		fake_os_clean(pfn + i * 512, 40);
	thp_grown_locked(span_at(0), 0, 0, false);
	fake_os.now_ns += 3000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses == 0);
	config.thp_extra_percent = 20;
	core_reconfigure(&config);
	thp_grown_locked(span_at(0), 0, 0, false);
	fake_os.now_ns += 3000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses > 0);
	give_pages(pfn, NR / 2 * 512);
}

/* A huge page would be a copy of what a fork child shares. */
Test(backing, what_is_shared_after_a_fork_is_not_collapsed, .init = start_late, .fini = finish)
{
	(void)take(NR / 2 * 512);
	fake_os.shared = true;
	core_fork_prepare();
	core_fork_parent();
	fake_os.now_ns += 3000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses == 0, "%u", fake_os.nr_collapses);
	/* The child has ended; the next pass sees it. */
	fake_os.shared = false;
	thp_grown_locked(span_at(0), 0, 0, false);
	fake_os.now_ns += 3000 * MS;
	work(100);
	cr_assert(fake_os.nr_collapses > 0);
}

/* What the layer above gives back of what it holds. */
Test(backing, holes_lose_their_huge_page_and_get_it_back_when_filled, .init = start_huge,
     .fini = finish)
{
	pfn_t pfn = take(NR / 2 * 512);
	struct pageblock *block = span_block(pfn + 3 * 512);
	unsigned nr_off = fake_os.nr_hugepage_off;

	fake_os_clean(block->pfn + 100, 50);
	thp_hole(pfn_to_addr(block->pfn));
	cr_assert(block->thp == THP_SMALL && zone.thp_edges == 2);
	thp_hole(pfn_to_addr(block->pfn + 7));
	cr_assert(fake_os.nr_hugepage_off == nr_off + 1, "said once");
	thp_refilled(511);
	age(50);
	cr_assert(work_next_ns == WORK_NEVER, "a few pages are not worth a look");
	thp_refilled(1);
	age(50);
	cr_assert(block->thp == THP_SMALL && fake_os.nr_collapses == 0, "the holes are still there");
	fake_os_touch(block->pfn + 100, 35);
	thp_refilled(512);
	age(50);
	cr_assert(block->thp == THP_HUGE && zone.thp_edges == 0 && fake_os.nr_collapses == 1);
}

/* --- fork --------------------------------------------------------------------------------- */

static void start_fork(void)
{
	config.fork_child_purges = true;
	start();
}

Test(backing, a_fork_child_gives_back_at_once_what_it_inherits, .init = start_fork)
{
	pfn_t pfn = take(8 * 512);
	pid_t pid;
	int status;

	give_pages(pfn, 512);
	core_fork_prepare();
	pid = fork();
	if (pid == 0) {
		core_fork_child();
		give_pages(pfn + 512, 2 * 512);
		work_tick();
		if (stats().purged_pages < 2 * 512)
			_exit(1);
		/* And then like everybody else. */
		for (unsigned i = 0; i < 8; i++) {
			pfn_t own = take(512);

			give_pages(own, 512);
		}
		if (zone.inherited_blocks != 0)
			_exit(2);
		core_check();
		_exit(0);
	}
	core_fork_parent();
	cr_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	cr_assert(WEXITSTATUS(status) == 0, "%d", WEXITSTATUS(status));
	cr_assert(stats().purged_pages == 0);
	finish();
}
