/* Places: a thread's heaps, apart from each other, on one fast path. */
#include "shim/heap.h"

#include "shim/limits.h"
#include "shim/slab.h"
#include "tests/shim/support.h"

#include <unistd.h>

#define NR 3000u
static void *here[NR], *there[NR];

static void alloc_in(unsigned place, void **blocks)
{
	EXPECT(heap_use_place(place), "no memory for a heap");
	for (unsigned i = 0; i < NR; i++) {
		blocks[i] = shim_malloc(1 + i % 3000);
		EXPECT(slab_heap(slab_of(blocks[i]))->place == place, "block %u is in place %u", i,
		       slab_heap(slab_of(blocks[i]))->place);
	}
	EXPECT(heap_use_place(PLACE_ANY), "back");
}

static void free_all(void **blocks)
{
	for (unsigned i = 0; i < NR; i++)
		shim_free(blocks[i]);
}

static unsigned chain_length(const struct bin *b)
{
	unsigned n = 0;

	for (const struct object *o = b->head; o != NULL; o = o->next)
		n++;
	return n;
}

Test(place, blocks_stay_where_they_were_made, .timeout = TIME_BOUND_S)
{
	alloc_in(3, there);
	alloc_in(PLACE_ANY, here);
	shim_check();
	free_all(there);
	free_all(here);
	expect_nothing_kept();
}

/* What is freed while another place is in use goes to its own heap's bin, by the fast path
 * for small blocks and by the slow one for medium ones. */
Test(place, a_free_finds_the_heap_of_its_place, .timeout = TIME_BOUND_S)
{
	static const size_t sizes[] = {100, 5000};

	for (unsigned i = 0; i < 2; i++) {
		struct bin *b;
		unsigned before;
		void *p;

		EXPECT(heap_use_place(5), "no memory");
		p = shim_malloc(sizes[i]);
		b = &heap_mine(5)->bins[class_of(sizes[i])];
		before = chain_length(b);
		EXPECT(heap_use_place(PLACE_ANY), "back");
		shim_free(p);
		EXPECT(chain_length(b) == before + 1, "%zu bytes: %u, then %u free", sizes[i],
		       before, chain_length(b));
	}
	expect_nothing_kept();
}

static void *alloc_there(void *unused)
{
	(void)unused;
	alloc_in(7, there);
	return heap_mine(7);
}

static void *free_here(void *heap)
{
	EXPECT(heap_use_place(7), "no memory");
	EXPECT(heap_mine(7) == heap, "the heap of an ended thread is taken over");
	EXPECT(heap_mine(PLACE_ANY) == NULL || heap_mine(PLACE_ANY)->place == PLACE_ANY,
	       "and no other");
	free_all(there);
	return NULL;
}

/* Heaps of ended threads wait for a thread that wants their place. */
Test(place, heaps_are_left_and_taken_by_place, .timeout = TIME_BOUND_S)
{
	pthread_t thread;
	void *heap;

	EXPECT(pthread_create(&thread, NULL, alloc_there, NULL) == 0, "no thread");
	EXPECT(pthread_join(thread, &heap) == 0, "no end");
	shim_free(shim_malloc(1));
	EXPECT(heap_current->place == PLACE_ANY, "place %u", heap_current->place);
	EXPECT(heap_mine(7) == NULL, "nobody asked for it here");
	on_thread(free_here, heap);
	expect_nothing_kept();
}

static void *free_remote(void *unused)
{
	(void)unused;
	shim_free(shim_malloc(1));
	free_all(there);
	return NULL;
}

Test(place, other_threads_free_it, .timeout = TIME_BOUND_S)
{
	alloc_in(9, there);
	on_thread(free_remote, NULL);
	shim_check();
	expect_nothing_kept();
}

#if !UNDER_TSAN
static void free_in_child(void *unused)
{
	(void)unused;
	EXPECT(heap_mine(2) != NULL && heap_is_mine(heap_mine(2)), "still the thread's own");
	free_all(there);
	alloc_in(2, there);
	shim_check();
	_exit(0);
}

Test(place, fork_keeps_all_of_the_threads_heaps, .timeout = TIME_BOUND_S)
{
	int status;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	alloc_in(2, there);
	status = run_in_child(free_in_child, NULL);
	EXPECT(status == 0, "the child: %d", status);
	free_all(there);
	expect_nothing_kept();
}
#endif

/* The caches of a thread that has many heaps are those of one thread. */
Test(place, heaps_of_one_thread_count_as_one, .timeout = TIME_BOUND_S)
{
	for (unsigned place = 0; place < NR_PLACES; place++) {
		EXPECT(heap_use_place(place), "no memory");
		shim_free(shim_malloc(16));
	}
	EXPECT(heap_use_place(PLACE_ANY), "back");
	EXPECT(!limits_many_threads(), "one thread counts as many");
	expect_nothing_kept();
}
