/*
 * isolation: what isolation, offlining and vacating cost.
 *
 *   isolation             prints one line a figure, with the least and the most of the rounds
 *   isolation hint|pin|none N   does one thing N times, to be counted under callgrind
 *
 * 1. All of 4 GiB of free pageblocks are isolated and undone.  Bound: 5 GiB/s, 5 us a block.
 * 2. 1 GiB of written to and free memory is taken offline, and beside it the same memory is
 *    written to and given back by bare madvise calls, one a pageblock; in turn.  Processor time
 *    of the thread, so that whatever else runs does not count.  Bound: 1.2 times.
 * 3. A thread frees and allocates blocks of 16 to 1,039 bytes and clocks every call, while
 *    another thread isolates, vacates and opens the very pageblock that the first allocates
 *    from, or sleeps; in turn, 100 ms each.  Bound: the 99.9th percentile of malloc at most
 *    doubles.
 */
#include "core/core.h"
#include "shim/shim.h"
#include "shim/vacate.h"
#include "workloads/support.h"
#include "workloads/ticks.h"

#include <sys/mman.h>

#define ROUNDS 9u
#define GIB ((size_t)1 << 30)

/* --- what the shim asks of its user --------------------------------------------------- */

const struct shim_config *shim_config(void)
{
	static const struct shim_config config = {
		.reserve_bytes = 64 * GIB,
		.decay_ns = UINT64_MAX / 4, /* nothing is given back meanwhile */
		.thp_from_bytes = SIZE_MAX,
	};

	return &config;
}

void shim_thread_started(void)
{
}

/* --- figures ---------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_figure(const char *what, double *values, unsigned nr, const char *unit)
{
	qsort(values, nr, sizeof(*values), by_value);
	printf("%-44s %10.3f %s (%.3f to %.3f, %u rounds)\n", what, values[nr / 2], unit,
	       values[0], values[nr - 1], nr);
	fflush(stdout);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- marking and undoing ------------------------------------------------------------------- */

static void measure_marks(void)
{
	size_t nr_pages = 4 * GIB / PAGE_BYTES;
	double rates[ROUNDS], micros[ROUNDS];
	pfn_t pfn = zone_alloc(nr_pages, PAGEBLOCK_ORDER, MIGRATE_MOVABLE, NULL);

	if (pfn == 0)
		fail("no memory");
	zone_free(pfn, nr_pages);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t owner = isolate_owner();
		uint64_t began = ticks_clock_ns();
		double ns;

		if (isolate_range(pfn, nr_pages, owner) != 0 ||
		    isolate_undo(pfn, nr_pages, owner) != 0)
			fail("not isolated");
		ns = (double)(ticks_clock_ns() - began);
		rates[i] = 4e9 / ns;
		micros[i] = ns / 1e3 / (double)(4 * GIB / PAGEBLOCK_BYTES);
	}
	print_figure("blocks isolated and undone", rates, ROUNDS, "GiB/s, goal >= 5");
	print_figure("one block isolated and undone", micros, ROUNDS, "us, goal <= 5");
}

/* --- offlining ------------------------------------------------------------------------------- */

static pfn_t written(void)
{
	pfn_t pfn = zone_alloc(GIB / PAGE_BYTES, PAGEBLOCK_ORDER, MIGRATE_MOVABLE, NULL);

	if (pfn == 0)
		fail("no memory");
	memset(pfn_to_addr(pfn), 1, GIB);
	return pfn;
}

static double bare_ns(void)
{
	pfn_t pfn = written();
	char *p = pfn_to_addr(pfn);
	uint64_t began = cpu_ns();
	double ns;

	for (size_t at = 0; at < GIB; at += PAGEBLOCK_BYTES)
		if (madvise(p + at, PAGEBLOCK_BYTES, MADV_DONTNEED) != 0)
			fail("madvise");
	ns = (double)(cpu_ns() - began);
	zone_mark_clean(pfn, GIB / PAGE_BYTES);
	zone_free(pfn, GIB / PAGE_BYTES);
	return ns;
}

static double offline_ns(void)
{
	pfn_t pfn = written();
	uint64_t began;
	double ns;
	int err;

	zone_free(pfn, GIB / PAGE_BYTES);
	began = cpu_ns();
	if (shim_offline(GIB, 0, &err) != GIB)
		fail("not offline");
	ns = (double)(cpu_ns() - began);
	if (shim_online(GIB) != GIB)
		fail("not online");
	return ns;
}

static void measure_offline(void)
{
	double ratios[ROUNDS], offline[ROUNDS];

	/* Whoever has no huge pages pays for 512 small ones a block, both ways. */
	for (unsigned i = 0; i < ROUNDS; i++) {
		double bare = i % 2 == 0 ? bare_ns() : 0;

		offline[i] = offline_ns();
		if (i % 2 != 0)
			bare = bare_ns();
		ratios[i] = offline[i] / bare;
		offline[i] /= 1e6;
	}
	print_figure("1 GiB taken offline, processor time", offline, ROUNDS, "ms");
	print_figure("  over bare madvise calls", ratios, ROUNDS, "times, goal <= 1.2");
}

/* --- latency of others ----------------------------------------------------------------------- */

#define PHASES 40u
#define PHASE_NS ((uint64_t)100 * 1000 * 1000)
#define BUCKETS 65536u
#define WINDOW 2048u

static _Atomic unsigned phase; /* odd: others isolate */
static _Atomic bool stop;
static _Atomic(void *) latest;
static uint32_t counts[2][2][BUCKETS]; /* of malloc and free; without and with */

static void note(uint32_t *count, uint64_t ticks)
{
	count[ticks < BUCKETS ? ticks : BUCKETS - 1]++;
}

static void *clocked(void *unused)
{
	struct random random = random_seed(1);
	static void *blocks[WINDOW];

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		void **slot = &blocks[random_next(&random) % WINDOW];
		size_t size = random_between(&random, 16, 1039);
		unsigned which = atomic_load_explicit(&phase, memory_order_relaxed) % 2;
		uint64_t began = ticks_now(), freed, done;

		shim_free(*slot);
		freed = ticks_now();
		*slot = shim_malloc(size);
		done = ticks_now();
		*(char *)*slot = 1;
		note(counts[0][which], done - freed);
		note(counts[1][which], freed - began);
		atomic_store_explicit(&latest, *slot, memory_order_relaxed);
	}
	return unused;
}

static unsigned percentile(const uint32_t *count, double part)
{
	uint64_t all = 0, seen = 0;
	unsigned i = 0;

	for (unsigned k = 0; k < BUCKETS; k++)
		all += count[k];
	while (i < BUCKETS - 1 && (double)(seen += count[i]) < part * (double)all)
		i++;
	return i;
}

/* The block the other thread is at, and its neighbours: with what is in use in them nothing
 * comes of it, and all is as before. */
static unsigned isolate_for(uint64_t nr_ns)
{
	uint64_t until = ticks_clock_ns() + nr_ns;
	unsigned nr = 0;

	for (; ticks_clock_ns() < until; nr++) {
		pfn_t pfn = round_down(pfn_of(atomic_load(&latest)), PAGEBLOCK_PAGES);
		uint32_t owner = isolate_owner();

		if (isolate_range(pfn, PAGEBLOCK_PAGES, owner) != 0)
			continue;
		(void)vacate_range(pfn, PAGEBLOCK_PAGES, 0);
		pcp_drain_all();
		if (isolate_undo(pfn, PAGEBLOCK_PAGES, owner) != 0)
			fail("not undone");
		vacate_end(pfn, PAGEBLOCK_PAGES);
		/* A contiguous allocation of 8 MiB takes as long. */
		nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
	}
	return nr;
}

static void measure_latency(void)
{
	static const double parts[] = {0.5, 0.99, 0.999, 0.9999};
	pthread_t thread;
	unsigned nr = 0;

	if (pthread_create(&thread, NULL, clocked, NULL) != 0)
		fail("no thread");
	while (atomic_load(&latest) == NULL)
		nanosleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
	for (unsigned i = 0; i < PHASES; i++) {
		if (i % 2 != 0)
			nr += isolate_for(PHASE_NS);
		else
			nanosleep(&(struct timespec){.tv_nsec = PHASE_NS}, NULL);
		atomic_store(&phase, i + 1);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < 2 * sizeof(parts) / sizeof(parts[0]); i++) {
		double part = parts[i / 2];
		unsigned without = percentile(counts[i % 2][0], part);
		unsigned with = percentile(counts[i % 2][1], part);

		printf("%s of others, p%-7g %29.2f times with isolation (%u and %u ticks)%s\n",
		       i % 2 == 0 ? "malloc" : "free  ", part * 100, (double)with / without,
		       without, with, i % 2 == 0 && part == 0.999 ? ", goal <= 2" : "");
	}
	printf("  blocks isolated, vacated and opened meanwhile: %.0f a second\n",
	       nr / (PHASES / 2 * (double)PHASE_NS / 1e9));
}

/* --- to be counted ----------------------------------------------------------------------------- */

static void count(const char *what, unsigned long nr)
{
	int err;
	uint64_t handle = shim_handle_alloc(100, &err);
	void *p = NULL;

	/* All in full slabs. */
	for (unsigned i = 0; i < 10000; i++)
		p = shim_malloc(100);
	for (unsigned long i = 0; i < nr; i++) {
		if (what[0] == 'h') {
			if (shim_defrag_hint((char *)p - 300000))
				fail("a full slab is to be emptied");
		} else if (what[0] == 'p') {
			if (shim_handle_pin(handle, &err) == NULL || shim_handle_unpin(handle) != 0)
				fail("not pinned");
		}
	}
}

int main(int argc, char **argv)
{
	shim_init();
	if (argc == 3) {
		count(argv[1], strtoul(argv[2], NULL, 10));
		return 0;
	}
	measure_marks();
	measure_offline();
	measure_latency();
	shim_check();
	return 0;
}
