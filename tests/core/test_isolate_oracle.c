/*
 * Random sequences with isolation, contiguous allocation, reserves and offline blocks, in
 * lock-step with the naive model of oracle.h and with a table of owners.
 *
 * PB_OPS says how many operations in all, PB_SEED which sequence (alone, then).  A failure
 * prints the command that repeats it.
 */
#include "core/isolate.h"
#include "core/span.h"
#include "core/zone.h"
#include "tests/support/fake_os.h"
#include "tests/support/oracle.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#define NR_SEEDS 8u
#define OPS_DEFAULT 1200000u
#define RUNS_MAX 4096u
#define CONTIG_RUNS 16u
#define BLOCK ((unsigned)PAGEBLOCK_PAGES)

struct run {
	pfn_t pfn;
	size_t nr_pages;
};

static struct oracle oracle;
static struct pcp pcp;
static struct run runs[RUNS_MAX], contigs[CONTIG_RUNS];
static unsigned nr_runs, nr_contigs, nr_disabled, nr_cma_areas;
static uint32_t owners[ORACLE_BLOCKS]; /* 0: not isolated */
static struct random random_state;
/* That it came by everything. */
static unsigned nr_isolated, nr_busy, nr_contig_ok, nr_contig_failed, nr_offline;

static uint64_t below(uint64_t n)
{
	return random_below(&random_state, n);
}

static bool chance(unsigned percent)
{
	return below(100) < percent;
}

#define EXPECT(cond)                                                                           \
	do {                                                                                   \
		if (!(cond) && oracle.wrong == NULL) {                                         \
			oracle.wrong = #cond;                                                  \
			fprintf(stderr, "isolate oracle: %s at line %d\n", #cond, __LINE__);   \
		}                                                                              \
	} while (0)

static struct core_stats read_stats(void)
{
	struct core_stats stats;

	core_stats_read(&stats);
	return stats;
}

static struct pageblock *block_at(unsigned block)
{
	return span_block(oracle.base + block * BLOCK);
}

static bool is_whole(unsigned block)
{
	for (unsigned i = 0; i < BLOCK; i++)
		if (oracle.page[block * BLOCK + i] != ORACLE_FREE)
			return false;
	return true;
}

static bool whole_run(unsigned first, unsigned nr, bool cma)
{
	for (unsigned b = first; b < first + nr; b++)
		if (oracle.isolated[b] || (oracle.type[b] == MIGRATE_CMA) != cma || !is_whole(b))
			return false;
	return true;
}

/* What is cached is free while core may drain it; afterwards what still is cached is not. */
static void uncache(void)
{
	for (unsigned i = 0; i < oracle.nr_blocks * BLOCK; i++)
		if (oracle.page[i] == ORACLE_CACHED) {
			oracle.page[i] = ORACLE_FREE;
			oracle.stale[i / BLOCK] = true;
		}
}

static void recache(void)
{
	for (unsigned list = 0; list < PCP_LISTS; list++)
		for (unsigned slot = pcp.head[list]; slot != 0; slot = pcp.older[slot])
			for (unsigned i = 0; i < 1u << list / PCP_TYPES; i++) {
				size_t page = (pcp.run[slot] >> 1) - oracle.base + i;

				EXPECT(oracle.page[page] == ORACLE_FREE);
				oracle.page[page] = ORACLE_CACHED;
				oracle.stale[page / BLOCK] = true;
			}
}

/* Blocks that core committed for whole blocks: MOVABLE. */
static void follow_growth(void)
{
	struct core_stats stats = read_stats();

	oracle.grown = stats.grown;
	for (; oracle.nr_blocks < stats.nr_blocks; oracle.nr_blocks++) {
		oracle.type[oracle.nr_blocks] = MIGRATE_MOVABLE;
		oracle.stale[oracle.nr_blocks] = true;
	}
}

/* --- operations ----------------------------------------------------------------------- */

static void do_alloc(void)
{
	size_t nr_pages = chance(50) ? 16 : random_size(&random_state, 10);
	unsigned align_order = nr_pages == 16 ? 4 : 0;
	enum migratetype mt = (enum migratetype)below(PCP_TYPES);
	pfn_t pfn;

	if (nr_runs == RUNS_MAX)
		return;
	if (chance(40)) {
		unsigned order = (unsigned)below(PCP_ORDERS);

		nr_pages = (size_t)1 << order;
		pfn = oracle_pcp_alloc(&oracle, order, mt);
	} else {
		pfn = oracle_alloc(&oracle, nr_pages, align_order, mt);
	}
	if (pfn != 0)
		runs[nr_runs++] = (struct run){.pfn = pfn, .nr_pages = nr_pages};
}

static void free_run(struct run run)
{
	unsigned order = log2_floor(run.nr_pages);

	if (is_power_of_two(run.nr_pages) && order < PCP_ORDERS &&
	    (run.pfn & (run.nr_pages - 1)) == 0 && chance(70))
		oracle_pcp_free(&oracle, run.pfn, order);
	else
		oracle_free(&oracle, run.pfn, run.nr_pages);
}

static void do_free(void)
{
	unsigned i;
	struct run run;

	if (nr_runs == 0)
		return;
	i = (unsigned)below(nr_runs);
	run = runs[i];
	runs[i] = runs[--nr_runs];
	free_run(run);
}

/* The hook: everything of the test's there is given up, now and then not. */
static int vacate(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	(void)deadline_ns;
	fake_os.now_ns += 1000;
	for (unsigned i = 0; i < nr_runs;) {
		struct run run = runs[i];

		if (run.pfn >= pfn + nr_pages || run.pfn + run.nr_pages <= pfn || chance(2)) {
			i++;
			continue;
		}
		runs[i] = runs[--nr_runs];
		/* The model has its caches' pages as free for now. */
		fake_os_unuse(run.pfn, run.nr_pages);
		for (size_t k = 0; k < run.nr_pages; k++) {
			oracle.page[run.pfn - oracle.base + k] = ORACLE_FREE;
			oracle.stale[(run.pfn - oracle.base + k) / BLOCK] = true;
		}
		zone_free(run.pfn, run.nr_pages);
	}
	return 0;
}

static void do_isolate(void)
{
	unsigned first = (unsigned)below(ORACLE_BLOCKS);
	unsigned nr = 1 + (unsigned)below(6);
	uint32_t owner = isolate_owner();
	bool beyond = first + nr > oracle.nr_blocks;
	bool busy = false;
	int err = isolate_range(oracle.base + first * BLOCK, nr * BLOCK, owner);

	for (unsigned b = first; b < first + nr && !beyond; b++)
		busy |= owners[b] != 0;
	EXPECT(err == (beyond ? -ERANGE : busy ? -EBUSY : 0));
	nr_busy += err == -EBUSY;
	if (err != 0)
		return;
	nr_isolated++;
	for (unsigned b = first; b < first + nr; b++) {
		owners[b] = owner;
		oracle.isolated[b] = 1;
	}
}

static void do_undo(void)
{
	unsigned first = (unsigned)below(ORACLE_BLOCKS);
	unsigned nr = 1 + (unsigned)below(3);
	uint32_t owner = owners[first];
	bool beyond = first + nr > oracle.nr_blocks;
	bool mine = true;
	int err;

	if (owner == 0)
		owner = isolate_owner();
	err = isolate_undo(oracle.base + first * BLOCK, nr * BLOCK, owner);
	if (owner == ISOLATE_OFFLINE) {
		EXPECT(err != 0);
		return;
	}
	for (unsigned b = first; b < first + nr && !beyond; b++)
		mine &= owners[b] == owner;
	EXPECT(err == (beyond ? -ERANGE : mine ? 0 : -EPERM));
	for (unsigned b = first; b < first + nr && err == 0; b++) {
		owners[b] = 0;
		oracle.isolated[b] = 0;
	}
}

static void do_test(void)
{
	size_t from = below(ORACLE_PAGES);
	size_t nr = random_size(&random_state, 11);
	bool is_free = from + nr <= oracle.nr_blocks * BLOCK;

	for (size_t i = from; is_free && i < from + nr; i++)
		is_free = oracle.page[i] == ORACLE_FREE;
	EXPECT(isolate_test(oracle.base + from, nr) == is_free);
}

static void take_contig(pfn_t pfn, size_t nr_pages, bool cma)
{
	for (pfn_t at = pfn; at < pfn + nr_pages; at++) {
		unsigned page = (unsigned)(at - oracle.base);

		EXPECT(oracle.page[page] == ORACLE_FREE && !oracle.isolated[page / BLOCK]);
		EXPECT((oracle.type[page / BLOCK] == MIGRATE_CMA) == cma);
		oracle.page[page] = ORACLE_TAKEN;
		oracle.stale[page / BLOCK] = true;
	}
	if (oracle.wrong == NULL)
		fake_os_use(pfn, nr_pages);
	contigs[nr_contigs++] = (struct run){.pfn = pfn, .nr_pages = nr_pages};
}

/* The lowest run of whole blocks; ORACLE_BLOCKS: none. */
static unsigned lowest_whole(unsigned nr, bool cma)
{
	for (unsigned b = 0; b + nr <= oracle.nr_blocks; b++)
		if (whole_run(b, nr, cma))
			return b;
	return ORACLE_BLOCKS;
}

static void do_contig(void)
{
	size_t nr_pages = 1 + below(4 * BLOCK);
	unsigned nr = (unsigned)(nr_pages + BLOCK - 1) / BLOCK;
	bool cma = chance(60), hard = chance(40);
	unsigned lowest = cma ? ORACLE_BLOCKS : lowest_whole(nr, false);
	unsigned was_grown = oracle.nr_blocks;
	pfn_t pfn;
	int err = 1;

	if (nr_contigs == CONTIG_RUNS)
		return;
	uncache();
	pfn = contig_alloc(nr_pages, (cma ? CONTIG_CMA : 0) | (hard ? CONTIG_HARD : 0),
			   hard ? fake_os.now_ns + 900 : 0, &err);
	follow_growth();
	EXPECT((pfn != 0) == (err == 0));
	EXPECT(err == 0 || err == -ENOMEM || err == (hard ? -ETIMEDOUT : -EBUSY));
	if (lowest != ORACLE_BLOCKS)
		EXPECT(pfn == oracle.base + lowest * BLOCK && oracle.nr_blocks == was_grown);
	if (pfn == 0)
		EXPECT(cma || lowest_whole(nr, false) == ORACLE_BLOCKS || hard);
	if (pfn != 0)
		take_contig(pfn, nr_pages, cma);
	recache();
	*(pfn != 0 ? &nr_contig_ok : &nr_contig_failed) += 1;
}

static void do_contig_free(void)
{
	unsigned i;
	struct run run;

	if (nr_contigs == 0)
		return;
	i = (unsigned)below(nr_contigs);
	run = contigs[i];
	contigs[i] = contigs[--nr_contigs];
	fake_os_unuse(run.pfn, run.nr_pages);
	for (pfn_t at = run.pfn; at < run.pfn + run.nr_pages; at++) {
		oracle.page[at - oracle.base] = ORACLE_FREE;
		oracle.stale[(at - oracle.base) / BLOCK] = true;
	}
	EXPECT(contig_free(run.pfn, run.nr_pages) == 0);
}

static void do_reserve(void)
{
	unsigned nr = 1 + (unsigned)below(3);
	unsigned lowest = lowest_whole(nr, false);
	int err;

	if (nr_cma_areas >= 4)
		return;
	err = cma_reserve(nr * PAGEBLOCK_BYTES);
	follow_growth();
	EXPECT(err == 0 || (err == -ENOMEM && lowest == ORACLE_BLOCKS));
	if (err != 0)
		return;
	nr_cma_areas++;
	lowest = lowest_whole(nr, false);
	for (unsigned b = lowest; b < lowest + nr; b++)
		oracle.type[b] = MIGRATE_CMA;
	oracle.claims += nr;
}

static void do_offline(void)
{
	unsigned nr = 1 + (unsigned)below(6), whole = 0, went = 0;
	bool wait = chance(30);
	size_t nr_pages;
	int err = 1;

	uncache();
	for (unsigned b = 0; b < oracle.nr_blocks; b++)
		whole += whole_run(b, 1, false);
	nr_pages = offline_pages(nr * BLOCK, wait ? fake_os.now_ns + 900 : 0, &err);
	for (unsigned b = 0; b < oracle.nr_blocks; b++) {
		if (owners[b] == ISOLATE_OFFLINE || block_at(b)->owner != ISOLATE_OFFLINE)
			continue;
		EXPECT(whole_run(b, 1, false));
		EXPECT(fake_os_zero(oracle.base + b * BLOCK, BLOCK));
		owners[b] = ISOLATE_OFFLINE;
		oracle.isolated[b] = 1;
		oracle.stale[b] = true;
		went++;
	}
	recache();
	EXPECT(nr_pages == went * BLOCK && went <= nr);
	EXPECT(wait ? went >= (whole < nr ? whole : nr) : went == (whole < nr ? whole : nr));
	EXPECT(err == (went == nr ? 0 : wait ? -ETIMEDOUT : -EBUSY));
	nr_offline += went;
}

static void do_online(void)
{
	unsigned nr = 1 + (unsigned)below(10), came = 0;
	size_t nr_pages = online_pages(nr * BLOCK);

	for (unsigned b = 0; b < oracle.nr_blocks && came < nr; b++) {
		if (owners[b] != ISOLATE_OFFLINE)
			continue;
		owners[b] = 0;
		oracle.isolated[b] = 0;
		came++;
	}
	EXPECT(nr_pages == came * BLOCK);
}

static void do_disable(void)
{
	if (nr_disabled > 0 && chance(60)) {
		pcp_enable();
		nr_disabled--;
	} else if (nr_disabled < 3) {
		uncache();
		pcp_disable();
		recache();
		nr_disabled++;
	}
	if (nr_disabled > 0)
		EXPECT(read_stats().pcp_pages == 0);
}

/* --- all of it ---------------------------------------------------------------------------- */

static void compare(void)
{
	struct core_stats stats = read_stats();
	uint64_t free_pages = 0, isolated = 0, offline = 0, cma_free = 0, cma_total = 0;

	for (unsigned b = 0; b < oracle.nr_blocks; b++) {
		uint64_t n = 0;
		bool cma = oracle.type[b] == MIGRATE_CMA;

		EXPECT(pageblock_type(block_at(b)) == oracle.type[b]);
		EXPECT(block_at(b)->owner == owners[b]);
		for (unsigned i = 0; i < BLOCK; i++)
			n += oracle.page[b * BLOCK + i] == ORACLE_FREE;
		cma_total += cma ? BLOCK : 0;
		if (owners[b] == ISOLATE_OFFLINE)
			offline += n;
		else if (owners[b] != 0)
			isolated += n;
		else
			free_pages += n;
		cma_free += cma && owners[b] == 0 ? n : 0;
	}
	EXPECT(stats.free_pages == free_pages);
	EXPECT(stats.isolated_free_pages == isolated);
	EXPECT(stats.offline_pages == offline);
	EXPECT(stats.cma_free_pages == cma_free);
	EXPECT(stats.cma_total_pages == cma_total);
	EXPECT(stats.total_pages == free_pages + isolated + offline + stats.pcp_pages +
					    stats.allocated_pages);
	if (offline == 0)
		oracle_compare(&oracle);
}

static void do_something(void)
{
	static void (*const rare[])(void) = {do_isolate,     do_undo,	 do_undo,    do_undo,
					     do_contig,	     do_contig,	 do_offline, do_online,
					     do_contig_free, do_reserve, do_disable, do_test};
	unsigned which = (unsigned)below(1000);

	if (which < 440)
		do_alloc();
	else if (which < 880)
		do_free();
	else if (which < 885)
		oracle_purge_all(&oracle);
	else if (which < 890)
		oracle_pcp_drain(&oracle);
	else
		rare[below(sizeof(rare) / sizeof(rare[0]))]();
}

static void start(uint64_t seed)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.vacate = vacate,
		.reserve_bytes = ORACLE_BLOCKS * PAGEBLOCK_BYTES,
		.decay_ns = 1000000,
		.thp_from_bytes = SIZE_MAX,
	};

	random_seed(&random_state, seed);
	cr_assert(core_init(&config) == 0);
	/* One span, and it is all there is. */
	fake_os.reserve_limit = fake_os.reserved_bytes;
	fake_os.yield_ns = 100;
	pcp_init(&pcp);
	oracle_init(&oracle, span_at(0)->start, ORACLE_BLOCKS, &pcp);
}

static void run_seed(uint64_t seed, uint64_t nr_ops)
{
	start(seed);
	for (uint64_t op = 0; op < nr_ops && oracle.wrong == NULL && fake_os.violations == 0;
	     op++) {
		do_something();
		if (op % 128 == 0)
			compare();
		if (op % 4096 == 0)
			core_check();
	}
	cr_assert(oracle.wrong == NULL && fake_os.violations == 0,
		  "%s; to repeat it: PB_SEED=%llu PB_OPS=%llu make check-core", oracle.wrong,
		  (unsigned long long)seed, (unsigned long long)nr_ops);
	compare();
	core_check();
	cr_assert(oracle.wrong == NULL);
	fprintf(stderr, "seed %llu: %llu operations, %u isolated, %u busy, %u contiguous, %u not, "
			"%u offline\n",
		(unsigned long long)seed, (unsigned long long)nr_ops, nr_isolated, nr_busy,
		nr_contig_ok, nr_contig_failed, nr_offline);
	if (nr_ops >= 100000)
		cr_assert(nr_isolated > 0 && nr_busy > 0 && nr_contig_ok > 0 &&
			  nr_contig_failed > 0 && nr_offline > 0 && nr_cma_areas > 0);
}

/* Each sequence needs an allocator of its own, so each is a test. */
static void run_numbered(unsigned number)
{
	uint64_t nr_ops = random_env("PB_OPS", OPS_DEFAULT);
	uint64_t seed = random_env("PB_SEED", 0);

	if (seed == 0)
		run_seed(1 + number, nr_ops / NR_SEEDS);
	else if (number == 0)
		run_seed(seed, nr_ops);
}

#define SEQUENCE(number)                                                                       \
	Test(isolate_oracle, sequence_##number)                                                \
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
