/*
 * malloc's rules, and the oracle: random operations on blocks with patterns in them, on
 * one thread and on several that hand blocks to each other while they come and go.
 */
#include "shim/shim.h"

#include "shim/classes.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* --- the oracle ---------------------------------------------------------------------- */

#define ERRNO_MARK 12345

struct oracle {
	struct rng rng;
	struct block *blocks; /* nr live ones of max */
	size_t nr, max;
	uint64_t nr_ops;
	bool growing;
	size_t favourite; /* a size that many have for a while, so that slabs become full */
	uint64_t next_tag;
};

static size_t pick_size(struct oracle *o)
{
	struct rng *rng = &o->rng;
	size_t dice = rng_below(rng, 1000);

	if (rng_below(rng, o->max) == 0)
		o->favourite = rng_size(rng, SMALL_MAX);
	if (rng_below(rng, 2) == 0)
		return o->favourite;

	if (dice < 880)
		return rng_below(rng, 2) == 0 ? rng_size(rng, SMALL_MAX) : rng_below(rng, 256);
	if (dice < 978)
		return rng_below(rng, MEDIUM_MAX + 1);
	return dice < 998 ? rng_size(rng, 32 * PAGE_BYTES) : rng_size(rng, 2 * PAGEBLOCK_BYTES);
}

/* A new block, by any of the calls that make one. */
static struct block oracle_alloc(struct oracle *o)
{
	size_t size = pick_size(o), align = ALIGN_MIN, usable;
	struct block b = {.size = size};

	errno = ERRNO_MARK;
	switch (rng_below(&o->rng, 8)) {
	case 0:
		b.p = shim_calloc(1, size);
		EXPECT(b.p != NULL && is_zero(b.p, size), "calloc of %zu bytes", size);
		break;
	case 1:
		align = (size_t)1 << rng_below(&o->rng, 15);
		b.p = shim_aligned_alloc(align, size);
		break;
	case 2:
		b.p = shim_realloc(NULL, size);
		break;
	default:
		b.p = shim_malloc(size);
		break;
	}
	EXPECT(b.p != NULL, "no memory for %zu bytes", size);
	EXPECT(errno == ERRNO_MARK, "errno has become %d", errno);
	EXPECT((uintptr_t)b.p % align == 0 && (uintptr_t)b.p % ALIGN_MIN == 0,
	       "%zu bytes aligned to %zu at %p", size, align, (void *)b.p);
	usable = shim_usable_size(b.p);
	EXPECT(usable >= size, "%zu usable of %zu", usable, size);
	block_fill(&b, rng_below(&o->rng, 4) == 0 ? usable : size, o->next_tag++);
	return b;
}

static void oracle_free(struct block *b)
{
	errno = ERRNO_MARK;
	block_free(b);
	EXPECT(errno == ERRNO_MARK, "errno has become %d", errno);
}

static void oracle_realloc(struct oracle *o, struct block *b)
{
	size_t size = pick_size(o) + 1, kept = size < b->filled ? size : b->filled;
	unsigned char *p;

	errno = ERRNO_MARK;
	p = shim_realloc(b->p, size);
	EXPECT(p != NULL && errno == ERRNO_MARK, "realloc to %zu", size);
	/* Past what was asked for, contents need not be kept. */
	if (kept > b->size)
		kept = b->size;
	block_verify(b, p, kept);
	EXPECT((uintptr_t)p % ALIGN_MIN == 0 && shim_usable_size(p) >= size, "realloc to %zu",
	       size);
	b->p = p;
	b->size = size;
	block_fill(b, size, o->next_tag++);
}

static void oracle_step(struct oracle *o)
{
	size_t dice = rng_below(&o->rng, 16);
	size_t i;

	if (o->nr == 0)
		o->growing = true;
	if (o->nr == o->max || rng_below(&o->rng, o->max * 4) == 0)
		o->growing = false;
	if (dice < (o->growing ? 10u : 6u) && o->nr < o->max) {
		o->blocks[o->nr++] = oracle_alloc(o);
		return;
	}
	if (o->nr == 0)
		return;
	/* Old and new ones alike, and now and then the newest. */
	i = rng_below(&o->rng, 4) == 0 ? o->nr - 1 : rng_below(&o->rng, o->nr);
	if (dice >= 14) {
		oracle_realloc(o, &o->blocks[i]);
		return;
	}
	oracle_free(&o->blocks[i]);
	o->blocks[i] = o->blocks[--o->nr];
}

static void oracle_free_all(struct oracle *o)
{
	while (o->nr > 0)
		oracle_free(&o->blocks[--o->nr]);
}

Test(shim, oracle_on_one_thread, .timeout = TIME_BOUND_S)
{
	static struct block blocks[12000];
	uint64_t nr_ops = nr_ops_of(3000000);
	struct oracle o = {
		.rng = {seed_begin("shim/oracle_on_one_thread", nr_ops)},
		.blocks = blocks,
		.max = sizeof(blocks) / sizeof(blocks[0]),
	};

	for (uint64_t op = 0; op < nr_ops; op++) {
		oracle_step(&o);
		if (rng_below(&o.rng, 20000) == 0)
			shim_check();
		if (rng_below(&o.rng, 100000) == 0)
			shim_trim();
	}
	oracle_free_all(&o);
	expect_nothing_kept();
}

/* --- with others --------------------------------------------------------------------- */

#define LANES_MAX 12u
#define NR_EXCHANGE 2048u

static pthread_mutex_t exchange_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block exchange[NR_EXCHANGE];

/* What one lane's threads, one after the other, have in common. */
struct lane {
	struct oracle o;
	pthread_t thread; /* the one that runs; its successor joins it */
	unsigned generation;
	bool checks;
	sem_t done; /* the last one is about to end */
	struct block blocks[1500];
};

#define NR_GENERATIONS 12u

/* Gives a block away for another, perhaps none. */
static void swap_with_exchange(struct oracle *o)
{
	size_t mine = rng_below(&o->rng, o->nr + 1), theirs = rng_below(&o->rng, NR_EXCHANGE);
	struct block got;

	pthread_mutex_lock(&exchange_lock);
	got = exchange[theirs];
	exchange[theirs] = mine < o->nr ? o->blocks[mine] : (struct block){.p = NULL};
	pthread_mutex_unlock(&exchange_lock);
	if (mine < o->nr)
		o->blocks[mine] = o->blocks[--o->nr];
	if (got.p == NULL)
		return;
	if (o->nr < o->max)
		o->blocks[o->nr++] = got;
	else
		oracle_free(&got);
}

/* Each thread does a part of its lane's work, starts its successor and ends. */
static void *lane_run(void *arg)
{
	struct lane *lane = arg;

	if (lane->generation > 0)
		thread_join(lane->thread);
	for (uint64_t op = 0; op < lane->o.nr_ops; op++) {
		if (rng_below(&lane->o.rng, 4) == 0)
			swap_with_exchange(&lane->o);
		else
			oracle_step(&lane->o);
		if (lane->checks && rng_below(&lane->o.rng, 5000) == 0)
			shim_check();
		if (rng_below(&lane->o.rng, 50000) == 0)
			shim_trim();
	}
	lane->thread = pthread_self();
	if (++lane->generation < NR_GENERATIONS) {
		pthread_t successor;

		thread_start(&successor, lane_run, lane);
	} else {
		oracle_free_all(&lane->o);
		sem_post(&lane->done);
	}
	return NULL;
}

static void run_lanes(const char *filter, unsigned nr_lanes)
{
	static struct lane lanes[LANES_MAX];
	uint64_t nr_ops = nr_ops_of(3000000);
	uint64_t seed = seed_begin(filter, nr_ops);

	shim_init();
	for (unsigned i = 0; i < nr_lanes; i++) {
		struct lane *lane = &lanes[i];
		pthread_t first;

		lane->o = (struct oracle){
			.rng = {seed + i * 7919},
			.blocks = lane->blocks,
			.max = sizeof(lane->blocks) / sizeof(lane->blocks[0]),
			.nr_ops = nr_ops / nr_lanes / NR_GENERATIONS,
			.next_tag = (uint64_t)i << 32,
		};
		lane->checks = i == 0;
		sem_init(&lane->done, 0, 0);
		thread_start(&first, lane_run, lane);
	}
	for (unsigned i = 0; i < nr_lanes; i++) {
		while (sem_wait(&lanes[i].done) != 0)
			;
		thread_join(lanes[i].thread);
	}
	for (unsigned i = 0; i < NR_EXCHANGE; i++) {
		if (exchange[i].p != NULL)
			oracle_free(&exchange[i]);
	}
	expect_nothing_kept();
}

Test(shim, oracle_on_four_threads_that_come_and_go, .timeout = TIME_BOUND_S)
{
	run_lanes("shim/oracle_on_four_threads_that_come_and_go", 4);
}

/* So many that caches are kept short and slabs move between heaps in use. */
Test(shim, oracle_on_many_threads_that_come_and_go, .timeout = TIME_BOUND_S)
{
	run_lanes("shim/oracle_on_many_threads_that_come_and_go", LANES_MAX);
}

/* --- alignment ----------------------------------------------------------------------- */

Test(shim, every_alignment_with_many_sizes, .timeout = TIME_BOUND_S)
{
	static struct block blocks[256];

	for (size_t align = 16; align <= (size_t)4 << 20; align *= 2) {
		unsigned nr = 0;

		for (size_t size = 0; size <= (size_t)3 << 20; size = size * 5 / 4 + 1) {
			struct block b = {.p = shim_aligned_alloc(align, size), .size = size};

			EXPECT(b.p != NULL && (uintptr_t)b.p % align == 0,
			       "%zu bytes aligned to %zu at %p", size, align, (void *)b.p);
			EXPECT(shim_usable_size(b.p) >= size, "%zu of %zu usable",
			       shim_usable_size(b.p), size);
			block_fill(&b, size, nr);
			blocks[nr++] = b;
		}
		/* What is aligned may be resized like anything else. */
		for (unsigned i = 0; i < nr; i += 3) {
			size_t size = blocks[i].size / 2 + 1;
			unsigned char *p = shim_realloc(blocks[i].p, size);

			EXPECT(p != NULL, "no memory");
			block_verify(&blocks[i], p, size < blocks[i].filled ? size : blocks[i].filled);
			blocks[i].p = p;
			block_fill(&blocks[i], size, i);
		}
		shim_check();
		while (nr > 0)
			block_free(&blocks[--nr]);
	}
	expect_nothing_kept();
}

/* All sizes of the small and medium classes at all alignments up to a page. */
Test(shim, every_small_size_at_every_alignment, .timeout = TIME_BOUND_S)
{
	for (size_t align = 1; align <= 2 * PAGE_BYTES; align *= 2) {
		for (size_t size = 0; size <= MEDIUM_MAX + 2; size += SLOWNESS) {
			unsigned char *p = shim_aligned_alloc(align, size);

			EXPECT(p != NULL && (uintptr_t)p % align == 0, "%zu, %zu", align, size);
			EXPECT(shim_usable_size(p) >= size, "%zu, %zu", align, size);
			shim_free(p);
		}
	}
	expect_nothing_kept();
}

/* --- the rules ----------------------------------------------------------------------- */

Test(shim, zero_bytes_are_a_block, .timeout = TIME_BOUND_S)
{
	void *a = shim_malloc(0), *b = shim_malloc(0), *c = shim_calloc(0, 100);
	void *d = shim_calloc(100, 0), *e = shim_aligned_alloc(64, 0), *f = shim_realloc(NULL, 0);

	EXPECT(a && b && c && d && e && f, "no block for size 0");
	EXPECT(a != b && b != c && c != d && d != f, "one block for two");
	shim_free(a);
	shim_free(b);
	shim_free(c);
	shim_free(d);
	shim_free(e);
	shim_free(f);
	expect_nothing_kept();
}

Test(shim, realloc_to_nothing_frees, .timeout = TIME_BOUND_S)
{
	for (size_t size = 1; size < 8 * PAGEBLOCK_BYTES; size *= 3)
		EXPECT(shim_realloc(shim_malloc(size), 0) == NULL, "size %zu", size);
	expect_nothing_kept();
}

Test(shim, null_is_nothing, .timeout = TIME_BOUND_S)
{
	shim_init();
	errno = ERRNO_MARK;
	shim_free(NULL);
	EXPECT(shim_usable_size(NULL) == 0, "NULL has a size");
	EXPECT(errno == ERRNO_MARK, "errno has become %d", errno);
}

Test(shim, products_that_overflow_are_refused, .timeout = TIME_BOUND_S)
{
	static const size_t factors[][2] = {
		{SIZE_MAX, 2},		       {2, SIZE_MAX},
		{SIZE_MAX, SIZE_MAX},	       {(size_t)1 << 32, (size_t)1 << 32},
		{(size_t)1 << 33, (size_t)1 << 31}, {SIZE_MAX / 16 + 2, 16},
	};

	for (size_t i = 0; i < sizeof(factors) / sizeof(factors[0]); i++) {
		errno = 0;
		EXPECT(shim_calloc(factors[i][0], factors[i][1]) == NULL && errno == ENOMEM,
		       "%zu * %zu", factors[i][0], factors[i][1]);
	}
}

Test(shim, realloc_keeps_every_size, .timeout = TIME_BOUND_S)
{
	for (size_t from = 1; from <= 3 * MEDIUM_MAX; from += from / 7 + 1) {
		for (size_t to = 1; to <= 3 * MEDIUM_MAX; to += to / 3 + 1) {
			struct block b = {.p = shim_malloc(from), .size = from};
			unsigned char *p;

			block_fill(&b, from, to);
			p = shim_realloc(b.p, to);
			EXPECT(p != NULL && shim_usable_size(p) >= to, "%zu to %zu", from, to);
			block_verify(&b, p, from < to ? from : to);
			shim_free(p);
		}
	}
	expect_nothing_kept();
}

/* A block that shrinks to a fraction does not keep its place. */
Test(shim, shrinking_gives_memory_back, .timeout = TIME_BOUND_S)
{
	static void *blocks[2000];

	for (unsigned i = 0; i < 2000; i++) {
		blocks[i] = shim_malloc(MEDIUM_MAX);
		EXPECT(blocks[i] != NULL, "no memory");
	}
	for (unsigned i = 0; i < 2000; i++)
		blocks[i] = shim_realloc(blocks[i], 100);
	shim_trim();
	EXPECT(stats_now().slab_bytes < 1 << 20, "%llu bytes of slabs",
	       (unsigned long long)stats_now().slab_bytes);
	for (unsigned i = 0; i < 2000; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

Test(shim, statistics_add_up, .timeout = TIME_BOUND_S)
{
	struct shim_stats before = stats_now(), with, after;
	void *large = shim_malloc(3 * PAGEBLOCK_BYTES + 1), *small = shim_malloc(100);

	with = stats_now();
	EXPECT(with.large_bytes == 3 * PAGEBLOCK_BYTES + PAGE_BYTES, "%llu",
	       (unsigned long long)with.large_bytes);
	EXPECT(with.slab_bytes == GRANULE_BYTES, "%llu", (unsigned long long)with.slab_bytes);
	EXPECT(with.live_bytes >= with.large_bytes + 112, "%llu",
	       (unsigned long long)with.live_bytes);
	EXPECT(with.live_bytes + with.slab_free_bytes <= with.large_bytes + with.slab_bytes,
	       "more bytes than there are");
	EXPECT(with.nr_heaps == 1 && with.nr_ownerless_heaps == 0, "heaps");
	memset(large, 1, 3 * PAGEBLOCK_BYTES);
	shim_free(large);
	shim_free(small);
	after = stats_now();
	EXPECT(after.large_bytes == 0 && before.large_bytes == 0, "large bytes are left");
	EXPECT(after.dirty_free_bytes >= 3 * PAGEBLOCK_BYTES || after.purged_bytes > 0,
	       "nothing is dirty");
	EXPECT(shim_trim() + stats_now().purged_bytes >= 3 * PAGEBLOCK_BYTES, "nothing is purged");
	expect_nothing_kept();
}

/* --- no memory ----------------------------------------------------------------------- */

#if !UNDER_TSAN && !UNDER_ASAN
/* Nothing more is committed from here on. */
static void freeze_memory(void)
{
	const struct rlimit rl = {PAGE_BYTES, RLIM_INFINITY}; /* 0 means no limit */

	EXPECT(setrlimit(RLIMIT_DATA, &rl) == 0, "no limit");
}

static void thaw_memory(void)
{
	const struct rlimit rl = {RLIM_INFINITY, RLIM_INFINITY};

	EXPECT(setrlimit(RLIMIT_DATA, &rl) == 0, "no limit");
}

#define FILL_MAX 100000u
static void *fill[FILL_MAX];

/* Takes what there is in blocks of ever smaller sizes down to `least`; how many. */
static size_t fill_memory(size_t least)
{
	size_t nr = 0;

	for (size_t size = PAGEBLOCK_BYTES; size >= least; size /= 2) {
		void *p;

		while (nr < FILL_MAX && (p = shim_malloc(size)) != NULL)
			fill[nr++] = p;
		EXPECT(nr < FILL_MAX, "memory without end");
		EXPECT(errno == ENOMEM, "errno is %d", errno);
	}
	return nr;
}

Test(shim, running_out_is_survived, .timeout = TIME_BOUND_S)
{
	struct block kept = {.p = shim_malloc(1000), .size = 1000};
	size_t nr;

	block_fill(&kept, 1000, 1);
	freeze_memory();
	for (unsigned round = 0; round < 3; round++) {
		nr = fill_memory(16);
		EXPECT(nr > 0, "there was nothing to have");
		shim_check();
		errno = 0;
		EXPECT(shim_realloc(kept.p, 100000) == NULL && errno == ENOMEM, "realloc");
		errno = 0;
		EXPECT(shim_calloc(1, 100000) == NULL && errno == ENOMEM, "calloc");
		errno = 0;
		EXPECT(shim_aligned_alloc(8192, 8192) == NULL && errno == ENOMEM, "aligned");
		block_verify(&kept, kept.p, 1000);
		while (nr > 0)
			shim_free(fill[--nr]);
		shim_check();
	}
	thaw_memory();
	block_free(&kept);
	expect_nothing_kept();
}

/* The block is there already; that a smaller one cannot be had is no reason to fail. */
Test(shim, shrinking_needs_no_memory, .timeout = TIME_BOUND_S)
{
	void *medium = shim_malloc(MEDIUM_MAX), *large = shim_malloc(PAGEBLOCK_BYTES), *p;
	size_t nr;

	freeze_memory();
	nr = fill_memory(512);
	p = shim_realloc(medium, 64);
	EXPECT(p != NULL, "a medium block cannot become smaller");
	shim_free(p);
	while (nr > 0)
		shim_free(fill[--nr]);
	thaw_memory();
	shim_free(large);
}
#endif

/* The header promises that the first call sets everything up, whichever it is. */
static void free_null(void *unused)
{
	(void)unused;
	shim_free(NULL);
}

Test(shim, free_of_null_comes_first, .timeout = TIME_BOUND_S)
{
	int status = run_in_child(free_null, NULL);

	EXPECT(status == 0, "the child: %d", status);
}

/* A write to a freed block is found when its memory is used again: diagnostics.def has
 * the line for it. */
static void write_to_freed(void *unused)
{
	static void **blocks[100];

	(void)unused;
	for (unsigned i = 0; i < 100; i++)
		blocks[i] = shim_malloc(64);
	for (unsigned i = 0; i < 100; i++)
		shim_free(blocks[i]);
	*blocks[98] = (void *)(uintptr_t)0x4141414141414140u;
	shim_trim();
}

Test(shim, a_write_to_a_freed_block_is_named, .timeout = TIME_BOUND_S)
{
	EXPECT(dies_saying(write_to_freed, NULL, "was written to"), "it is not");
}

/* --- known and not mended ------------------------------------------------------------ */

/* The first word of a freed block is where lists of the program keep their links, too. */
static void link_freed_to_live(void *unused)
{
	void **freed = shim_malloc(64), **live = shim_malloc(64);

	(void)unused;
	live[0] = live[1] = NULL;
	shim_free(freed);
	*freed = live;
	shim_trim();
}

Test(shim, a_freed_block_linked_to_a_live_one_is_named, .timeout = TIME_BOUND_S)
{
	EXPECT(dies_saying(link_freed_to_live, NULL, "was written to"), "it is not");
}
