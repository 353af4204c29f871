/*
 * R2 at the level of malloc: a quarter of memory is a reserve, four threads churn with malloc
 * and handles, and 30 rounds of 30 contiguous allocations of 8 MiB are made from the reserve
 * after handles and page runs have borrowed of it.  No page is lost, and 95 % succeed.
 */
#include "shim/heap.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define CMA_BYTES (256 * MIB)
#define OTHER_BYTES (768 * MIB)
#define RUN_BYTES (8 * MIB)
#define NR_RUNS 30u
#define NR_ROUNDS (30u / SLOWNESS_MILD)
#define NR_CHURNERS 4u

static _Atomic bool stop;

/* --- who churns --------------------------------------------------------------------------- */

struct item {
	uint64_t handle;
	size_t size;
	unsigned char tag;
};

static bool item_make(struct item *item, size_t size, unsigned char tag)
{
	int err;

	*item = (struct item){shim_handle_alloc(size, &err), size, tag};
	if (item->handle == 0)
		return false;
	memset(shim_handle_pin(item->handle, &err), tag, size);
	EXPECT(shim_handle_unpin(item->handle) == 0, "unpin");
	return true;
}

static void item_end(struct item *item)
{
	int err;
	const unsigned char *p = shim_handle_pin(item->handle, &err);

	EXPECT(p != NULL, "pin: %d", err);
	for (size_t i = 0; i < item->size; i += 61)
		EXPECT(p[i] == item->tag, "byte %zu of %zu", i, item->size);
	EXPECT(shim_handle_unpin(item->handle) == 0, "unpin");
	EXPECT(shim_handle_free(item->handle) == 0, "free");
	item->handle = 0;
}

static void *churn(void *arg)
{
	struct rng rng = {(uintptr_t)arg};
	struct item items[200] = {{0, 0, 0}};
	struct block blocks[200] = {{NULL, 0, 0, 0}};

	while (!atomic_load(&stop)) {
		struct item *item = &items[rng_below(&rng, 200)];
		struct block *b = &blocks[rng_below(&rng, 200)];

		if (item->handle != 0)
			item_end(item);
		else
			(void)item_make(item, rng_size(&rng, 20000), (unsigned char)rng_next(&rng));
		if (b->p != NULL)
			block_free(b);
		b->size = rng_size(&rng, 200000);
		b->p = shim_malloc(b->size);
		if (b->p != NULL)
			block_fill(b, b->size, rng_next(&rng));
	}
	for (unsigned i = 0; i < 200; i++) {
		if (items[i].handle != 0)
			item_end(&items[i]);
		if (blocks[i].p != NULL)
			block_free(&blocks[i]);
	}
	return NULL;
}

/* --- one round ------------------------------------------------------------------------------ */

static pfn_t filler[2 * OTHER_BYTES / PAGEBLOCK_BYTES];
static struct item lent[64];

static uint64_t cma_free_pages(void)
{
	struct core_stats stats;

	core_stats_read(&stats);
	return stats.cma_free_pages;
}

/* With nothing left elsewhere handles go into the reserve; then there is room elsewhere. */
static uint64_t borrow(unsigned round)
{
	uint64_t least = CMA_BYTES / PAGE_BYTES;
	size_t nr = 0;

	while (nr < sizeof(filler) / sizeof(filler[0]) &&
	       (filler[nr] = zone_alloc(PAGEBLOCK_PAGES, 0, MIGRATE_UNMOVABLE, NULL)) != 0)
		nr++;
	for (unsigned i = 0; i < 64; i++)
		(void)item_make(&lent[i], 500000, (unsigned char)(round + i));
	if (cma_free_pages() < least)
		least = cma_free_pages();
	while (nr > 0)
		zone_free(filler[--nr], PAGEBLOCK_PAGES);
	return CMA_BYTES / PAGE_BYTES - least;
}

static unsigned allocate_runs(unsigned round)
{
	char *runs[NR_RUNS];
	unsigned nr = 0;
	int err;

	for (unsigned i = 0; i < NR_RUNS; i++) {
		runs[nr] = shim_contig_alloc(RUN_BYTES, SHIM_CONTIG_HARD | SHIM_CONTIG_CMA,
					     shim_deadline_ns(1000), &err);
		EXPECT(runs[nr] != NULL || err == -ETIMEDOUT || err == -ENOMEM, "%d", err);
		if (runs[nr] == NULL)
			continue;
		for (size_t at = 0; at < RUN_BYTES; at += PAGEBLOCK_BYTES / 4)
			runs[nr][at] = (char)(round + nr);
		nr++;
	}
	for (unsigned i = 0; i < nr; i++) {
		for (size_t at = 0; at < RUN_BYTES; at += PAGEBLOCK_BYTES / 4)
			EXPECT(runs[i][at] == (char)(round + i), "overwritten");
		EXPECT(shim_contig_free(runs[i]) == 0, "free");
	}
	return nr;
}

Test(rounds, contiguous_runs_under_churn, .timeout = TIME_BOUND_S)
{
	/* Not 0: that has a meaning of its own. */
	const struct rlimit none = {PAGE_BYTES, RLIM_INFINITY};
	uint64_t seed = seed_begin("rounds/contiguous_runs_under_churn", 0), borrowed = 0;
	struct core_stats before, after;
	pthread_t threads[NR_CHURNERS];
	unsigned nr = 0;
	pfn_t pfn;

	test_config.cma_bytes = CMA_BYTES;
	shim_init();
	pfn = zone_alloc(OTHER_BYTES / PAGE_BYTES, 0, MIGRATE_MOVABLE, NULL);
	EXPECT(pfn != 0, "no memory");
	zone_free(pfn, OTHER_BYTES / PAGE_BYTES);
	/* Threads and handles first: from then on the zone does not grow. */
	shim_free(shim_malloc(1));
	EXPECT(item_make(&lent[0], 1, 1), "no handle");
	item_end(&lent[0]);
	(void)shim_trim();
	core_stats_read(&before);
	for (uintptr_t i = 0; i < NR_CHURNERS; i++)
		thread_start(&threads[i], churn, (void *)(seed + i));
	if (!UNDER_TSAN)
		EXPECT(setrlimit(RLIMIT_DATA, &none) == 0, "setrlimit");
	for (unsigned round = 0; round < NR_ROUNDS; round++) {
		borrowed += borrow(round);
		nr += allocate_runs(round);
		for (unsigned i = 0; i < 64; i++)
			if (lent[i].handle != 0)
				item_end(&lent[i]);
		if (round % 8 == 0)
			shim_check();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < NR_CHURNERS; i++)
		thread_join(threads[i]);
	expect_nothing_kept();
	core_stats_read(&after);
	EXPECT(after.allocated_pages == before.allocated_pages &&
		       after.cma_free_pages == CMA_BYTES / PAGE_BYTES &&
		       after.isolated_free_pages == 0,
	       "%llu pages allocated, %llu of the reserve free",
	       (unsigned long long)after.allocated_pages,
	       (unsigned long long)after.cma_free_pages);
	EXPECT(UNDER_TSAN || borrowed > 0, "nothing was borrowed");
	EXPECT(nr * 100 >= NR_ROUNDS * NR_RUNS * 95, "%u of %u runs, %llu pages borrowed", nr,
	       NR_ROUNDS * NR_RUNS, (unsigned long long)borrowed);
	if (getenv("PB_VERBOSE") != NULL)
		fprintf(stderr, "%u of %u runs, %llu pages borrowed in all\n", nr,
			NR_ROUNDS * NR_RUNS, (unsigned long long)borrowed);
}
