/*
 * Several threads on the page allocator, on real memory.
 *
 * Each stamps the first word of the pages it holds and looks at it before it gives them
 * up: a page handed out twice, purged while in use, or promised to be zero when it is not,
 * is seen.  Runs change hands through a shared table, one thread isolates and undoes, one
 * purges and drains everybody.  At the end nothing may be missing.
 *
 * Meant to be run under the thread sanitizer too: no Criterion, no races of its own.
 * PB_OPS operations a thread, PB_SEED.
 */
#include "core/core.h"
#include "core/span.h"
#include "core/zone.h"
#include "tests/support/random.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 4u
#define HELD_MAX 256u
#define SHARED_MAX 64u
#define PAGES_MAX 6144u /* held by one worker */

struct run {
	pfn_t pfn;
	uint32_t nr_pages;
	uint32_t stamp;
};

struct worker {
	pthread_t thread;
	struct random random;
	struct pcp pcp;
	uint64_t nr_ops;
	uint32_t id;
	uint32_t nr_held;
	size_t pages_held;
	struct run held[HELD_MAX];
};

static struct worker workers[WORKERS];
static pthread_mutex_t shared_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run shared[SHARED_MAX];
static _Atomic bool stop;

#define REQUIRE(cond)                                                                          \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "churn: %s at line %d\n", #cond, __LINE__);            \
			abort();                                                               \
		}                                                                              \
	} while (0)

static uint32_t *word_of(pfn_t pfn)
{
	return pfn_to_addr(pfn);
}

static void stamp(struct run run)
{
	for (uint32_t i = 0; i < run.nr_pages; i++)
		*word_of(run.pfn + i) = run.stamp + i;
}

static void look(struct run run)
{
	for (uint32_t i = 0; i < run.nr_pages; i++)
		REQUIRE(*word_of(run.pfn + i) == run.stamp + i);
}

static void keep(struct worker *worker, struct run run)
{
	worker->held[worker->nr_held++] = run;
	worker->pages_held += run.nr_pages;
}

static struct run pick(struct worker *worker)
{
	uint32_t i = (uint32_t)random_below(&worker->random, worker->nr_held);
	struct run run = worker->held[i];

	worker->held[i] = worker->held[--worker->nr_held];
	worker->pages_held -= run.nr_pages;
	return run;
}

static void take(struct worker *worker)
{
	static const enum migratetype types[] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE,
						 MIGRATE_RECLAIMABLE};
	enum migratetype mt = types[random_below(&worker->random, 3)];
	struct run run = {.stamp = (uint32_t)random_next(&worker->random) | 1u};
	bool zeroed = false;

	if (random_below(&worker->random, 2) == 0) {
		unsigned order = (unsigned)random_below(&worker->random, PCP_ORDERS);

		run.nr_pages = 1u << order;
		run.pfn = pcp_alloc(&worker->pcp, order, mt, &zeroed);
	} else {
		run.nr_pages = (uint32_t)random_size(&worker->random, 10);
		run.pfn = zone_alloc(run.nr_pages, (unsigned)random_below(&worker->random, 5), mt,
				     &zeroed);
	}
	REQUIRE(run.pfn != 0 && zone_owns(pfn_to_addr(run.pfn)));
	for (uint32_t i = 0; zeroed && i < run.nr_pages; i++)
		REQUIRE(*word_of(run.pfn + i) == 0);
	stamp(run);
	keep(worker, run);
}

static void give(struct worker *worker)
{
	struct run run = pick(worker);
	unsigned order = log2_floor(run.nr_pages);
	uint32_t half = run.nr_pages / 2;

	look(run);
	if (is_power_of_two(run.nr_pages) && order < PCP_ORDERS &&
	    (run.pfn & (run.nr_pages - 1)) == 0 && random_below(&worker->random, 4) != 0) {
		pcp_free(&worker->pcp, run.pfn, order);
		return;
	}
	/* In two parts, the later one first. */
	zone_free(run.pfn + half, run.nr_pages - half);
	if (half > 0)
		zone_free(run.pfn, half);
}

static void grow(struct worker *worker)
{
	struct run run = pick(worker);
	uint32_t more = (uint32_t)random_size(&worker->random, 10);
	bool zeroed = false;

	look(run);
	if (zone_extend(run.pfn, run.nr_pages, run.nr_pages + more, &zeroed)) {
		for (uint32_t i = run.nr_pages; zeroed && i < run.nr_pages + more; i++)
			REQUIRE(*word_of(run.pfn + i) == 0);
		run.nr_pages += more;
		stamp(run);
	}
	keep(worker, run);
}

/* Swaps a run with the shared table: others free what this one allocated. */
static void swap(struct worker *worker)
{
	struct run run = pick(worker);
	struct run other;
	uint64_t i = random_below(&worker->random, SHARED_MAX);

	(void)pthread_mutex_lock(&shared_mutex);
	other = shared[i];
	shared[i] = run;
	(void)pthread_mutex_unlock(&shared_mutex);
	if (other.pfn != 0)
		keep(worker, other);
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (uint64_t op = 0; op < worker->nr_ops; op++) {
		unsigned which = (unsigned)random_below(&worker->random, 100);
		bool full = worker->nr_held >= HELD_MAX - 1 || worker->pages_held >= PAGES_MAX;

		if (worker->nr_held == 0 || (which < 45 && !full))
			take(worker);
		else if (which < 90)
			give(worker);
		else if (which < 95)
			grow(worker);
		else
			swap(worker);
		work_tick();
	}
	while (worker->nr_held > 0)
		give(worker);
	return NULL;
}

/* Everybody's enemy: purges, drains, isolates, checks. */
static void *disturb(void *arg)
{
	struct random random;
	uint64_t rounds = 0;

	random_seed(&random, *(const uint64_t *)arg);
	/* Relaxed: only tells when to stop. */
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct span *span = span_at(0);
		size_t nr = span_committed(span);
		struct pageblock *block;
		struct core_stats stats;

		if (nr == 0)
			continue;
		block = &span->blocks[random_below(&random, nr)];
		zone_lock();
		zone_set_isolated_locked(block, true);
		zone_unlock();
		if (rounds % 8 == 0)
			(void)purge_all();
		if (rounds % 4 == 0)
			pcp_drain_all();
		core_stats_read(&stats);
		REQUIRE(stats.free_pages + stats.isolated_free_pages + stats.pcp_pages +
				stats.purging_pages + stats.allocated_pages ==
			stats.total_pages);
		zone_lock();
		zone_set_isolated_locked(block, false);
		zone_unlock();
		if (rounds % 16 == 0)
			core_check();
		rounds++;
		for (unsigned i = 0; i < 100; i++)
			os_yield();
	}
	printf("%llu rounds of purging, draining, isolating\n", (unsigned long long)rounds);
	return NULL;
}

static void finish(void)
{
	struct core_stats stats;

	for (unsigned i = 0; i < SHARED_MAX; i++) {
		if (shared[i].pfn == 0)
			continue;
		look(shared[i]);
		zone_free(shared[i].pfn, shared[i].nr_pages);
	}
	core_check();
	pcp_drain_all();
	(void)purge_all();
	core_check();
	core_stats_read(&stats);
	REQUIRE(stats.free_pages == stats.total_pages && stats.allocated_pages == 0);
	REQUIRE(stats.dirty_free_pages == 0);
	printf("%llu pages, %llu purged in %llu calls, %llu claims: none lost\n",
	       (unsigned long long)stats.total_pages, (unsigned long long)stats.purged_pages,
	       (unsigned long long)stats.purge_calls, (unsigned long long)stats.claims);
	printf("core-churn: 1 passed, 0 failed\n");
}

int main(void)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.decay_ns = 2000000,
		.thp_from_bytes = SIZE_MAX,
	};
	uint64_t seed = random_env("PB_SEED", 1);
	uint64_t nr_ops = random_env("PB_OPS", 30000);
	pthread_t disturber;

	REQUIRE(core_init(&config) == 0);
	REQUIRE(pthread_create(&disturber, NULL, disturb, &seed) == 0);
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct worker *worker = &workers[i];

		random_seed(&worker->random, seed * 1000 + i);
		worker->id = i;
		worker->nr_ops = nr_ops;
		pcp_init(&worker->pcp);
		REQUIRE(pthread_create(&worker->thread, NULL, work, worker) == 0);
	}
	for (uint32_t i = 0; i < WORKERS; i++)
		(void)pthread_join(workers[i].thread, NULL);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	(void)pthread_join(disturber, NULL);
	finish();
	return 0;
}
