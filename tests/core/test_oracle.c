/*
 * Random sequences of operations on the page allocator and on the model, in lock-step.
 *
 * PB_OPS says how many operations in all, PB_SEED which sequence (alone, then).  A failure
 * prints the command that repeats it.
 */
#include "core/core.h"
#include "core/span.h"
#include "tests/support/fake_os.h"
#include "tests/support/oracle.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define NR_SEEDS 8u
#define OPS_DEFAULT 2400000u
#define RUNS_MAX 4096u
#define DECAY_NS 1000000u

struct run {
	pfn_t pfn;
	size_t nr_pages;
};

static struct oracle oracle;
static struct pcp pcp;
static struct run runs[RUNS_MAX];
static unsigned nr_runs;
static struct random random_state;
static unsigned cma_blocks;

static uint64_t below(uint64_t n)
{
	return random_below(&random_state, n);
}

static bool chance(unsigned percent)
{
	return below(100) < percent;
}

static void keep(pfn_t pfn, size_t nr_pages)
{
	if (pfn == 0 || nr_pages == 0)
		return;
	if (nr_runs == RUNS_MAX) {
		oracle_free(&oracle, pfn, nr_pages);
		return;
	}
	runs[nr_runs++] = (struct run){.pfn = pfn, .nr_pages = nr_pages};
}

/* Takes a run out of the set; its place gets the last one. */
static struct run pick_run(void)
{
	unsigned i = (unsigned)below(nr_runs);
	struct run run = runs[i];

	runs[i] = runs[--nr_runs];
	return run;
}

static enum migratetype some_type(void)
{
	unsigned which = (unsigned)below(20);

	if (which == 0)
		return MIGRATE_CMA;
	return which < 9 ? MIGRATE_UNMOVABLE : which < 17 ? MIGRATE_MOVABLE : MIGRATE_RECLAIMABLE;
}

static void do_alloc(void)
{
	size_t nr_pages = 16;
	unsigned align_order = 4;
	enum migratetype mt = some_type();

	switch (below(8)) {
	case 0:
	case 1: /* a slab */
		break;
	case 2: /* a power of two */
		align_order = (unsigned)below(PAGEBLOCK_ORDER + 1);
		nr_pages = (size_t)1 << align_order;
		break;
	case 3: /* several blocks */
		nr_pages = random_size(&random_state, 12);
		align_order = (unsigned)below(chance(20) ? 12 : 2);
		break;
	default: /* any run */
		nr_pages = random_size(&random_state, 9);
		align_order = (unsigned)below(6);
		break;
	}
	keep(oracle_alloc(&oracle, nr_pages, align_order, mt), nr_pages);
}

static void do_free(void)
{
	struct run run;
	size_t from, n;

	if (nr_runs == 0)
		return;
	run = pick_run();
	if (chance(70)) {
		oracle_free(&oracle, run.pfn, run.nr_pages);
		return;
	}
	/* A part of it: the front, the end, or the middle. */
	from = below(run.nr_pages);
	n = 1 + below(run.nr_pages - from);
	if (chance(10))
		oracle_free_clean(&oracle, run.pfn + from, n);
	else
		oracle_free(&oracle, run.pfn + from, n);
	keep(run.pfn, from);
	keep(run.pfn + from + n, run.nr_pages - from - n);
}

static void do_extend(void)
{
	struct run run;
	size_t more = random_size(&random_state, 11);

	if (nr_runs == 0)
		return;
	run = pick_run();
	if (oracle_extend(&oracle, run.pfn, run.nr_pages, run.nr_pages + more))
		run.nr_pages += more;
	keep(run.pfn, run.nr_pages);
}

static void do_pcp_alloc(void)
{
	unsigned order = chance(50) ? 4 : (unsigned)below(PCP_ORDERS);
	pfn_t pfn = oracle_pcp_alloc(&oracle, order,
				     (enum migratetype)below(PCP_TYPES));

	keep(pfn, (size_t)1 << order);
}

static void do_pcp_free(void)
{
	struct run run;
	unsigned order;

	if (nr_runs == 0)
		return;
	run = pick_run();
	order = log2_floor(run.nr_pages);
	if (!is_power_of_two(run.nr_pages) || order >= PCP_ORDERS ||
	    (run.pfn & (run.nr_pages - 1)) != 0)
		keep(run.pfn, run.nr_pages);
	else
		oracle_pcp_free(&oracle, run.pfn, order);
}

static void do_isolate(void)
{
	unsigned block = (unsigned)below(oracle.max_blocks);

	/* Mostly undone soon, or there would be nothing left. */
	oracle_set_isolated(&oracle, block, chance(30));
	for (unsigned b = 0; b < oracle.nr_blocks; b++)
		if (oracle.isolated[b] && chance(20))
			oracle_set_isolated(&oracle, b, false);
}

static void do_purge(void)
{
	fake_os.now_ns += below(2 * DECAY_NS);
	fake_os.fail_purge = chance(5);
	oracle.may_refuse = fake_os.fail_purge;
	if (chance(30))
		oracle_purge_all(&oracle);
	else
		oracle_purge_tick(&oracle);
	oracle.may_refuse = false;
	fake_os.fail_purge = false;
}

/* The next growth fails, if this is one. */
static void do_refused(void)
{
	oracle.may_refuse = true;
	fake_os.fail_at = 1 + (unsigned)below(6);
	do_alloc();
	fake_os.fail_at = 0;
	fake_os.now_ns += 20000000;
	oracle.may_refuse = false;
}

/* fill: whether the pool shall get fuller at present. */
static void do_something(bool fill)
{
	unsigned which = (unsigned)below(1000);

	if (which < 700) {
		if (chance(fill ? 60 : 35))
			(chance(60) ? do_alloc : do_pcp_alloc)();
		else
			(chance(60) ? do_free : do_pcp_free)();
	} else if (which < 800) {
		do_extend();
	} else if (which < 980) {
		do_pcp_free();
	} else if (which < 990) {
		do_isolate();
	} else if (which < 993) {
		oracle_pcp_drain(&oracle);
	} else if (which < 996) {
		do_purge();
	} else if (which < 999) {
		do_refused();
	} else if (cma_blocks < 4) {
		oracle_make_cma(&oracle, (unsigned)below(oracle.max_blocks));
		cma_blocks++;
	}
}

static void start(uint64_t seed)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.reserve_bytes = ORACLE_BLOCKS * PAGEBLOCK_BYTES,
		.decay_ns = DECAY_NS,
		.thp_from_bytes = SIZE_MAX,
	};

	random_seed(&random_state, seed);
	cr_assert(core_init(&config) == 0);
	/* One span, and in some sequences less memory than address space. */
	fake_os.reserve_limit = fake_os.reserved_bytes;
	pcp_init(&pcp);
	oracle_init(&oracle, span_at(0)->start,
		    chance(50) ? ORACLE_BLOCKS : 8 + (unsigned)below(ORACLE_BLOCKS - 8), &pcp);
	fake_os.commit_limit = oracle.max_blocks * PAGEBLOCK_BYTES;
}

static void run_sequence(uint64_t seed, uint64_t nr_ops)
{
	bool fill = true;

	start(seed);
	for (uint64_t op = 0; op < nr_ops; op++) {
		if (op % 2048 == 0)
			fill = chance(50);
		do_something(fill);
		if (op % 64 == 0)
			oracle_compare(&oracle);
		if (op % 4096 == 0)
			core_check();
		if (oracle.wrong != NULL || fake_os.violations > 0)
			break;
	}
	oracle_compare(&oracle);
	core_check();
}

static void run_seed(uint64_t seed, uint64_t nr_ops)
{
	run_sequence(seed, nr_ops);
	cr_assert(oracle.wrong == NULL && fake_os.violations == 0,
		  "%s; to repeat it: PB_SEED=%llu PB_OPS=%llu make check-core", oracle.wrong,
		  (unsigned long long)seed, (unsigned long long)nr_ops);
	fprintf(stderr, "seed %llu: %llu operations, %llu claims, %llu steals, %llu purges\n",
		(unsigned long long)seed, (unsigned long long)nr_ops,
		(unsigned long long)oracle.claims, (unsigned long long)oracle.steals,
		(unsigned long long)fake_os.nr_purges);
	/* Long enough to have come by everything? */
	if (nr_ops >= 100000)
		cr_assert(oracle.claims > 0 && oracle.steals > 0 && fake_os.nr_purges > 0);
}

/* Each sequence needs an allocator of its own, so each is a test. */
static void run_numbered(unsigned number)
{
	uint64_t nr_ops = random_env("PB_OPS", OPS_DEFAULT);
	uint64_t seed = random_env("PB_SEED", 0);

	if (seed != 0) {
		if (number == 0)
			run_seed(seed, nr_ops);
		return;
	}
	run_seed(1 + number, nr_ops / NR_SEEDS);
}

#define SEQUENCE(number)                                                                       \
	Test(oracle, sequence_##number)                                                        \
	{                                                                                      \
		run_numbered(number);                                                          \
	}

SEQUENCE(0)
SEQUENCE(1)
SEQUENCE(2)
SEQUENCE(3)
SEQUENCE(4)
SEQUENCE(5)
SEQUENCE(6)
SEQUENCE(7)
