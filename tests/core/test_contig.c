/*
 * Contiguous allocation, reserves, offline blocks.
 */
#include "core/isolate.h"
#include "tests/core/on_fake_os.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define BLOCK PAGEBLOCK_PAGES
#define NR ((size_t)64)
#define MS ((uint64_t)1000000)

static struct pcp pcp;
static pfn_t base;

/* The layer above: frees the movable pages of the test that are asked for. */
static uint8_t held[NR * PAGEBLOCK_PAGES];
static unsigned nr_vacates;
static pfn_t pinned; /* never moves */
static uint64_t last_deadline_ns;

static int vacate(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	nr_vacates++;
	last_deadline_ns = deadline_ns;
	fake_os.now_ns += MS;
	for (; nr_pages > 0; nr_pages--, pfn++) {
		if (!held[pfn - base] || pfn == pinned)
			continue;
		held[pfn - base] = 0;
		fake_os_unuse(pfn, 1);
		if (pfn % 3 == 0)
			pcp_free(&pcp, pfn, 0);
		else
			zone_free(pfn, 1);
	}
	return 0;
}

static int vacate_nothing(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	(void)pfn;
	(void)nr_pages;
	(void)deadline_ns;
	fake_os.now_ns += MS;
	return -EBUSY;
}

static void start_with(size_t nr_blocks, bool committed)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.vacate = vacate,
		.reserve_bytes = nr_blocks * PAGEBLOCK_BYTES,
		.decay_ns = MS,
		.thp_from_bytes = SIZE_MAX,
	};

	start_core(&config);
	pcp_init(&pcp);
	base = span_at(0)->start;
	if (!committed)
		return;
	cr_assert(zone_alloc(nr_blocks * BLOCK, 0, MIGRATE_MOVABLE, NULL) == base);
	zone_mark_clean(base, nr_blocks * BLOCK);
	zone_free(base, nr_blocks * BLOCK);
}

static void start(void)
{
	start_with(NR, true);
}

static void start_empty(void)
{
	start_with(NR, false);
}

/* Every nr-th page of [from, from + n) blocks stays held, the others are free. */
static void scatter(size_t from, size_t n, size_t every, enum migratetype mt)
{
	size_t taken = 0;
	pfn_t pfn;

	while (taken < NR * BLOCK && (pfn = zone_alloc(1, 0, mt, NULL)) != 0) {
		fake_os_use(pfn, 1);
		held[pfn - base] = 1;
		taken++;
	}
	for (size_t i = 0; i < NR * BLOCK; i++) {
		bool keep = i / BLOCK >= from && i / BLOCK < from + n && i % every == 0;

		if (held[i] && !keep) {
			held[i] = 0;
			fake_os_unuse(base + i, 1);
			zone_free(base + i, 1);
		}
	}
}

static void give_all(void)
{
	pinned = 0;
	(void)vacate(base, NR * BLOCK, 0);
	pcp_drain_all();
}

static void use(pfn_t pfn, size_t nr_pages)
{
	cr_assert(pfn != 0 && pfn % BLOCK == 0);
	fake_os_use(pfn, nr_pages);
}

static void give(pfn_t pfn, size_t nr_pages)
{
	fake_os_unuse(pfn, nr_pages);
	cr_assert(contig_free(pfn, nr_pages) == 0);
}

Test(contig, bad_input_changes_nothing, .init = start, .fini = finish)
{
	struct core_stats before = stats(), after;
	uint64_t now_ns = fake_os.now_ns;
	int err = 0;

	cr_assert(contig_alloc(0, 0, 0, &err) == 0 && err == -EINVAL);
	cr_assert(contig_alloc(CONTIG_MAX_PAGES + 1, 0, 0, &err) == 0 && err == -EINVAL);
	cr_assert(contig_alloc(SIZE_MAX, 0, 0, &err) == 0 && err == -EINVAL);
	cr_assert(contig_alloc(1, 4, 0, &err) == 0 && err == -EINVAL);
	cr_assert(contig_alloc(1, 0, now_ns - 1, &err) == 0 && err == -ETIMEDOUT);
	cr_assert(contig_alloc(1, CONTIG_HARD, 0, &err) == 0 && err == -ETIMEDOUT);
	cr_assert(contig_alloc_range(base, 0, 0, 0) == -EINVAL);
	cr_assert(contig_alloc_range(base, 1, CONTIG_CMA, 0) == -EINVAL);
	cr_assert(contig_alloc_range(base - 1, 2, 0, 0) == -ERANGE);
	cr_assert(contig_alloc_range(0, 1, 0, 0) == -ERANGE);
	cr_assert(contig_alloc_range(UINT64_MAX, 1, 0, 0) == -ERANGE);
	cr_assert(contig_alloc_range(base + NR * BLOCK - 1, 2, 0, 0) == -ERANGE);
	cr_assert(contig_alloc_range(base, 1, CONTIG_HARD, now_ns - 1) == -ETIMEDOUT);
	cr_assert(contig_free(base, 1) == -EINVAL && contig_free(0, 1) == -EINVAL);
	cr_assert(contig_free(base, 0) == -EINVAL && contig_free(base, SIZE_MAX) == -EINVAL);
	cr_assert(cma_reserve(0) == -EINVAL && cma_reserve(SIZE_MAX) == -EINVAL);
	cr_assert(cma_reserve((NR + 1) * PAGEBLOCK_BYTES) == -ENOMEM);
	cr_assert(offline_pages(0, 0, &err) == 0 && err == -EINVAL);
	cr_assert(offline_pages(BLOCK + 1, 0, &err) == 0 && err == -EINVAL);
	cr_assert(offline_pages(BLOCK, now_ns - 1, &err) == 0 && err == -ETIMEDOUT);
	cr_assert(online_pages(0) == 0 && online_pages(SIZE_MAX) == 0);
	after = stats();
	cr_assert(memcmp(&before, &after, sizeof(before)) == 0);
	/* Larger than the span: said at once, and nothing is lost. */
	cr_assert(contig_alloc((NR + 1) * BLOCK, 0, 0, &err) == 0 && err == -ENOMEM);
	cr_assert(contig_alloc((NR + 1) * BLOCK, CONTIG_HARD, now_ns + MS, &err) == 0);
	cr_assert(err == -ENOMEM && stats().free_pages == NR * BLOCK);
	cr_assert(contig_alloc(1, CONTIG_CMA, 0, &err) == 0 && err == -ENOMEM);
	cr_assert(stats().contig_failed == 3);
}

Test(contig, whole_blocks_and_the_tail_goes_back, .init = start_empty, .fini = finish)
{
	int err = 1;
	pfn_t pfn = contig_alloc(2 * BLOCK + 1, 0, 0, &err);
	pfn_t tail;

	cr_assert(err == 0);
	use(pfn, 2 * BLOCK + 1);
	cr_assert(stats().allocated_pages == 2 * BLOCK + 1);
	tail = zone_alloc(256, 8, MIGRATE_MOVABLE, NULL);
	cr_assert(tail == pfn + 2 * BLOCK + 256);
	zone_free(tail, 256);
	give(pfn, 2 * BLOCK + 1);
	cr_assert(stats().free_pages == stats().total_pages && stats().contig_ok == 1);
	/* Smaller than a block, too. */
	pfn = contig_alloc(3, 0, 0, NULL);
	use(pfn, 3);
	cr_assert(contig_free(pfn, 4) == -EINVAL);
	give(pfn, 3);
	cr_assert(contig_free(pfn, 3) == -EINVAL);
}

/* R8: head and tail of the outer blocks are open again with the same critical section. */
Test(contig, r8_a_given_range_head_and_tail_go_back, .init = start, .fini = finish)
{
	cr_assert(contig_alloc_range(base + 100, 2 * BLOCK, 0, 0) == 0);
	fake_os_use(base + 100, 2 * BLOCK);
	cr_assert(stats().allocated_pages == 2 * BLOCK && stats().isolated_free_pages == 0);
	cr_assert(zone_alloc(64, 0, MIGRATE_MOVABLE, NULL) == base);
	/* Another one in the same block; not the same pages. */
	cr_assert(contig_alloc_range(base + 2 * BLOCK + 100, 5, 0, 0) == 0);
	fake_os_use(base + 2 * BLOCK + 100, 5);
	cr_assert(contig_alloc_range(base + 99, 2, 0, 0) == -EBUSY);
	cr_assert(contig_alloc_range(base + 2 * BLOCK + 104, 2, CONTIG_HARD,
				     fake_os.now_ns + MS) == -ETIMEDOUT);
	cr_assert(stats().isolated_free_pages == 0);
	give(base + 100, 2 * BLOCK);
	give(base + 2 * BLOCK + 100, 5);
	zone_free(base, 64);
	cr_assert(stats().free_pages == NR * BLOCK);
}

Test(contig, vacates_the_window_with_the_fewest_pages, .init = start, .fini = finish)
{
	int err = 1;
	pfn_t pfn;

	/* All blocks have pages in use; 20 to 27 the fewest. */
	scatter(0, NR, 16, MIGRATE_MOVABLE);
	for (size_t i = 20 * BLOCK; i < 28 * BLOCK; i++)
		if (held[i] && i % 64 != 0) {
			held[i] = 0;
			fake_os_unuse(base + i, 1);
			zone_free(base + i, 1);
		}
	pfn = contig_alloc(8 * BLOCK - 30, 0, 0, &err);
	cr_assert(err == 0 && pfn == base + 20 * BLOCK && nr_vacates == 1 && last_deadline_ns == 0);
	use(pfn, 8 * BLOCK - 30);
	core_check();
	give(pfn, 8 * BLOCK - 30);
	give_all();
	cr_assert(stats().free_pages == NR * BLOCK);
}

Test(contig, busy_rolls_back, .init = start, .fini = finish)
{
	struct core_stats before;
	int err = 0;

	/* One page in each second block never moves. */
	scatter(0, NR, 2 * BLOCK, MIGRATE_MOVABLE);
	zone.config.vacate = NULL;
	before = stats();
	cr_assert(contig_alloc(2 * BLOCK, 0, 0, &err) == 0 && err == -EBUSY);
	cr_assert(contig_alloc(2 * BLOCK, CONTIG_HARD, fake_os.now_ns, &err) == 0);
	cr_assert(err == -ETIMEDOUT);
	core_check();
	cr_assert(stats().free_pages == before.free_pages && stats().isolated_free_pages == 0);
	cr_assert(stats().allocated_pages == before.allocated_pages && pcp.high > 0);
	cr_assert(stats().contig_failed == before.contig_failed + 1);
	zone.config.vacate = vacate;
	give_all();
}

/* A window that cannot be had costs a hard call a slice of its time, not all of it. */
Test(contig, hard_goes_on_to_the_next_window, .init = start, .fini = finish)
{
	uint64_t deadline_ns = fake_os.now_ns + 100 * MS;
	int err = 1;
	pfn_t pfn;

	scatter(0, NR, 64, MIGRATE_MOVABLE);
	pinned = base + 64;
	/* The pinned page's block is the emptiest. */
	for (size_t i = 0; i < BLOCK; i++)
		if (held[i] && base + i != pinned) {
			held[i] = 0;
			fake_os_unuse(base + i, 1);
			zone_free(base + i, 1);
		}
	/* The clock stands still but for vacate(): the first slice must end by itself. */
	fake_os.now_ns = deadline_ns - 2;
	pfn = contig_alloc(BLOCK, CONTIG_HARD, deadline_ns, &err);
	cr_assert(pfn == 0 && err == -ETIMEDOUT && nr_vacates == 1);
	deadline_ns = fake_os.now_ns + 5 * MS;
	pfn = contig_alloc(BLOCK, CONTIG_HARD, deadline_ns, &err);
	cr_assert(pfn == base + BLOCK && err == 0 && nr_vacates == 3);
	cr_assert(pcp.high > 0);
	use(pfn, BLOCK);
	give(pfn, BLOCK);
	give_all();
}

/* Others' isolation is kept off, and what is unmovable is not waited for without a hook. */
Test(contig, what_cannot_be_a_window, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	int err = 0;

	scatter(0, NR, BLOCK, MIGRATE_UNMOVABLE);
	zone.config.vacate = NULL;
	cr_assert(contig_alloc(BLOCK, 0, 0, &err) == 0 && err == -ENOMEM);
	zone.config.vacate = vacate;
	give_all();
	cr_assert(isolate_range(base, NR * BLOCK, owner) == 0);
	cr_assert(contig_alloc(BLOCK, 0, 0, &err) == 0 && err == -ENOMEM);
	cr_assert(contig_alloc_range(base, BLOCK, 0, 0) == -EBUSY);
	cr_assert(isolate_undo(base, NR * BLOCK, owner) == 0);
}

Test(contig, one_gigabyte)
{
	pfn_t pfn;

	start_with(520, false);
	zone.config.vacate = NULL;
	pfn = contig_alloc(CONTIG_MAX_PAGES, 0, 0, NULL);
	use(pfn, CONTIG_MAX_PAGES);
	give(pfn, CONTIG_MAX_PAGES);
	/* One page in use in the middle of all that can be had. */
	cr_assert(contig_alloc_range(base + 260 * BLOCK, 1, 0, 0) == 0);
	cr_assert(contig_alloc(CONTIG_MAX_PAGES, 0, 0, NULL) == 0);
	cr_assert(contig_free(base + 260 * BLOCK, 1) == 0);
	cr_assert(contig_alloc(CONTIG_MAX_PAGES, 0, 0, NULL) != 0);
	finish();
}

/* --- reserves ----------------------------------------------------------------------------- */

Test(cma, lent_last_and_never_to_unmovable, .init = start_empty, .fini = finish)
{
	pfn_t pfn, first = 0;
	size_t nr = 0;
	int err = 1;

	cr_assert(cma_reserve(16 * PAGEBLOCK_BYTES - 5) == 0);
	cr_assert(stats().cma_total_pages == 16 * BLOCK && stats().cma_free_pages == 16 * BLOCK);
	cr_assert(stats().free_pages == stats().total_pages);
	/* Growth comes first. */
	for (size_t i = 0; i < (NR - 16) * BLOCK / 16; i++) {
		pfn = zone_alloc(16, 4, MIGRATE_MOVABLE, NULL);
		cr_assert(pfn >= base + 16 * BLOCK);
		zone_mark_clean(pfn, 16);
	}
	cr_assert(zone_alloc(16, 4, MIGRATE_UNMOVABLE, NULL) == 0);
	cr_assert(zone_alloc(BLOCK, 9, MIGRATE_UNMOVABLE, NULL) == 0);
	cr_assert(zone_alloc(2 * BLOCK, 0, MIGRATE_MOVABLE, NULL) == 0);
	while ((pfn = zone_alloc(16, 4, nr % 2 == 0 ? MIGRATE_MOVABLE : MIGRATE_RECLAIMABLE,
				 NULL)) != 0) {
		cr_assert(pageblock_type(span_block(pfn)) == MIGRATE_CMA);
		first = nr == 0 ? pfn : first;
		nr++;
		for (unsigned i = 0; i < 16; i++)
			held[pfn - base + i] = 1;
		fake_os_use(pfn, 16);
	}
	cr_assert(nr == 16 * BLOCK / 16 && stats().cma_free_pages == 0);
	core_check();
	/* And leaves when asked. */
	pfn = contig_alloc(4 * BLOCK, CONTIG_CMA, 0, &err);
	cr_assert(err == 0 && pageblock_type(span_block(pfn)) == MIGRATE_CMA);
	use(pfn, 4 * BLOCK);
	give(pfn, 4 * BLOCK);
	cr_assert(stats().cma_free_pages == 4 * BLOCK);
	give_all();
	cr_assert(stats().cma_free_pages == 16 * BLOCK && stats().cma_total_pages == 16 * BLOCK);
	for (size_t b = 0; b < 16; b++)
		cr_assert(pageblock_type(span_block(base + b * BLOCK)) == MIGRATE_CMA);
}

Test(cma, counted_as_free_and_as_cma, .init = start, .fini = finish)
{
	uint32_t owner = isolate_owner();
	pfn_t pfn;

	for (unsigned i = 0; i < 16; i++)
		cr_assert(cma_reserve(1) == 0);
	cr_assert(cma_reserve(1) == -ENOSPC);
	cr_assert(stats().cma_total_pages == 16 * BLOCK && stats().free_pages == NR * BLOCK);
	pfn = contig_alloc(BLOCK + 0, CONTIG_CMA, 0, NULL);
	use(pfn, BLOCK);
	cr_assert(stats().cma_free_pages == 15 * BLOCK && stats().free_pages == (NR - 1) * BLOCK);
	/* Isolated, it is neither. */
	cr_assert(isolate_range(base, 16 * BLOCK, owner) == 0);
	cr_assert(stats().cma_free_pages == 0 && stats().free_pages == (NR - 16) * BLOCK);
	core_check();
	give(pfn, BLOCK);
	cr_assert(stats().isolated_free_pages == 16 * BLOCK);
	cr_assert(isolate_undo(base, 16 * BLOCK, owner) == 0);
	cr_assert(stats().cma_free_pages == 16 * BLOCK && stats().free_pages == NR * BLOCK);
	/* A run over two areas there is not, and none beyond. */
	cr_assert(contig_alloc(2 * BLOCK, CONTIG_CMA, 0, NULL) == 0);
	/* Purged as others are, and counted as neither meanwhile. */
	cr_assert(purge_all() == PAGEBLOCK_BYTES);
	cr_assert(stats().cma_free_pages == 16 * BLOCK);
}

Test(cma, steps_of_a_reserve_that_fail, .init = start_empty, .fini = finish)
{
	struct core_stats before = stats(), after;

	fake_os.commit_limit = 4 * PAGEBLOCK_BYTES;
	cr_assert(cma_reserve(5 * PAGEBLOCK_BYTES) == -ENOMEM);
	for (unsigned step = 1; step <= 6; step++) {
		fake_os.fail_at = step;
		cr_assert(cma_reserve(5 * PAGEBLOCK_BYTES) == -ENOMEM);
		fake_os.fail_at = 0;
	}
	after = stats();
	cr_assert(memcmp(&before, &after, sizeof(before)) == 0);
	cr_assert(cma_reserve(4 * PAGEBLOCK_BYTES) == 0);
}

/* --- offline ------------------------------------------------------------------------------ */

Test(offline, free_blocks_go_back_and_come_again, .init = start, .fini = finish)
{
	int err = 1;
	pfn_t pfn = zone_alloc(10 * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	uint64_t calls;

	fake_os_use(pfn, 10 * BLOCK);
	fake_os_unuse(pfn, 10 * BLOCK);
	zone_free(pfn, 10 * BLOCK);
	/* Resident ones first. */
	cr_assert(offline_pages(10 * BLOCK, 0, &err) == 10 * BLOCK && err == 0);
	cr_assert(stats().offline_pages == 10 * BLOCK && stats().dirty_free_pages == 0);
	cr_assert(stats().isolated_free_pages == 0 && stats().free_pages == (NR - 10) * BLOCK);
	cr_assert(fake_os.nr_purges <= 10 && fake_os_zero(pfn, 10 * BLOCK));
	/* Nobody gets them, opens them, isolates them or gives them back again. */
	cr_assert(zone_alloc((NR - 9) * BLOCK, 0, MIGRATE_MOVABLE, NULL) == 0);
	cr_assert(!zone_extend(zone_alloc(1, 0, MIGRATE_MOVABLE, NULL), 1, NR * BLOCK, NULL));
	cr_assert(isolate_range(pfn, BLOCK, isolate_owner()) == -EBUSY);
	cr_assert(isolate_undo(pfn, BLOCK, ISOLATE_OFFLINE) == -EINVAL);
	cr_assert(contig_alloc_range(pfn, 1, 0, 0) == -EBUSY);
	calls = stats().purge_calls;
	cr_assert(purge_all() == 0 && stats().purge_calls == calls);
	core_check();
	/* Clean ones cost no call. */
	cr_assert(offline_pages((NR - 11) * BLOCK, 0, &err) == (NR - 11) * BLOCK && err == 0);
	cr_assert(stats().purge_calls == calls && stats().offline_pages == (NR - 1) * BLOCK);
	cr_assert(offline_pages(BLOCK, 0, &err) == 0 && err == -EBUSY);
	cr_assert(online_pages(5 * BLOCK + 7) == 5 * BLOCK);
	cr_assert(stats().offline_pages == (NR - 6) * BLOCK);
	cr_assert(online_pages(SIZE_MAX) == (NR - 6) * BLOCK);
	cr_assert(stats().offline_pages == 0 && stats().free_pages == NR * BLOCK - 1);
}

Test(offline, blocks_in_use_are_vacated, .init = start, .fini = finish)
{
	int err = 1;

	scatter(0, NR, 32, MIGRATE_MOVABLE);
	cr_assert(offline_pages(8 * BLOCK, 0, &err) == 0 && err == -EBUSY && nr_vacates == 0);
	cr_assert(offline_pages(8 * BLOCK, fake_os.now_ns + 100 * MS, &err) == 8 * BLOCK);
	cr_assert(err == 0 && nr_vacates == 8 && pcp.high > 0);
	cr_assert(stats().offline_pages == 8 * BLOCK && stats().isolated_free_pages == 0);
	core_check();
	/* One that cannot be vacated: what could be is kept, the rest is opened again. */
	zone.config.vacate = vacate_nothing;
	cr_assert(offline_pages(BLOCK, fake_os.now_ns + 1, &err) == 0 && err == -ETIMEDOUT);
	zone.config.vacate = vacate;
	cr_assert(stats().isolated_free_pages == 0);
	cr_assert(online_pages(SIZE_MAX) == 8 * BLOCK);
	give_all();
}

Test(offline, a_refused_madvise_keeps_the_block, .init = start, .fini = finish)
{
	pfn_t pfn = zone_alloc(3 * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	int err = 0;

	fake_os_use(pfn, 3 * BLOCK);
	fake_os_unuse(pfn, 3 * BLOCK);
	zone_free(pfn, 3 * BLOCK);
	fake_os.fail_purge = true;
	cr_assert(offline_pages(3 * BLOCK, 0, &err) == 0 && err == -EBUSY);
	core_check();
	cr_assert(stats().offline_pages == 0 && stats().free_pages == NR * BLOCK);
	cr_assert(stats().dirty_free_pages == 3 * BLOCK);
	fake_os.fail_purge = false;
	cr_assert(offline_pages(3 * BLOCK, 0, &err) == 3 * BLOCK && err == 0);
	cr_assert(fake_os_zero(pfn, 3 * BLOCK));
}

Test(offline, never_a_reserve, .init = start, .fini = finish)
{
	int err = 0;

	cr_assert(cma_reserve(4 * PAGEBLOCK_BYTES) == 0);
	cr_assert(offline_pages(NR * BLOCK, 0, &err) == (NR - 4) * BLOCK && err == -EBUSY);
	cr_assert(stats().cma_free_pages == 4 * BLOCK && stats().free_pages == 4 * BLOCK);
	cr_assert(zone_alloc(1, 0, MIGRATE_UNMOVABLE, NULL) == 0);
	cr_assert(zone_alloc(1, 0, MIGRATE_MOVABLE, NULL) != 0);
}
