/* Heaps: objects that travel between threads, threads that come and go, fork. */
#include "shim/heap.h"

#include "shim/slab.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- helpers ------------------------------------------------------------------------- */

struct batch {
	void **blocks;
	size_t nr;
	size_t size; /* of each; 0: all small and medium sizes in turn */
};

static size_t size_at(const struct batch *batch, size_t i)
{
	return batch->size != 0 ? batch->size : 1 + i * 769 % MEDIUM_MAX;
}

static void *batch_alloc(void *arg)
{
	struct batch *batch = arg;

	for (size_t i = 0; i < batch->nr; i++) {
		batch->blocks[i] = shim_malloc(size_at(batch, i));
		EXPECT(batch->blocks[i] != NULL, "no memory");
		memset(batch->blocks[i], 0x5a, size_at(batch, i));
	}
	return NULL;
}

static void *batch_free(void *arg)
{
	struct batch *batch = arg;

	/* In an order that is neither that of the addresses nor its reverse. */
	for (size_t i = 0; i < batch->nr; i++)
		shim_free(batch->blocks[(i * 7919) % batch->nr]);
	return NULL;
}

static void *batch_alloc_free(void *arg)
{
	batch_alloc(arg);
	return batch_free(arg);
}

#define BLOCKS_MAX 60000u
static void *blocks[BLOCKS_MAX];

/* --- growth -------------------------------------------------------------------------- */

/* The owner does nothing while somebody else frees what it made. */
static void expect_bounded(size_t size, size_t nr)
{
	struct batch batch = {blocks, nr, size};
	uint64_t most_slabs = 0, most_heaps = 0;

	for (unsigned round = 0; round < 20; round++) {
		struct shim_stats full, empty;

		batch_alloc(&batch);
		full = stats_now();
		on_thread(batch_free, &batch);
		empty = stats_now();
		if (round < 3) {
			most_slabs = full.slab_bytes > most_slabs ? full.slab_bytes : most_slabs;
			most_heaps = full.nr_heaps > most_heaps ? full.nr_heaps : most_heaps;
		}
		EXPECT(full.slab_bytes <= most_slabs + most_slabs / 8,
		       "size %zu, round %u: %llu bytes of slabs, %llu at first", size, round,
		       (unsigned long long)full.slab_bytes, (unsigned long long)most_slabs);
		EXPECT(full.nr_heaps <= most_heaps, "round %u: %llu heaps", round,
		       (unsigned long long)full.nr_heaps);
		/* What an inbox, the slots and a bin may hold, and little of the batch. */
		EXPECT(empty.live_bytes <= full.live_bytes / 4 + (1 << 20),
		       "size %zu, round %u: %llu of %llu bytes are not free", size, round,
		       (unsigned long long)empty.live_bytes,
		       (unsigned long long)full.live_bytes);
	}
	shim_check();
	expect_nothing_kept();
}

Test(heap, memory_freed_by_others_does_not_grow_small, .timeout = TIME_BOUND_S)
{
	expect_bounded(100, 50000 / SLOWNESS + 10000);
}

Test(heap, memory_freed_by_others_does_not_grow_medium, .timeout = TIME_BOUND_S)
{
	expect_bounded(5000, 6000 / SLOWNESS + 500);
}

/* One thread that only allocates, one that only frees, both all the time. */
struct pipe {
	sem_t filled, empty;
	void *slots[256];
	size_t nr;
};

static void *consume(void *arg)
{
	struct pipe *pipe = arg;

	for (size_t i = 0; i < pipe->nr; i++) {
		while (sem_wait(&pipe->filled) != 0)
			;
		shim_free(pipe->slots[i % 256]);
		sem_post(&pipe->empty);
	}
	return NULL;
}

Test(heap, producer_and_consumer_are_bounded, .timeout = TIME_BOUND_S)
{
	static struct pipe pipe;
	pthread_t consumer;
	uint64_t early = 0;

	pipe.nr = 800000 / SLOWNESS;
	sem_init(&pipe.filled, 0, 0);
	sem_init(&pipe.empty, 0, 256);
	thread_start(&consumer, consume, &pipe);
	for (size_t i = 0; i < pipe.nr; i++) {
		while (sem_wait(&pipe.empty) != 0)
			;
		pipe.slots[i % 256] = shim_malloc(16 + i % 4 * 300);
		sem_post(&pipe.filled);
		if (i == pipe.nr / 4)
			early = stats_now().slab_bytes;
	}
	thread_join(consumer);
	EXPECT(stats_now().slab_bytes <= early + (4 << 20), "%llu bytes of slabs, %llu early",
	       (unsigned long long)stats_now().slab_bytes, (unsigned long long)early);
	expect_nothing_kept();
}

/* --- threads that end ---------------------------------------------------------------- */

Test(heap, ended_threads_keep_nothing_after_a_trim, .timeout = TIME_BOUND_S)
{
	enum { NR = 12 };
	static void *many[NR][2000];
	struct batch batches[NR];
	pthread_t threads[NR];

	shim_init();
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < NR; i++) {
			batches[i] = (struct batch){many[i], 2000 / SLOWNESS_MILD, 0};
			thread_start(&threads[i], batch_alloc_free, &batches[i]);
		}
		for (unsigned i = 0; i < NR; i++)
			thread_join(threads[i]);
		EXPECT(stats_now().nr_ownerless_heaps <= NR, "heaps multiply");
		expect_nothing_kept();
	}
}

/* What they leave alive is freed by another thread, and then it is gone. */
Test(heap, survivors_of_ended_threads_are_freed, .timeout = TIME_BOUND_S)
{
	for (unsigned round = 0; round < 8; round++) {
		struct batch batch = {blocks, 8000 / SLOWNESS_MILD, round % 2 * 64};
		uint64_t full;

		on_thread(batch_alloc, &batch);
		shim_check();
		full = stats_now().slab_bytes;
		if (round % 4 < 2)
			batch_free(&batch);
		else
			on_thread(batch_free, &batch);
		/* By the first round this thread has a heap, and the slabs are another's. */
		EXPECT(round != 4 || stats_now().slab_bytes <= full / 2,
		       "%llu of %llu bytes of slabs stay until a trim",
		       (unsigned long long)stats_now().slab_bytes, (unsigned long long)full);
		expect_nothing_kept();
	}
	EXPECT(stats_now().nr_heaps <= 3, "%llu heaps for three threads at most",
	       (unsigned long long)stats_now().nr_heaps);
}

Test(heap, heaps_are_taken_over_as_they_are, .timeout = TIME_BOUND_S)
{
	struct batch batch = {blocks, 3000, 0};

	batch.nr /= SLOWNESS_MILD;
	for (unsigned i = 0; i < 60; i++)
		on_thread(batch_alloc_free, &batch);
	EXPECT(stats_now().nr_heaps == 1, "%llu heaps for one thread at a time",
	       (unsigned long long)stats_now().nr_heaps);
	expect_nothing_kept();
}

/* A heap without a thread has room: nobody else makes slabs. */
Test(heap, slabs_of_ended_threads_are_adopted, .timeout = TIME_BOUND_S)
{
	struct batch batch = {blocks, 20000, 200};
	static void *kept[10000];
	uint64_t before;

	/* This thread must not take the heap over. */
	shim_free(shim_malloc(1));
	on_thread(batch_alloc, &batch);
	for (size_t i = 0; i < 10000; i++) {
		kept[i] = blocks[2 * i];
		shim_free(blocks[2 * i + 1]);
	}
	before = stats_now().slab_bytes;
	for (size_t i = 0; i < 9000; i++) {
		blocks[i] = shim_malloc(200);
		memset(blocks[i], 1, 200);
	}
	shim_check();
	EXPECT(stats_now().slab_bytes <= before + GRANULE_BYTES, "%llu bytes more",
	       (unsigned long long)(stats_now().slab_bytes - before));
	for (size_t i = 0; i < 9000; i++)
		shim_free(blocks[i]);
	for (size_t i = 0; i < 10000; i++)
		shim_free(kept[i]);
	expect_nothing_kept();
}

/* What a thread does after it gave its heap up is served by borrowed ones. */
static void *live_on(void *arg)
{
	struct batch *batch = arg;

	batch_alloc(batch);
	shim_thread_exit();
	EXPECT(heap_current == &heap_null, "the heap is kept");
	batch_free(batch);
	EXPECT(heap_current == &heap_null, "a heap is kept");
	batch_alloc(batch);
	for (size_t i = 0; i < batch->nr; i += 2)
		batch->blocks[i] = shim_realloc(batch->blocks[i], size_at(batch, i) * 2);
	EXPECT(heap_current == &heap_null, "a heap is kept");
	batch_free(batch);
	shim_thread_exit();
	return NULL;
}

Test(heap, allocates_after_its_exit, .timeout = TIME_BOUND_S)
{
	static void *many[4][1500];
	struct batch batches[4];
	pthread_t threads[4];

	shim_init();
	for (unsigned i = 0; i < 4; i++) {
		batches[i] = (struct batch){many[i], 1500 / SLOWNESS_MILD, 0};
		thread_start(&threads[i], live_on, &batches[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	EXPECT(stats_now().nr_heaps == stats_now().nr_ownerless_heaps, "a heap is not given up");
	expect_nothing_kept();
}

/* --- trims from outside -------------------------------------------------------------- */

static _Atomic bool stop;

static void *churn(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};
	void *mine[512] = {NULL};

	while (!atomic_load(&stop)) {
		size_t i = rng_below(&rng, 512);

		shim_free(mine[i]);
		mine[i] = shim_malloc(rng_size(&rng, 4 * MEDIUM_MAX));
	}
	for (size_t i = 0; i < 512; i++)
		shim_free(mine[i]);
	return NULL;
}

Test(heap, is_trimmed_and_checked_while_others_work, .timeout = TIME_BOUND_S)
{
	pthread_t threads[4];
	struct batch batch = {blocks, 500, 0};

	shim_init();
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < 4; i++)
		thread_start(&threads[i], churn, (void *)i);
	for (unsigned i = 0; i < 96 / SLOWNESS_MILD; i++) {
		shim_trim();
		shim_check();
		on_thread(batch_alloc_free, &batch);
		EXPECT(stats_now().large_bytes < (uint64_t)1 << 40, "statistics wrapped");
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	expect_nothing_kept();
}

/* --- looks like a double free -------------------------------------------------------- */

static void *free_one(void *p)
{
	shim_free(p);
	return NULL;
}

/* The second word of a live block may be anything, even the key. */
Test(heap, a_live_block_may_hold_the_key, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		size_t size = class_info[cls].bytes;

		for (unsigned round = 0; round < 3; round++) {
			struct object *o = shim_malloc(size), *other = shim_malloc(size);

			shim_free(other);
			o->next = other;
			o->key = arena_key();
			EXPECT(shim_usable_size(o) == size, "class %u", cls);
			if (round == 0) {
				shim_free(o);
			} else if (round == 1) {
				on_thread(free_one, o);
			} else {
				o = shim_realloc(o, size * 3);
				EXPECT(o != NULL && o->key == arena_key(), "class %u", cls);
				shim_free(o);
			}
		}
	}
	shim_check();
	expect_nothing_kept();
}

static void free_own_twice(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg);

	shim_free(p);
	shim_free(shim_malloc(7));
	shim_free(p);
}

/* On the freeing thread's slot, on the owner's inbox, or in the slab by the second time. */
static void *free_twice_elsewhere(void *p)
{
	shim_free(p);
	shim_free(p);
	return NULL;
}

static void free_other_twice(void *arg)
{
	on_thread(free_twice_elsewhere, shim_malloc(*(size_t *)arg));
}

static void free_there_and_here(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg);

	on_thread(free_one, p);
	shim_free(p);
}

static void free_after_trim(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg);

	shim_free(p);
	shim_trim();
	shim_free(p);
}

static void realloc_freed(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg);

	shim_free(p);
	(void)!shim_realloc(p, 1);
}

static void size_of_freed(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg);

	shim_free(p);
	(void)shim_usable_size(p);
}

static void free_interior(void *arg)
{
	char *p = shim_malloc(*(size_t *)arg);

	shim_free(p + 8);
}

Test(heap, misuse_is_named, .timeout = TIME_BOUND_S)
{
	static size_t sizes[] = {16, 100, SMALL_MAX, SMALL_MAX + 1, MEDIUM_MAX};
	static void (*const doubles[])(void *) = {
		free_own_twice,	 free_other_twice, free_there_and_here,
		free_after_trim, realloc_freed,	   size_of_freed,
	};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
			EXPECT(dies_saying(doubles[i], &sizes[s], "pageblock: double free of 0x"),
			       "way %zu, size %zu", i, sizes[s]);
		}
		EXPECT(dies_saying(free_interior, &sizes[s], "which is inside a block of"),
		       "size %zu", sizes[s]);
	}
}

/* --- fork ---------------------------------------------------------------------------- */

/* In the child: everything the parent had can be freed, and memory be had by new threads. */
static void use_in_child(void *arg)
{
	struct batch *batch = arg;
	static void *fresh[200];
	struct batch more = {fresh, 200, 0};

	shim_check();
	batch_free(batch);
	batch_alloc_free(&more);
	/* Not after a fork with threads under ThreadSanitizer. */
	if (!UNDER_TSAN) {
		on_thread(batch_alloc_free, &more);
		on_thread(batch_alloc_free, &more);
	}
	shim_trim();
	shim_check();
	_exit(0);
}

/* Blocks change hands all the time: outgoing slots and inboxes are never at rest. */
static _Atomic(void *) hands[64];

static void *pass_on(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};

	while (!atomic_load(&stop)) {
		void *p = shim_malloc(16 + 16 * rng_below(&rng, 4));

		shim_free(atomic_exchange(&hands[rng_below(&rng, 64)], p));
	}
	return NULL;
}

Test(heap, fork_in_the_middle_of_churn, .timeout = TIME_BOUND_S)
{
	pthread_t threads[4];
	struct batch batch = {blocks, 500, 0};

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	atomic_store(&stop, false);
	batch_alloc(&batch);
	for (uintptr_t i = 0; i < 4; i++)
		thread_start(&threads[i], i < 1 ? churn : pass_on, (void *)i);
	for (unsigned i = 0; i < 96 / SLOWNESS_MILD; i++) {
		int status = run_in_child(use_in_child, &batch);

		EXPECT(status == 0, "child %u: %d", i, status);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < 64; i++)
		shim_free(hands[i]);
	batch_free(&batch);
	expect_nothing_kept();
}

struct sleeper {
	struct heap *heap;
	sem_t ready, go;
};

#if !UNDER_TSAN
/* Takes the heap over and only frees: its bin must be settled all the same. */
static void *free_and_look(void *arg)
{
	struct heap *theirs = arg;
	struct bin *b = &theirs->bins[class_of(64)];

	shim_free(shim_malloc(1));
	EXPECT(heap_current == theirs, "another heap is taken over");
	for (size_t i = 0; i < 10000; i++)
		shim_free(blocks[i]);
	EXPECT(b->room >= 1 && b->room <= b->max, "room is %d of %u", b->room, b->max);
	return NULL;
}

static void free_in_child(void *arg)
{
	on_thread(free_and_look, arg);
	_exit(0);
}

static void *sleep_with_a_heap(void *arg)
{
	struct sleeper *sleeper = arg;

	batch_alloc(&(struct batch){blocks, 10000, 64});
	sleeper->heap = heap_current;
	sem_post(&sleeper->ready);
	while (sem_wait(&sleeper->go) != 0)
		;
	return NULL;
}

/* What the others were in the middle of: room is 0 on the way to settle the bin. */
Test(heap, fork_finds_a_bin_on_its_way_to_be_settled, .timeout = TIME_BOUND_S)
{
	static struct sleeper sleeper;
	pthread_t thread;
	int32_t *room, was;
	int status;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	sem_init(&sleeper.ready, 0, 0);
	sem_init(&sleeper.go, 0, 0);
	shim_free(shim_malloc(1));
	thread_start(&thread, sleep_with_a_heap, &sleeper);
	while (sem_wait(&sleeper.ready) != 0)
		;
	room = &sleeper.heap->bins[class_of(64)].room;
	was = *room;
	*room = 0;
	status = run_in_child(free_in_child, sleeper.heap);
	*room = was;
	sem_post(&sleeper.go);
	thread_join(thread);
	EXPECT(status == 0, "the child: %d", status);
}
#endif

#if !UNDER_TSAN && !UNDER_ASAN
static void allocate_a_few(void *unused)
{
	struct rusage before, after;
	long nr_faults;

	(void)unused;
	getrusage(RUSAGE_SELF, &before);
	for (unsigned i = 0; i < 400; i++)
		memset(shim_malloc(200), 1, 200);
	getrusage(RUSAGE_SELF, &after);
	nr_faults = after.ru_minflt - before.ru_minflt;
	shim_check();
	/* 21 pages of objects, and what they are allocated with. */
	EXPECT(nr_faults < 40, "%ld page faults", nr_faults);
	_exit(0);
}

/* What others have freed lies on 61 pages in any order: a child does not copy them all. */
Test(heap, a_fork_child_allocates_side_by_side, .timeout = TIME_BOUND_S)
{
	struct batch all = {blocks, 20000, 200}, part = {blocks, 1200, 200};
	int status;

	test_config.decay_ns = DECAY_FOREVER_NS;
	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	batch_alloc(&all);
	on_thread(batch_free, &part);
	status = run_in_child(allocate_a_few, NULL);
	EXPECT(status == 0, "the child: %d", status);
	for (size_t i = 1200; i < 20000; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}
#endif

/* --- known and not mended ------------------------------------------------------------ */

static pthread_barrier_t all_there;

static void *first_calls(void *arg)
{
	pthread_barrier_wait(&all_there);
	if (arg != NULL)
		shim_free(shim_malloc(100));
	else
		shim_free(NULL);
	return NULL;
}

/* Whichever thread sets everything up, the others' calls are safe meanwhile. */
Test(heap, first_calls_on_several_threads, .timeout = TIME_BOUND_S)
{
	static int yes;
	pthread_t threads[4];

	pthread_barrier_init(&all_there, NULL, 4);
	for (unsigned i = 0; i < 4; i++)
		thread_start(&threads[i], first_calls, i % 2 == 0 ? &yes : NULL);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	expect_nothing_kept();
}

static void *lend(void *arg)
{
	struct sleeper *sleeper = arg;
	struct batch batch = {blocks, 2000, 64};

	if (sleeper->heap == NULL)
		batch_alloc_free(&batch);
	shim_free(shim_malloc(1));
	sem_post(&sleeper->ready);
	while (sem_wait(&sleeper->go) != 0)
		;
	return NULL;
}

/* A slab that moved to this thread's heap while objects of it were in its old one's bin:
 * they come home after this thread's own slabs have been given back. */
Test(heap, one_trim_is_enough, .timeout = TIME_BOUND_S)
{
	enum { NR = 10 };
	static struct sleeper sleepers[NR];
	pthread_t threads[NR];
	void *p;

	shim_free(shim_malloc(1));
	for (unsigned i = 0; i < NR; i++) {
		sem_init(&sleepers[i].ready, 0, 0);
		sem_init(&sleepers[i].go, 0, 0);
		/* Only the first has anything to lend. */
		sleepers[i].heap = i == 0 ? NULL : heap_current;
		thread_start(&threads[i], lend, &sleepers[i]);
		while (sem_wait(&sleepers[i].ready) != 0)
			;
	}
	p = shim_malloc(64);
	for (unsigned i = 0; i < NR; i++) {
		sem_post(&sleepers[i].go);
		thread_join(threads[i]);
	}
	shim_free(p);
	shim_trim();
	EXPECT(stats_now().slab_bytes == 0, "%llu bytes of slabs are left",
	       (unsigned long long)stats_now().slab_bytes);
}
