/* Lifetimes said by the program: blocks apart, threads, nesting, forks. */
#include "shim/lifetime.h"

#include "shim/heap.h"
#include "shim/slab.h"
#include "tests/shim/support.h"

#include <unistd.h>

#define NR 20000u
static struct block blocks[NR];

static void alloc(unsigned i, size_t size)
{
	blocks[i] = (struct block){ .p = shim_malloc(size), .size = size };
	EXPECT(blocks[i].p != NULL, "no memory");
	block_fill(&blocks[i], size, i);
}

static unsigned place_of(const void *p)
{
	return slab_heap(slab_of(p))->place;
}

static void free_from(unsigned first, unsigned step)
{
	for (unsigned i = first; i < NR; i += step)
		block_free(&blocks[i]);
}

/* Every tenth block stays: the others leave whole pages and blocks behind. */
Test(lifetime, what_goes_leaves_whole_slabs, .timeout = TIME_BOUND_S)
{
	struct shim_stats stats;

	for (unsigned i = 0; i < NR; i++) {
		if (i % 10 == 0)
			lifetime_push(LIFETIME_LONG);
		alloc(i, 1 + i % 2000);
		EXPECT(place_of(blocks[i].p) == (i % 10 == 0 ? PLACE_LONG : PLACE_ANY),
		       "block %u is in place %u", i, place_of(blocks[i].p));
		if (i % 10 == 0)
			lifetime_pop();
	}
	for (unsigned i = 0; i < NR; i++) {
		if (i % 10 != 0)
			block_free(&blocks[i]);
	}
	(void)shim_trim();
	stats = stats_now();
	/* Slabs that are not full yet: one for each class. */
	EXPECT(stats.slab_free_bytes <= (NR_CLASSES + 2) * GRANULE_BYTES, "%llu bytes",
	       (unsigned long long)stats.slab_free_bytes);
	free_from(0, 10);
	expect_nothing_kept();
}

/* Blocks of one lifetime share no pageblock with those of another. */
Test(lifetime, pageblocks_are_apart, .timeout = TIME_BOUND_S)
{
	static enum lifetime at[4096];
	static const char *seen[4096];
	unsigned nr = 0;

	for (unsigned i = 0; i < NR; i++) {
		enum lifetime lifetime = (enum lifetime)(i % NR_LIFETIMES);

		lifetime_push(lifetime);
		alloc(i, 1 + i % 5000);
		lifetime_pop();

		const char *block = (const char *)((uintptr_t)blocks[i].p & ~(PAGEBLOCK_BYTES - 1));
		unsigned k = 0;

		while (k < nr && seen[k] != block)
			k++;
		if (k == nr) {
			seen[nr] = block;
			at[nr++] = lifetime;
		}
		EXPECT(at[k] == lifetime, "block %u, of %u, is among %u", i, lifetime, at[k]);
	}
	free_from(0, 1);
	expect_nothing_kept();
}

Test(lifetime, nests, .timeout = TIME_BOUND_S)
{
	static const unsigned places[NR_LIFETIMES] = { PLACE_ANY, PLACE_SHORT, PLACE_LONG };
	uint64_t nr_ops = nr_ops_of(20000);
	struct rng rng = { seed_begin("lifetime/nests", nr_ops) };
	enum lifetime levels[LIFETIME_DEPTH + 1] = { LIFETIME_UNKNOWN };
	unsigned depth = 0;

	for (uint64_t op = 0; op < nr_ops; op++) {
		void *p;

		if (rng_below(&rng, 2) == 0 && depth < LIFETIME_DEPTH) {
			levels[++depth] = (enum lifetime)rng_below(&rng, NR_LIFETIMES);
			lifetime_push(levels[depth]);
		} else {
			lifetime_pop();
			depth -= depth > 0;
		}
		EXPECT(lifetime_now() == levels[depth], "depth %u", depth);
		p = shim_malloc(1 + rng_below(&rng, 4000));
		EXPECT(place_of(p) == places[levels[depth]], "depth %u: place %u", depth,
		       place_of(p));
		shim_free(p);
	}
	while (depth-- > 0)
		lifetime_pop();
	/* Too deep: what is innermost counts, and the way back ends at unknown. */
	for (unsigned i = 0; i < 3 * LIFETIME_DEPTH; i++)
		lifetime_push(LIFETIME_LONG);
	EXPECT(lifetime_now() == LIFETIME_LONG, "innermost");
	for (unsigned i = 0; i < 3 * LIFETIME_DEPTH; i++)
		lifetime_pop();
	EXPECT(lifetime_now() == LIFETIME_UNKNOWN, "outermost");
	expect_nothing_kept();
}

/* A block that realloc moves stays among its like, whoever asks. */
Test(lifetime, realloc_keeps_it, .timeout = TIME_BOUND_S)
{
	void *p;

	lifetime_push(LIFETIME_LONG);
	p = shim_malloc(100);
	lifetime_pop();
	p = shim_realloc(p, 5000);
	EXPECT(place_of(p) == PLACE_LONG, "place %u", place_of(p));
	shim_free(p);
	expect_nothing_kept();
}

static void *other_thread(void *unused)
{
	void *p = shim_malloc(100);

	(void)unused;
	EXPECT(place_of(p) == PLACE_ANY, "another thread's scope");
	shim_free(p);
	free_from(0, 2);
	lifetime_push(LIFETIME_LONG);
	for (unsigned i = 0; i < NR; i += 2)
		alloc(i, 64);
	/* Ends without a pop, and leaves its blocks. */
	return NULL;
}

static void *next_thread(void *unused)
{
	(void)unused;
	EXPECT(lifetime_now() == LIFETIME_UNKNOWN, "a thread begins with none");
	lifetime_push(LIFETIME_LONG);
	EXPECT(slab_heap(slab_of(blocks[0].p)) == heap_current, "the heap is taken over");
	lifetime_pop();
	free_from(0, 2);
	return NULL;
}

Test(lifetime, threads_come_and_go, .timeout = TIME_BOUND_S)
{
	for (unsigned i = 0; i < NR; i++)
		alloc(i, 64);
	lifetime_push(LIFETIME_SHORT);
	on_thread(other_thread, NULL);
	on_thread(next_thread, NULL);
	free_from(1, 2);
	lifetime_pop();
	shim_check();
	expect_nothing_kept();
}

#if !UNDER_TSAN
static void in_child(void *unused)
{
	void *p;

	(void)unused;
	EXPECT(lifetime_now() == LIFETIME_LONG, "the scope goes on");
	p = shim_malloc(64);
	EXPECT(place_of(p) == PLACE_LONG, "place %u", place_of(p));
	shim_free(p);
	free_from(0, 1);
	lifetime_pop();
	shim_check();
	expect_nothing_kept();
	_exit(0);
}

Test(lifetime, fork_keeps_the_scope, .timeout = TIME_BOUND_S)
{
	int status;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	lifetime_push(LIFETIME_LONG);
	for (unsigned i = 0; i < NR; i++)
		alloc(i, 64);
	status = run_in_child(in_child, NULL);
	EXPECT(status == 0, "child: %d", status);
	free_from(0, 1);
	lifetime_pop();
	expect_nothing_kept();
}
#endif
