/*
 * A process whose every page is known: core and shim linked in, driven directly.  Writes one
 * line of JSON that says what a view must show, then waits for the end of its input.
 *
 * What it says is counted here in its own way: what it made by hand, by hand; the rest by
 * asking, page by page and run by run.
 */
#include "core/core.h"
#include "core/span.h"
#include "shim/shim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what the shim wants of us --------------------------------------------------------- */

const struct shim_config *shim_config(void)
{
	static const struct shim_config config = {
		.reserve_bytes = (size_t)4 << 30,
		.decay_ns = (uint64_t)3600 * 1000000000,
		.thp_from_bytes = SIZE_MAX,
	};

	return &config;
}

void shim_thread_started(void)
{
}

#define MUST(cond)                                                                             \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "truth: %s does not hold (line %d)\n", #cond,          \
				__LINE__);                                                     \
			exit(1);                                                               \
		}                                                                              \
	} while (0)

/* --- small blocks -------------------------------------------------------------------------- */

static const struct {
	size_t size;  /* asked for */
	size_t class; /* what it is rounded to */
	unsigned nr;
} kinds[] = {
	{ 1, 16, 5000 },	{ 40, 48, 3000 },      { 64, 64, 7000 },
	{ 200, 208, 2000 },     { 1000, 1024, 500 },   { 2048, 2048, 333 },
	{ 3000, 3072, 100 },    { 20000, 20480, 41 },
};
#define NR_SMALL (sizeof(kinds) / sizeof(kinds[0]))

static void **blocks[NR_SMALL];
static unsigned live[NR_SMALL];
static pthread_barrier_t barrier;

/* Frees some of another thread's blocks and stays, with them on their way home. */
static void *freer(void *arg)
{
	(void)arg;
	for (unsigned k = 0; k < NR_SMALL; k++) {
		for (unsigned i = 1; i < kinds[k].nr; i += 10) {
			shim_free(blocks[k][i]);
			live[k]--;
		}
	}
	pthread_barrier_wait(&barrier);
	pause();
	return NULL;
}

static void small_blocks(void)
{
	pthread_t thread;

	for (unsigned k = 0; k < NR_SMALL; k++) {
		blocks[k] = calloc(kinds[k].nr, sizeof(void *));
		for (unsigned i = 0; i < kinds[k].nr; i++) {
			blocks[k][i] = shim_malloc(kinds[k].size);
			MUST(blocks[k][i] != NULL);
		}
		live[k] = kinds[k].nr;
		for (unsigned i = 0; i < kinds[k].nr; i += 5) {
			shim_free(blocks[k][i]);
			live[k]--;
		}
	}
	pthread_barrier_init(&barrier, NULL, 2);
	MUST(pthread_create(&thread, NULL, freer, NULL) == 0);
	pthread_barrier_wait(&barrier);
}

/* --- page runs -------------------------------------------------------------------------------- */

static const size_t large_pages[] = { 9, 17, 100, 300, 511, 512, 513, 700, 1500 };
#define NR_LARGE (sizeof(large_pages) / sizeof(large_pages[0]))

static size_t large_runs(void)
{
	size_t nr_pages = 0;

	for (unsigned i = 0; i < NR_LARGE; i++) {
		void *p = shim_malloc(large_pages[i] * PAGE_BYTES);

		MUST(p != NULL);
		nr_pages += large_pages[i];
		/* One that is freed again, between others. */
		shim_free(shim_malloc(40000));
	}
	return nr_pages;
}

/* --- blocks made by hand ------------------------------------------------------------------------ */

static unsigned by_hand_runs[10];

/* Frees pages of a block, of which one is a run of its own of each of these orders. */
static void give(pfn_t block, unsigned from, unsigned nr, const char *orders)
{
	zone_free(block + from, nr);
	for (; *orders != '\0'; orders++)
		by_hand_runs[*orders - '0']++;
}

/* Eight blocks in a row of which the pages left are known: by order, by hand. */
static pfn_t by_hand(void)
{
	pfn_t b = zone_alloc(8 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL);

	MUST(b != 0);
	/* Block 0: one run each of orders 0, 1, 3, 6 and 8. */
	give(b, 0, 1, "0");
	give(b, 2, 2, "1");
	give(b, 8, 8, "3");
	give(b, 64, 64, "6");
	give(b, 256, 256, "8");
	/* Block 1: all but the first page, which is one run of each order to 8. */
	b += PAGEBLOCK_PAGES;
	give(b, 1, 511, "012345678");
	/* Block 2: nothing.  Block 3: every other page. */
	b += 2 * PAGEBLOCK_PAGES;
	for (unsigned i = 1; i < 512; i += 2)
		give(b, i, 1, "0");
	/* Block 4: 6 pages from 3 on: 3, then 4 to 7, then 8. */
	b += PAGEBLOCK_PAGES;
	give(b, 3, 6, "002");
	/* Block 5: two neighbours that are no buddies. */
	b += PAGEBLOCK_PAGES;
	give(b, 1, 2, "00");
	/* Block 6 is isolated with 256 + 16 free pages, block 7 with none. */
	b += PAGEBLOCK_PAGES;
	give(b, 256, 256, "");
	give(b, 16, 16, "");
	MUST(isolate_range(b, 2 * PAGEBLOCK_PAGES, isolate_owner()) == 0);
	return b;
}

/* --- the rest, asked one by one ------------------------------------------------------------------ */

struct count {
	uint64_t runs[NR_MIGRATETYPES][11], blocks[NR_MIGRATETYPES];
	uint64_t offline, isolated, whole;
};

static bool is_free(const struct pageblock *b, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		if ((b->free[i / 64] >> i % 64 & 1) == 0)
			return false;
	return true;
}

/* Runs that are no half of a larger one. */
static void count_block(const struct pageblock *b, struct count *c)
{
	unsigned type = pageblock_type(b);

	if (b->owner == UINT32_MAX) {
		c->offline++;
		return;
	}
	if (pageblock_isolated(b)) {
		c->isolated++;
		return;
	}
	c->blocks[type]++;
	c->whole += is_free(b, 0, 512);
	for (unsigned order = 0; order <= 9; order++) {
		unsigned n = 1u << order;

		for (unsigned i = 0; i < 512; i += n) {
			unsigned pair = i & ~(2 * n - 1);

			if (is_free(b, i, n) && (order == 9 || !is_free(b, pair, 2 * n)))
				c->runs[type][order]++;
		}
	}
}

/* Two whole blocks of one type at an address that is a multiple of both. */
static void count_pairs(const struct span *span, struct count *c)
{
	for (size_t i = 0; i + 1 < span_committed(span); i++) {
		const struct pageblock *b = &span->blocks[i];

		if (b->pfn % 1024 != 0 || pageblock_isolated(b) || pageblock_isolated(b + 1) ||
		    pageblock_type(b) != pageblock_type(b + 1) || !is_free(b, 0, 512) ||
		    !is_free(b + 1, 0, 512))
			continue;
		c->runs[pageblock_type(b)][9] -= 2;
		c->runs[pageblock_type(b)][10]++;
	}
}

static void numbers(const char *name, const uint64_t *n, unsigned nr)
{
	printf("\"%s\": [", name);
	for (unsigned i = 0; i < nr; i++)
		printf("%s%llu", i > 0 ? ", " : "", (unsigned long long)n[i]);
	printf("]");
}

int main(void)
{
	static const char *const labels[] = { "Unmovable", "Movable", "Reclaimable", "CMA" };
	struct count c = { .offline = 0 };
	struct core_stats stats;
	size_t large;
	pfn_t isolated;
	int err = 0;

	shim_init();
	MUST(cma_reserve(4 * PAGEBLOCK_BYTES) == 0);
	/* Room for all that follows, so that nothing depends on how spans grow. */
	zone_free(zone_alloc(100 * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL),
		  100 * PAGEBLOCK_PAGES);
	small_blocks();
	large = large_runs();
	/* Last: the fullest block that will do is used first. */
	isolated = by_hand();
	MUST(offline_pages(3 * PAGEBLOCK_PAGES, 0, &err) == 3 * PAGEBLOCK_PAGES);

	core_stats_read(&stats);
	for (unsigned i = 0; i < span_count(); i++) {
		for (size_t k = 0; k < span_committed(span_at(i)); k++)
			count_block(&span_at(i)->blocks[k], &c);
		count_pairs(span_at(i), &c);
	}
	printf("{\"live\": {");
	for (unsigned k = 0; k < NR_SMALL; k++)
		printf("%s\"%zu\": %u", k > 0 ? ", " : "", kinds[k].class, live[k]);
	printf("}, \"large_pages\": %zu, \"nr_large\": %zu, \"runs\": {", large, NR_LARGE);
	for (unsigned type = 0; type < NR_MIGRATETYPES; type++) {
		printf("%s", type > 0 ? ", " : "");
		numbers(labels[type], c.runs[type], 11);
	}
	printf("}, ");
	numbers("blocks", c.blocks, NR_MIGRATETYPES);
	printf(", \"isolated\": %llu, \"offline\": %llu, \"whole\": %llu, ",
	       (unsigned long long)c.isolated, (unsigned long long)c.offline,
	       (unsigned long long)c.whole);
	printf("\"by_hand\": [");
	for (unsigned order = 0; order < 10; order++)
		printf("%s%u", order > 0 ? ", " : "", by_hand_runs[order]);
	printf("], \"isolated_at\": \"0x%llx\", ", (unsigned long long)isolated << PAGE_SHIFT);
#define STAT(name, unit, help) printf("\"" #name "\": %llu, ", (unsigned long long)stats.name);
#include "core/stats.def"
#undef STAT
	printf("\"cma_blocks\": 4}\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
