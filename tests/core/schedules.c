/*
 * Random operations of several threads under random schedules.
 *
 * The threads of a seed run one at a time and change only at pause points, where the seed
 * decides (tests/support/sched.h).  At each drop of the zone lock all counters are
 * compared with a walk.  Beside that:
 *   R5  once isolate_range() and pcp_drain_all() have returned, or inside of
 *       pcp_disable(), no cache has a page of the range, until it is undone
 *   R9  what one has isolated nobody else opens
 *   at the end every page is free, and no thread waits for ever
 *
 * PB_SCHEDULES seeds are tried, PB_SEED only that one; a failure prints the command that
 * repeats it.  Each seed runs in a process of its own.
 */
#include "core/isolate.h"
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"
#include "tests/support/fake_os.h"
#include "tests/support/random.h"
#include "tests/support/sched.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCHEDULES_DEFAULT 1500u
#define SECONDS_MAX 60u
#define WORKERS 4u
#define OPS 32u
#define BLOCK PAGEBLOCK_PAGES
#define NR ((size_t)12)
#define NR_CMA ((size_t)4)
#define RUNS_MAX 32u
/* Each os_yield() moves the clock by one. */
#define PATIENCE ((uint64_t)40)

struct run {
	pfn_t pfn;
	size_t nr_pages;
};

struct worker {
	struct pcp pcp;
	struct random random;
	unsigned nr_runs;
	struct run runs[RUNS_MAX];
	struct run contig;
	/* What it has isolated, and whether that was followed by a drain. */
	struct run isolated;
	uint32_t owner;
	bool drained;
	bool disabled;
	/* It has been promised that nothing is cached. */
	bool nothing_cached;
};

static struct worker workers[WORKERS];
static pfn_t base;
static unsigned nr_isolated, nr_contig, nr_offline, nr_purged;

#define REQUIRE(cond)                                                                          \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "schedules: %s at line %d\n", #cond, __LINE__);        \
			sched_print();                                                         \
			abort();                                                               \
		}                                                                              \
	} while (0)

static uint64_t below(struct worker *worker, uint64_t n)
{
	return random_below(&worker->random, n);
}

/* Whether any cache has a page of it: read without locks, as nobody runs meanwhile. */
static bool any_cached(struct run range)
{
	for (unsigned w = 0; w < WORKERS; w++)
		for (unsigned list = 0; list < PCP_LISTS; list++)
			for (unsigned slot = workers[w].pcp.head[list]; slot != 0;
			     slot = workers[w].pcp.older[slot]) {
				pfn_t pfn = workers[w].pcp.run[slot] >> 1;

				if (pfn >= range.pfn && pfn < range.pfn + range.nr_pages)
					return true;
			}
	return false;
}

static void look_at_isolated(const struct worker *worker)
{
	for (size_t i = 0; i < worker->isolated.nr_pages; i += BLOCK) {
		const struct pageblock *block = span_block(worker->isolated.pfn + i);

		REQUIRE(pageblock_isolated(block) && block->owner == worker->owner);
	}
}

/* After each stop of any thread: what has been promised holds. */
static void look_at_promises(void)
{
	for (unsigned w = 0; w < WORKERS; w++) {
		if (workers[w].drained)
			REQUIRE(!any_cached(workers[w].isolated));
		if (workers[w].nothing_cached)
			REQUIRE(!any_cached((struct run){.pfn = base, .nr_pages = NR * BLOCK}));
	}
}

/* --- operations ------------------------------------------------------------------------- */

static void keep(struct worker *worker, pfn_t pfn, size_t nr_pages, enum migratetype mt)
{
	if (pfn == 0)
		return;
	REQUIRE(mt != MIGRATE_UNMOVABLE || pageblock_type(span_block(pfn)) != MIGRATE_CMA);
	fake_os_use(pfn, nr_pages);
	worker->runs[worker->nr_runs++] = (struct run){.pfn = pfn, .nr_pages = nr_pages};
}

static void give(struct worker *worker, unsigned i, bool cached)
{
	struct run run = worker->runs[i];
	unsigned order = log2_floor(run.nr_pages);

	worker->runs[i] = worker->runs[--worker->nr_runs];
	fake_os_unuse(run.pfn, run.nr_pages);
	if (cached && is_power_of_two(run.nr_pages) && order < PCP_ORDERS &&
	    (run.pfn & (run.nr_pages - 1)) == 0)
		pcp_free(&worker->pcp, run.pfn, order);
	else
		zone_free(run.pfn, run.nr_pages);
}

static void do_alloc(struct worker *worker)
{
	enum migratetype mt = (enum migratetype)below(worker, PCP_TYPES);
	size_t nr_pages;

	if (worker->nr_runs == RUNS_MAX)
		return;
	if (below(worker, 3) != 0) {
		unsigned order = 2 + (unsigned)below(worker, 5);

		keep(worker, pcp_alloc(&worker->pcp, order, mt, NULL), (size_t)1 << order, mt);
		return;
	}
	nr_pages = 1 + below(worker, 2 * BLOCK);
	keep(worker, zone_alloc(nr_pages, 0, mt, NULL), nr_pages, mt);
}

static void do_free(struct worker *worker)
{
	if (worker->nr_runs > 0)
		give(worker, (unsigned)below(worker, worker->nr_runs), below(worker, 4) != 0);
}

static void do_extend(struct worker *worker)
{
	struct run run;
	size_t more = 1 + below(worker, BLOCK);

	if (worker->nr_runs == 0)
		return;
	/* Nobody may vacate it meanwhile. */
	run = worker->runs[--worker->nr_runs];
	if (zone_extend(run.pfn, run.nr_pages, run.nr_pages + more, NULL)) {
		fake_os_use(run.pfn + run.nr_pages, more);
		run.nr_pages += more;
	}
	worker->runs[worker->nr_runs++] = run;
}

/* The layer above: whoever holds something there gives it up, mostly. */
static int vacate(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	(void)deadline_ns;
	for (unsigned w = 0; w < WORKERS; w++)
		for (unsigned i = 0; i < workers[w].nr_runs;) {
			struct run run = workers[w].runs[i];

			if (run.pfn >= pfn + nr_pages || run.pfn + run.nr_pages <= pfn ||
			    (run.pfn + run.nr_pages) % 16 == 7)
				i++;
			else
				give(&workers[w], i, i % 2 == 0);
		}
	return 0;
}

/* A block to isolate: more often than not one that somebody has something of. */
static size_t some_block(struct worker *worker)
{
	struct worker *other = &workers[below(worker, WORKERS)];
	pfn_t pfn;

	if (other->nr_runs == 0 || below(worker, 4) == 0)
		return below(worker, NR);
	pfn = other->runs[below(worker, other->nr_runs)].pfn;
	return (size_t)(pfn - base) / BLOCK;
}

static void do_isolate(struct worker *worker)
{
	size_t from = some_block(worker);
	struct run range = {.pfn = base + from * BLOCK,
			    .nr_pages = (1 + below(worker, NR - from)) * BLOCK};

	if (worker->isolated.nr_pages > 0) {
		look_at_isolated(worker);
		worker->drained = false;
		REQUIRE(isolate_undo(worker->isolated.pfn, worker->isolated.nr_pages,
				     worker->owner) == 0);
		worker->isolated.nr_pages = 0;
		return;
	}
	if (range.nr_pages > 4 * BLOCK)
		range.nr_pages = 4 * BLOCK;
	if (isolate_range(range.pfn, range.nr_pages, worker->owner) != 0)
		return;
	worker->isolated = range;
	worker->drained = false;
	nr_isolated++;
	if (below(worker, 4) != 0) {
		pcp_drain_all();
		worker->drained = true;
	}
	look_at_isolated(worker);
}

static void do_contig(struct worker *worker)
{
	struct run run = {.nr_pages = 1 + below(worker, 2 * BLOCK)};
	unsigned flags = (unsigned)below(worker, 4);
	uint64_t deadline_ns = (flags & CONTIG_HARD) != 0 ? fake_os.now_ns + PATIENCE : 0;
	int err = 1;

	if (worker->contig.nr_pages > 0) {
		run = worker->contig;
		worker->contig.nr_pages = 0;
		fake_os_unuse(run.pfn, run.nr_pages);
		REQUIRE(contig_free(run.pfn, run.nr_pages) == 0);
		return;
	}
	if (below(worker, 3) == 0) {
		run.pfn = base + below(worker, (NR - 3) * BLOCK);
		err = contig_alloc_range(run.pfn, run.nr_pages, flags & CONTIG_HARD, deadline_ns);
	} else {
		run.pfn = contig_alloc(run.nr_pages, flags, deadline_ns, &err);
		REQUIRE((run.pfn != 0) == (err == 0));
	}
	REQUIRE(err == 0 || err == -EBUSY || err == -ETIMEDOUT || err == -ENOMEM ||
		err == -ERANGE);
	if (err != 0)
		return;
	fake_os_use(run.pfn, run.nr_pages);
	worker->contig = run;
	nr_contig++;
}

static void do_offline(struct worker *worker)
{
	bool wait = below(worker, 2) == 0;

	if (below(worker, 2) == 0)
		(void)online_pages((1 + below(worker, 4)) * BLOCK);
	else
		nr_offline += offline_pages((1 + below(worker, 3)) * BLOCK,
					    wait ? fake_os.now_ns + PATIENCE : 0, NULL) > 0;
}

static void do_purge(struct worker *worker)
{
	fake_os.now_ns += 1000;
	if (below(worker, 2) == 0)
		work_tick();
	else
		nr_purged += purge_all() > 0;
}

static void do_disable(struct worker *worker)
{
	worker->disabled = !worker->disabled;
	if (!worker->disabled) {
		worker->nothing_cached = false;
		pcp_enable();
		return;
	}
	pcp_disable();
	worker->nothing_cached = true;
}

static void do_drain(struct worker *worker)
{
	(void)worker;
	pcp_drain_all();
}

static void leave(struct worker *worker)
{
	while (worker->nr_runs > 0)
		give(worker, worker->nr_runs - 1, true);
	if (worker->isolated.nr_pages > 0)
		do_isolate(worker);
	if (worker->contig.nr_pages > 0)
		do_contig(worker);
	if (worker->disabled)
		do_disable(worker);
}

static void *work(void *arg)
{
	static void (*const operations[])(struct worker *) = {
		do_alloc, do_alloc,   do_alloc,  do_alloc,   do_free,	 do_free,  do_free,
		do_free,  do_free,    do_isolate, do_isolate, do_isolate, do_isolate, do_isolate,
		do_isolate, do_contig, do_contig, do_offline, do_purge, do_extend, do_disable,
		do_drain,
	};
	struct worker *worker = arg;

	pcp_init(&worker->pcp);
	for (unsigned op = 0; op < OPS; op++)
		operations[below(worker, sizeof(operations) / sizeof(operations[0]))](worker);
	leave(worker);
	return NULL;
}

/* --- one seed ----------------------------------------------------------------------------- */

/* Every other seed starts with little, and grows meanwhile. */
static void start(bool grows)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.vacate = vacate,
		.reserve_bytes = NR * PAGEBLOCK_BYTES,
		.decay_ns = 500,
		.thp_from_bytes = SIZE_MAX,
	};

	REQUIRE(core_init(&config) == 0);
	fake_os.reserve_limit = fake_os.reserved_bytes;
	fake_os.yield_ns = 1;
	if (!grows) {
		base = zone_alloc(NR * BLOCK, 0, MIGRATE_MOVABLE, NULL);
		REQUIRE(base != 0);
		zone_mark_clean(base, NR * BLOCK);
		zone_free(base, NR * BLOCK);
	}
	base = span_at(0)->start;
	REQUIRE(cma_reserve(NR_CMA * PAGEBLOCK_BYTES) == 0);
	core_check_every(1);
}

static void run_seed(uint64_t seed)
{
	struct core_stats stats;

	(void)alarm(SECONDS_MAX);
	start(seed % 2 == 0);
	for (unsigned w = 0; w < WORKERS; w++) {
		random_seed(&workers[w].random, seed * WORKERS + w);
		workers[w].owner = isolate_owner();
		(void)sched_spawn(work, &workers[w]);
	}
	sched_at_each_stop = look_at_promises;
	REQUIRE(sched_random(seed));
	sched_end();
	core_check();
	pcp_drain_all();
	(void)online_pages(SIZE_MAX);
	core_check();
	core_stats_read(&stats);
	REQUIRE(stats.free_pages == stats.total_pages && stats.total_pages <= NR * BLOCK);
	REQUIRE(stats.total_pages == NR * BLOCK || seed % 2 == 0);
	REQUIRE(stats.cma_free_pages == NR_CMA * BLOCK);
	REQUIRE(fake_os.violations == 0);
	/* For the parent: what this seed came by. */
	_exit((nr_isolated > 0) | (nr_contig > 0) << 1 | (nr_offline > 0) << 2 |
	      (nr_purged > 0) << 3);
}

/* What the seed came by; negative: it failed. */
static int try_seed(uint64_t seed)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		run_seed(seed);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) < 16)
		return WEXITSTATUS(status);
	fprintf(stderr, "schedules: seed %llu: %s; to repeat it: PB_SEED=%llu make check-schedules\n",
		(unsigned long long)seed,
		WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "it takes for ever" : "failed",
		(unsigned long long)seed);
	return -1;
}

int main(void)
{
	uint64_t seed = random_env("PB_SEED", 0);
	uint64_t nr = seed != 0 ? 1 : random_env("PB_SCHEDULES", SCHEDULES_DEFAULT);
	unsigned came_by[4] = {0};
	unsigned nr_failed = 0;

	for (uint64_t i = 0; i < nr && nr_failed == 0; i++) {
		int got = try_seed(seed != 0 ? seed : i + 1);

		nr_failed += got < 0;
		for (unsigned k = 0; k < 4 && got > 0; k++)
			came_by[k] += (unsigned)got >> k & 1;
	}
	printf("%llu schedules: %u isolated, %u took contiguous runs, %u offline, %u purged\n",
	       (unsigned long long)nr, came_by[0], came_by[1], came_by[2], came_by[3]);
	/* It was a test of something. */
	for (unsigned k = 0; k < 4 && nr >= 100 && nr_failed == 0; k++)
		if (came_by[k] < nr / 20) {
			fprintf(stderr, "schedules: hardly any came by everything\n");
			nr_failed = 1;
		}
	printf("core-schedules: %u passed, %u failed\n", nr_failed == 0, nr_failed);
	return nr_failed != 0;
}
