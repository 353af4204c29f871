/*
 * return CASE [MIB [IDLE_MS [SAWTOOTH_MS]]]: a peak, then little; what of it goes back?
 *
 *   random    2 threads build MIB of blocks of 16 to 2,048 bytes, free 90 % at random
 *   tenth     the same, but every tenth block stays and all others go
 *   site      as tenth, and the tenth block comes from its own place in the code
 *   scope     as tenth, and the tenth block is allocated within pb_lifetime_push(), where
 *             the library under test has it
 *   large     as random, with blocks of 4 KiB to 4 MiB
 *   pair      one thread allocates, another keeps MIB / 4 of them and frees, 90 % at last
 *   threads   100 threads, 4 at a time, build MIB / 100 each, free 90 % at random and end
 *   cycles    ten times: MIB / 4 from eight places in the code, all but a tenth freed; what
 *             one of the eight asked for stays until the end of the next time
 *   sawtooth  2 threads build MIB / 4 each, free all of it at random, rest, and again
 *
 * With RETURN_ORACLE in the environment `site` and `cycles` say what they know, as `scope` does.
 *
 * Then the threads idle with a trickle: each allocates and frees 20 blocks of 16 to
 * 2,048 bytes every 100 ms.
 * Sizes are log-uniform and every block is written in full, as a program would.
 *
 * Standard output says when each phase begins, as `PHASE NAME NS CPU_NS LIVE_BYTES
 * OWN_BYTES` (NS is CLOCK_MONOTONIC, CPU_NS of the whole process); live bytes, as asked for from malloc, are also in the first word of the
 * file on descriptor 3, which the watcher maps too.  Nothing of this program's own bookkeeping stays resident: tables
 * of pointers are mapped, and given back when the peak is over.
 */
/* Bound at run time, and only where the library has them. */
#define PB_OPTIONAL
#include "preload/pageblock.h"
#include "workloads/support.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

enum {
	NR_THREADS = 2,
	KEEP = 10, /* one in so many stays */
	SHORT_THREADS = 100,
	SHORT_AT_ONCE = 4,
	TRICKLE_MS = 100,
	TRICKLE_BLOCKS = 20,
	RING = 4096,
};

/* What the watcher reads. */
struct shown {
	_Atomic uint64_t live_bytes;
	_Atomic uint64_t nr_operations;
	_Atomic uint64_t own_bytes; /* of the tables, which are no blocks */
};

static struct shown *shown;
static size_t total_bytes, idle_ms, sawtooth_ms;
static pthread_barrier_t barrier;

/* The first words of each block. */
struct item {
	struct item *next;
	uint32_t size_bytes;
	uint32_t mark;
};

enum case_kind { RANDOM, TENTH, SITE, SCOPE, LARGE, PAIR, THREADS, CYCLES, SAWTOOTH, NR_CASES };
static const char *const case_names[NR_CASES] = {"random", "tenth",   "site",    "scope", "large",
						 "pair",   "threads", "cycles", "sawtooth"};
static enum case_kind kind;
/* Whether it is said of each block that it stays. */
static bool says;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void sleep_until_ns(uint64_t at_ns)
{
	struct timespec at = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
		;
}

/* Without stdio, whose buffer would be a block of its own. */
static void phase(const char *name)
{
	char text[160];
	uint64_t live = atomic_load_explicit(&shown->live_bytes, memory_order_relaxed);
	uint64_t own = atomic_load_explicit(&shown->own_bytes, memory_order_relaxed);
	int len = snprintf(text, sizeof(text), "PHASE %s %llu %llu %llu %llu\n", name,
			   (unsigned long long)now_ns(),
			   (unsigned long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID),
			   (unsigned long long)live, (unsigned long long)own);

	if (write(STDOUT_FILENO, text, (size_t)len) != len)
		fail("cannot write");
}

static void *map_table(size_t nr_bytes)
{
	void *table = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	if (table == MAP_FAILED)
		fail("out of address space");
	return table;
}

/* --- blocks ------------------------------------------------------------------------ */

static size_t next_size(struct random *random)
{
	return kind == LARGE ? random_log_uniform(random, 12, 22)
			     : random_log_uniform(random, 4, 11);
}

static struct item *item_init(struct item *item, size_t size_bytes)
{
	if (!item)
		fail("out of memory");
	memset(item, 0x5a, size_bytes);
	item->size_bytes = (uint32_t)size_bytes;
	item->mark = (uint32_t)((uintptr_t)item >> 4) ^ item->size_bytes;
	return item;
}

/* Never inlined: one place in the code each. */
__attribute__((noinline)) static struct item *item_new(size_t size_bytes)
{
	return item_init(malloc(size_bytes), size_bytes);
}

__attribute__((noinline)) static struct item *item_new_apart(size_t size_bytes)
{
	struct item *item = item_init(malloc(size_bytes), size_bytes);

	__asm__ volatile(""); /* not folded into item_new() */
	return item;
}

static void item_check(const struct item *item)
{
	if (item->mark != ((uint32_t)((uintptr_t)item >> 4) ^ item->size_bytes))
		fail("a block in use was changed");
}

static size_t item_free(struct item *item)
{
	size_t size_bytes = item->size_bytes;

	item_check(item);
	free(item);
	return size_bytes;
}

/* Live bytes are shown in steps, so that threads do not fight for the line. */
struct tally {
	int64_t bytes;
	uint64_t operations;
};

static void tally_show(struct tally *tally)
{
	atomic_fetch_add_explicit(&shown->live_bytes, (uint64_t)tally->bytes,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&shown->nr_operations, tally->operations,
				  memory_order_relaxed);
	*tally = (struct tally){0};
}

static void tally_add(struct tally *tally, int64_t bytes)
{
	tally->bytes += bytes;
	if (++tally->operations == 256)
		tally_show(tally);
}

/* A thread's blocks during the peak. */
struct heap_of_items {
	struct item **table;
	size_t table_bytes;
	size_t nr, nr_kept; /* the first nr_kept stay */
};

static struct heap_of_items build(struct random *random, size_t want_bytes)
{
	/* Room for the smallest sizes' worst case; only what is used becomes resident. */
	struct heap_of_items items = {.table_bytes = want_bytes / 16 * sizeof(struct item *)};
	struct tally tally = {0};

	items.table = map_table(items.table_bytes);
	for (size_t bytes = 0, size; bytes < want_bytes; bytes += size) {
		bool stays = items.nr % KEEP == 0;
		bool scoped = says && stays;
		struct item *item;

		size = next_size(random);
		if (scoped)
			pb_lifetime_push(PB_LONG_LIVED);
		item = kind == SITE && stays ? item_new_apart(size) : item_new(size);
		if (scoped)
			pb_lifetime_pop();
		items.table[items.nr++] = item;
		tally_add(&tally, (int64_t)size);
	}
	tally_show(&tally);
	atomic_fetch_add_explicit(&shown->own_bytes, items.nr * sizeof(items.table[0]),
				  memory_order_relaxed);
	items.nr_kept = items.nr / KEEP;
	return items;
}

static void swap_items(struct item **a, struct item **b)
{
	struct item *was = *a;

	*a = *b;
	*b = was;
}

static void shuffle(struct item **table, size_t nr, struct random *random)
{
	for (size_t i = nr; i > 1; i--)
		swap_items(&table[i - 1], &table[random_between(random, 0, i - 1)]);
}

/* Who stays is at the front, and the others are in random order. */
static void choose(struct heap_of_items *items, struct random *random)
{
	if (kind == TENTH || kind == SITE || kind == SCOPE) {
		for (size_t i = 0; i < items->nr_kept; i++)
			swap_items(&items->table[i], &items->table[i * KEEP]);
		shuffle(items->table + items->nr_kept, items->nr - items->nr_kept, random);
	} else {
		shuffle(items->table, items->nr, random);
	}
}

/* Frees all but the kept ones, which are chained; the table goes. */
static struct item *free_most(struct heap_of_items *items)
{
	struct item *kept = NULL;
	struct tally tally = {0};

	for (size_t i = items->nr_kept; i < items->nr; i++)
		tally_add(&tally, -(int64_t)item_free(items->table[i]));
	tally_show(&tally);
	for (size_t i = 0; i < items->nr_kept; i++) {
		items->table[i]->next = kept;
		kept = items->table[i];
	}
	munmap(items->table, items->table_bytes);
	atomic_fetch_sub_explicit(&shown->own_bytes, items->nr * sizeof(items->table[0]),
				  memory_order_relaxed);
	return kept;
}

/* Everything that was kept is still as it was. */
static void check_kept(const struct item *kept)
{
	for (; kept; kept = kept->next)
		item_check(kept);
}

static void trickle_until(uint64_t end_ns, struct random *random)
{
	for (uint64_t at = now_ns(); at < end_ns; at += (uint64_t)TRICKLE_MS * 1000000u) {
		struct item *items[TRICKLE_BLOCKS];

		for (unsigned i = 0; i < TRICKLE_BLOCKS; i++)
			items[i] = item_new(random_log_uniform(random, 4, 11));
		for (unsigned i = 0; i < TRICKLE_BLOCKS; i++)
			item_free(items[i]);
		sleep_until_ns(at + (uint64_t)TRICKLE_MS * 1000000u);
	}
}

static uint64_t idle_end_ns(void)
{
	return now_ns() + (uint64_t)idle_ms * 1000000u;
}

/* --- random, tenth, scope, large ---------------------------------------------------- */

/* The last thread to come says what begins; all go on together. */
static void together(const char *name)
{
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		phase(name);
	pthread_barrier_wait(&barrier);
}

static void *peak_thread(void *argument)
{
	struct random random = random_seed((uintptr_t)argument);
	struct heap_of_items items;
	struct item *kept;

	together("fill");
	items = build(&random, total_bytes / NR_THREADS);
	together("peak");
	choose(&items, &random);
	together("free");
	kept = free_most(&items);
	together("idle");
	trickle_until(idle_end_ns(), &random);
	together("end");
	check_kept(kept);
	return NULL;
}

static void run_threads(void *(*function)(void *))
{
	pthread_t threads[NR_THREADS];

	pthread_barrier_init(&barrier, NULL, NR_THREADS);
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		threads[i] = thread_start(function, (void *)i);
	for (unsigned i = 0; i < NR_THREADS; i++)
		thread_join(threads[i]);
}

/* --- pair --------------------------------------------------------------------------- */

static struct item *_Atomic ring[RING];

static void *produce(void *argument)
{
	struct random random = random_seed((uintptr_t)argument);
	struct tally tally = {0};
	size_t slot = 0;

	together("fill");
	for (size_t bytes = 0, size; bytes < total_bytes * 2; bytes += size) {
		struct item *item = item_new(size = next_size(&random));

		tally_add(&tally, (int64_t)size);
		while (atomic_load_explicit(&ring[slot % RING], memory_order_acquire))
			sched_yield();
		atomic_store_explicit(&ring[slot++ % RING], item, memory_order_release);
	}
	tally_show(&tally);
	while (atomic_load_explicit(&ring[slot % RING], memory_order_acquire))
		sched_yield();
	/* A block without a successor ends it. */
	atomic_store_explicit(&ring[slot % RING], item_new(16), memory_order_release);
	together("free");
	together("idle");
	trickle_until(idle_end_ns(), &random);
	together("end");
	return NULL;
}

static void *consume(void *argument)
{
	struct random random = random_seed((uintptr_t)argument);
	struct tally tally = {0};
	struct heap_of_items items = {.table_bytes = total_bytes / 4};
	size_t held = 0, slot = 0, total = 0;

	items.table = map_table(items.table_bytes);
	together("fill");
	while (total < total_bytes * 2) {
		struct item *item;

		while (!(item = atomic_load_explicit(&ring[slot % RING], memory_order_acquire)))
			sched_yield();
		atomic_store_explicit(&ring[slot++ % RING], NULL, memory_order_release);
		total += item->size_bytes;
		held += item->size_bytes;
		items.table[items.nr++] = item;
		while (held > total_bytes / 4) {
			size_t i = random_between(&random, 0, items.nr - 1);
			size_t size = item_free(items.table[i]);

			items.table[i] = items.table[--items.nr];
			held -= size;
			tally_add(&tally, -(int64_t)size);
		}
	}
	while (!atomic_load_explicit(&ring[slot % RING], memory_order_acquire))
		sched_yield();
	item_free(atomic_exchange_explicit(&ring[slot % RING], NULL, memory_order_acquire));
	tally_show(&tally);
	atomic_fetch_add_explicit(&shown->own_bytes, items.nr * sizeof(items.table[0]),
				  memory_order_relaxed);
	shuffle(items.table, items.nr, &random);
	items.nr_kept = items.nr / KEEP;
	together("free");

	struct item *kept = free_most(&items);

	together("idle");
	trickle_until(idle_end_ns(), &random);
	together("end");
	check_kept(kept);
	return NULL;
}

static void *pair_thread(void *argument)
{
	return (uintptr_t)argument == 0 ? produce(argument) : consume(argument);
}

/* --- threads ------------------------------------------------------------------------- */

static struct item *left_behind[SHORT_THREADS];

static void *short_thread(void *argument)
{
	uintptr_t number = (uintptr_t)argument;
	struct random random = random_seed(number);
	struct heap_of_items items = build(&random, total_bytes / SHORT_THREADS);

	choose(&items, &random);
	left_behind[number] = free_most(&items);
	return NULL;
}

static void run_short_threads(void)
{
	struct random random = random_seed(SHORT_THREADS);
	pthread_t threads[SHORT_AT_ONCE];

	phase("fill");
	for (uintptr_t i = 0; i < SHORT_THREADS + SHORT_AT_ONCE; i++) {
		if (i >= SHORT_AT_ONCE)
			thread_join(threads[i % SHORT_AT_ONCE]);
		if (i < SHORT_THREADS)
			threads[i % SHORT_AT_ONCE] = thread_start(short_thread, (void *)i);
	}
	phase("idle");
	trickle_until(idle_end_ns(), &random);
	phase("end");
	for (unsigned i = 0; i < SHORT_THREADS; i++)
		check_kept(left_behind[i]);
}

/* --- sawtooth ------------------------------------------------------------------------ */

static bool sawtooth_over;

/* Up, down, and a rest of 1.5 s, until the time is over.  A base of a tenth of it
 * stays all along. */
static void *sawtooth_thread(void *argument)
{
	struct random random = random_seed((uintptr_t)argument);
	struct heap_of_items base;
	uint64_t end_ns;

	together("fill");
	base = build(&random, total_bytes / 40);
	end_ns = now_ns() + (uint64_t)sawtooth_ms * 1000000u;
	do {
		struct heap_of_items items;

		together("up");
		items = build(&random, total_bytes / 4);
		together("peak");
		shuffle(items.table, items.nr, &random);
		items.nr_kept = 0;
		together("down");
		(void)free_most(&items);
		together("rest");
		trickle_until(now_ns() + 1500000000u, &random);
		if ((uintptr_t)argument == 0)
			sawtooth_over = now_ns() > end_ns;
		/* All see the same answer: the next is written after the next barrier. */
		pthread_barrier_wait(&barrier);
	} while (!sawtooth_over);
	together("end");
	for (size_t i = 0; i < base.nr; i++)
		item_check(base.table[i]);
	return NULL;
}

/* --- cycles --------------------------------------------------------------------------- */

enum { NR_CYCLES = 10, NR_ASKERS = 8, CYCLE_REST_MS = 2000 };

/* One place in the code each; nothing tells them apart before the first time is over. */
#define ASKER(n)                                                                               \
	__attribute__((noinline)) static struct item *ask_##n(size_t size_bytes)              \
	{                                                                                      \
		struct item *item = item_init(malloc(size_bytes), size_bytes);                 \
                                                                                               \
		__asm__ volatile("" : : "i"(n)); /* no two are folded into one */              \
		return item;                                                                   \
	}
ASKER(0) ASKER(1) ASKER(2) ASKER(3) ASKER(4) ASKER(5) ASKER(6) ASKER(7)
#undef ASKER

static struct item *(*const askers[NR_ASKERS])(size_t) = {ask_0, ask_1, ask_2, ask_3,
							  ask_4, ask_5, ask_6, ask_7};

/* What asker 3 asks for, a tenth of all, lives until the end of the next cycle. */
static void *cycles_thread(void *argument)
{
	struct random random = random_seed((uintptr_t)argument);
	struct item *kept = NULL;

	together("fill");
	for (unsigned cycle = 0; cycle < NR_CYCLES; cycle++) {
		size_t want = total_bytes / 4 / NR_THREADS;
		struct heap_of_items items = {.table_bytes = want / 16 * sizeof(struct item *)};
		struct tally tally = {0};
		struct item *older = kept;

		together("up");
		kept = NULL;
		items.table = map_table(items.table_bytes);
		for (size_t bytes = 0, nr = 0, size; bytes < want; bytes += size, nr++) {
			unsigned asker = nr % KEEP == 0 ? 3 : (unsigned)(nr % (NR_ASKERS - 1));
			struct item *item;

			asker += nr % KEEP != 0 && asker >= 3;
			if (says && asker == 3)
				pb_lifetime_push(PB_LONG_LIVED);
			item = askers[asker](size = next_size(&random));
			if (says && asker == 3)
				pb_lifetime_pop();
			tally_add(&tally, (int64_t)size);
			if (asker == 3) {
				item->next = kept;
				kept = item;
			} else {
				items.table[items.nr++] = item;
			}
		}
		shuffle(items.table, items.nr, &random);
		together("down");
		for (size_t i = 0; i < items.nr; i++)
			tally_add(&tally, -(int64_t)item_free(items.table[i]));
		for (struct item *next; older; older = next) {
			next = older->next;
			tally_add(&tally, -(int64_t)item_free(older));
		}
		tally_show(&tally);
		munmap(items.table, items.table_bytes);
		together("rest");
		trickle_until(now_ns() + (uint64_t)CYCLE_REST_MS * 1000000u, &random);
	}
	together("end");
	check_kept(kept);
	return NULL;
}

/* --- main ---------------------------------------------------------------------------- */

static enum case_kind case_of(const char *name)
{
	for (unsigned i = 0; i < NR_CASES; i++) {
		if (strcmp(name, case_names[i]) == 0)
			return (enum case_kind)i;
	}
	fail("no such case");
}

int main(int argc, char **argv)
{
	if (argc < 2)
		fail("return CASE [MIB [IDLE_MS [SAWTOOTH_MS]]]");
	kind = case_of(argv[1]);
	says = pb_lifetime_push &&
	       (kind == SCOPE || ((kind == SITE || kind == CYCLES) && getenv("RETURN_ORACLE")));
	total_bytes = (size_t)argument_or(argc, argv, 2, 1024) << 20;
	idle_ms = argument_or(argc, argv, 3, 12500);
	sawtooth_ms = argument_or(argc, argv, 4, 60000);
	shown = mmap(NULL, sizeof(*shown), PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
	if (shown == MAP_FAILED)
		fail("descriptor 3 is not the watcher's file");
	if (kind == THREADS)
		run_short_threads();
	else
		run_threads(kind == PAIR       ? pair_thread
			    : kind == SAWTOOTH ? sawtooth_thread
			    : kind == CYCLES   ? cycles_thread
					       : peak_thread);
	return 0;
}
