/*
 * R2: the original test of the freepage counts, in the shape of core.
 *
 * A quarter of the memory is a reserve; four threads churn movable, reclaimable and
 * unmovable runs and fill all that there is, the reserve included; 30 rounds of 30
 * contiguous allocations of 8 MiB are made from the reserve meanwhile, which is all of it,
 * some fast at first and all of them hard in the end, while another thread isolates and
 * undoes, purges, and takes blocks offline and online.  What a thread holds in the reserve
 * it gives up when it is asked to, as the layer above would.
 *
 * Pages lost or invented: none.  Allocations that succeed: at least 95 of 100.
 *
 * No Criterion: also meant for the thread sanitizer.  PB_ROUNDS, PB_SEED.
 */
#include "core/core.h"
#include "core/span.h"
#include "tests/support/random.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 4u
#define HELD_MAX 2048u
#define ROUNDS 30u
#define RUNS 30u
#define PERCENT_MIN 95u
/* More than any of the threads is kept from its processor on a busy machine. */
#define PATIENCE_NS ((uint64_t)1000 * 1000 * 1000)
#define RUN_PAGES ((size_t)2048) /* 8 MiB */
#define RUN_BLOCKS (RUN_PAGES / PAGEBLOCK_PAGES)
#define CMA_BLOCKS (RUNS * RUN_BLOCKS)
#define ALL_BLOCKS (4 * CMA_BLOCKS)

struct run {
	pfn_t pfn;
	uint32_t nr_pages;
	uint32_t stamp;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t mutex; /* of held */
	struct random random;
	struct pcp pcp;
	uint32_t nr_held;
	struct run held[HELD_MAX];
};

static struct worker workers[WORKERS];
static _Atomic bool stop;
static _Atomic uint64_t nr_refused, nr_vacated, nr_borrowed;

#define REQUIRE(cond)                                                                          \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "contig_churn: %s at line %d\n", #cond, __LINE__);     \
			abort();                                                               \
		}                                                                              \
	} while (0)

static bool stopped(void)
{
	/* Relaxed: only tells when to stop; the counters below are read at the end. */
	return atomic_load_explicit(&stop, memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter)
{
	(void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static uint64_t counted(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The last page and some of the others: the time goes into core, not into page faults. */
#define STRIDE 16u

static void stamp(struct run run)
{
	*(uint32_t *)pfn_to_addr(run.pfn + run.nr_pages - 1) = run.stamp + run.nr_pages - 1;
	for (uint32_t i = 0; i < run.nr_pages; i += STRIDE)
		*(uint32_t *)pfn_to_addr(run.pfn + i) = run.stamp + i;
}

static void look(struct run run)
{
	REQUIRE(*(uint32_t *)pfn_to_addr(run.pfn + run.nr_pages - 1) ==
		run.stamp + run.nr_pages - 1);
	for (uint32_t i = 0; i < run.nr_pages; i += STRIDE)
		REQUIRE(*(uint32_t *)pfn_to_addr(run.pfn + i) == run.stamp + i);
}

static void give(struct worker *worker, struct run run)
{
	unsigned order = log2_floor(run.nr_pages);

	look(run);
	if (is_power_of_two(run.nr_pages) && order < PCP_ORDERS &&
	    (run.pfn & (run.nr_pages - 1)) == 0)
		pcp_free(&worker->pcp, run.pfn, order);
	else
		zone_free(run.pfn, run.nr_pages);
}

/* What the layer above does: everybody's runs there are given up. */
static int vacate(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	(void)deadline_ns;
	for (unsigned w = 0; w < WORKERS; w++) {
		struct worker *worker = &workers[w];

		(void)pthread_mutex_lock(&worker->mutex);
		for (uint32_t i = 0; i < worker->nr_held;) {
			struct run run = worker->held[i];

			if (run.pfn >= pfn + nr_pages || run.pfn + run.nr_pages <= pfn) {
				i++;
				continue;
			}
			worker->held[i] = worker->held[--worker->nr_held];
			give(worker, run);
			count(&nr_vacated);
		}
		(void)pthread_mutex_unlock(&worker->mutex);
	}
	return 0;
}

/* False when there was no room. */
static bool take(struct worker *worker)
{
	static const enum migratetype types[] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE,
						 MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE};
	enum migratetype mt = types[random_below(&worker->random, 4)];
	struct run run = {.stamp = (uint32_t)random_next(&worker->random) | 1u};

	if (random_below(&worker->random, 2) == 0) {
		unsigned order = (unsigned)random_below(&worker->random, PCP_ORDERS);

		run.nr_pages = 1u << order;
		run.pfn = pcp_alloc(&worker->pcp, order, mt, NULL);
	} else {
		run.nr_pages = 1 + (uint32_t)random_below(&worker->random, 200);
		run.pfn = zone_alloc(run.nr_pages, 0, mt, NULL);
	}
	if (run.pfn == 0) {
		count(&nr_refused);
		return false;
	}
	if (pageblock_type(span_block(run.pfn)) == MIGRATE_CMA) {
		REQUIRE(mt != MIGRATE_UNMOVABLE);
		count(&nr_borrowed);
	}
	stamp(run);
	worker->held[worker->nr_held++] = run;
	return true;
}

static void give_one(struct worker *worker)
{
	uint32_t i;
	struct run run;

	if (worker->nr_held == 0)
		return;
	i = (uint32_t)random_below(&worker->random, worker->nr_held);
	run = worker->held[i];
	worker->held[i] = worker->held[--worker->nr_held];
	give(worker, run);
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	(void)pthread_mutex_lock(&worker->mutex);
	while (worker->nr_held < HELD_MAX && counted(&nr_borrowed) < 100)
		(void)take(worker);
	(void)pthread_mutex_unlock(&worker->mutex);
	while (!stopped()) {
		(void)pthread_mutex_lock(&worker->mutex);
		if (worker->nr_held == HELD_MAX || random_below(&worker->random, 100) >= 60) {
			give_one(worker);
		} else if (!take(worker)) {
			/* Full: a little room, or nothing but refusals would follow. */
			for (unsigned i = 0; i < 8; i++)
				give_one(worker);
		}
		(void)pthread_mutex_unlock(&worker->mutex);
		work_tick();
	}
	return NULL;
}

static void *disturb(void *arg)
{
	struct span *span = span_at(0);
	struct random random;
	uint64_t rounds = 0;

	random_seed(&random, *(const uint64_t *)arg);
	for (; !stopped(); rounds++) {
		uint32_t owner = isolate_owner();
		size_t nr = 1 + random_below(&random, 8);
		size_t from = random_below(&random, span_committed(span) - nr);
		pfn_t pfn = span->start + from * PAGEBLOCK_PAGES;
		bool isolated = isolate_range(pfn, nr * PAGEBLOCK_PAGES, owner) == 0;
		struct core_stats stats;

		if (rounds % 8 == 0)
			(void)offline_pages(4 * PAGEBLOCK_PAGES, os_now_ns() + 3000000, NULL);
		if (rounds % 8 == 4)
			(void)purge_all();
		core_stats_read(&stats);
		REQUIRE(stats.free_pages + stats.isolated_free_pages + stats.pcp_pages +
				stats.purging_pages + stats.allocated_pages +
				stats.offline_pages ==
			stats.total_pages);
		REQUIRE(stats.cma_free_pages <= stats.free_pages);
		REQUIRE(stats.cma_total_pages == CMA_BLOCKS * PAGEBLOCK_PAGES);
		if (rounds % 8 == 7)
			(void)online_pages(SIZE_MAX);
		if (isolated)
			REQUIRE(isolate_undo(pfn, nr * PAGEBLOCK_PAGES, owner) == 0);
		if (rounds % 16 == 0)
			core_check();
		os_yield();
	}
	(void)online_pages(SIZE_MAX);
	printf("%llu rounds of isolating, purging, offline and online\n",
	       (unsigned long long)rounds);
	return NULL;
}

static unsigned nr_fast, nr_fast_ok;

/* In every other case at first without waiting; 0: not even by waiting. */
static pfn_t contig_run(struct random *random)
{
	pfn_t pfn = 0;
	int err = 0;

	if (random_below(random, 2) == 0) {
		pfn = contig_alloc(RUN_PAGES, CONTIG_CMA, 0, &err);
		REQUIRE((pfn != 0) == (err == 0));
		REQUIRE(err == 0 || err == -EBUSY || err == -ENOMEM);
		nr_fast++;
		nr_fast_ok += pfn != 0;
	}
	if (pfn == 0) {
		pfn = contig_alloc(RUN_PAGES, CONTIG_CMA | CONTIG_HARD, os_now_ns() + PATIENCE_NS,
				   &err);
		REQUIRE((pfn != 0) == (err == 0));
		REQUIRE(err == 0 || err == -ETIMEDOUT);
	}
	return pfn;
}

/* Until the threads have borrowed from the reserve again. */
static void wait_for_borrowers(uint64_t nr_more)
{
	uint64_t enough = counted(&nr_borrowed) + nr_more;
	uint64_t late_ns = os_now_ns() + (uint64_t)60 * 1000 * 1000 * 1000;

	while (counted(&nr_borrowed) < enough) {
		REQUIRE(os_now_ns() < late_ns);
		os_yield();
	}
}

/* One round: as many of the runs as can be had, stamped, looked at, freed. */
static unsigned contig_round(struct random *random)
{
	struct run runs[RUNS];
	unsigned nr = 0;

	for (unsigned i = 0; i < RUNS; i++) {
		struct run run = {.pfn = contig_run(random),
				  .nr_pages = RUN_PAGES,
				  .stamp = (uint32_t)random_next(random) | 1u};

		if (run.pfn == 0)
			continue;
		REQUIRE(run.pfn % PAGEBLOCK_PAGES == 0);
		stamp(run);
		runs[nr++] = run;
	}
	for (unsigned i = 0; i < nr; i++) {
		for (pfn_t pfn = runs[i].pfn; pfn < runs[i].pfn + RUN_PAGES;
		     pfn += PAGEBLOCK_PAGES)
			REQUIRE(pageblock_type(span_block(pfn)) == MIGRATE_CMA);
		look(runs[i]);
		REQUIRE(contig_free(runs[i].pfn, RUN_PAGES) == 0);
	}
	return nr;
}

static void finish(unsigned nr_contig, unsigned nr_wanted)
{
	struct core_stats stats;

	for (unsigned w = 0; w < WORKERS; w++)
		while (workers[w].nr_held > 0)
			give(&workers[w], workers[w].held[--workers[w].nr_held]);
	core_check();
	pcp_drain_all();
	core_check();
	core_stats_read(&stats);
	printf("R2: %u of %u contiguous runs, %u of %u without waiting; "
	       "%llu borrowed, %llu vacated, %llu refused\n",
	       nr_contig, nr_wanted, nr_fast_ok, nr_fast, (unsigned long long)counted(&nr_borrowed), (unsigned long long)counted(&nr_vacated),
	       (unsigned long long)counted(&nr_refused));
	printf("%lld pages lost\n", (long long)(stats.total_pages - stats.free_pages));
	REQUIRE(stats.free_pages == stats.total_pages && stats.allocated_pages == 0);
	REQUIRE(stats.cma_free_pages == CMA_BLOCKS * PAGEBLOCK_PAGES);
	REQUIRE(stats.contig_ok == nr_contig && nr_contig > 0);
	REQUIRE(nr_contig * 100 >= nr_wanted * PERCENT_MIN);
	/* It was a test of something. */
	REQUIRE(counted(&nr_borrowed) > 0 && counted(&nr_vacated) > 0);
	printf("contig-churn: 1 passed, 0 failed\n");
}

/* There is no more memory than that of one span. */
static int one_span(void *start, size_t nr_bytes)
{
	static unsigned nr_spans;

	(void)start;
	(void)nr_bytes;
	return nr_spans++ == 0 ? 0 : -ENOMEM;
}

int main(void)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = one_span,
		.vacate = vacate,
		.reserve_bytes = ALL_BLOCKS * PAGEBLOCK_BYTES,
		.decay_ns = 20000000,
		.thp_from_bytes = SIZE_MAX,
	};
	uint64_t seed = random_env("PB_SEED", 1);
	uint64_t rounds = random_env("PB_ROUNDS", ROUNDS);
	struct random random;
	pthread_t disturber;
	unsigned nr_contig = 0;

	random_seed(&random, seed);
	REQUIRE(core_init(&config) == 0);
	REQUIRE(cma_reserve(CMA_BLOCKS * PAGEBLOCK_BYTES) == 0);
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct worker *worker = &workers[i];

		random_seed(&worker->random, seed * 1000 + i);
		(void)pthread_mutex_init(&worker->mutex, NULL);
		pcp_init(&worker->pcp);
		REQUIRE(pthread_create(&worker->thread, NULL, work, worker) == 0);
	}
	/* Begin when there is nothing left. */
	wait_for_borrowers(100);
	REQUIRE(pthread_create(&disturber, NULL, disturb, &seed) == 0);
	for (uint64_t i = 0; i < rounds; i++) {
		nr_contig += contig_round(&random);
		wait_for_borrowers(8);
	}
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (uint32_t i = 0; i < WORKERS; i++)
		(void)pthread_join(workers[i].thread, NULL);
	(void)pthread_join(disturber, NULL);
	finish(nr_contig, (unsigned)rounds * RUNS);
	return 0;
}
