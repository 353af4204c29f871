/*
 * rptest [THREADS]: batches of random sizes, freed at random and across threads.
 *
 * After the description of Jansson's rpmalloc-benchmark: each thread allocates and frees
 * blocks of random sizes up to 16,000 bytes, the likelihood falling off with the size, and
 * hands a part of them to another thread, which frees them some time later.
 *
 * Stresses: many size classes at once, medium sizes, deferred frees by other threads. The
 * work is shared out evenly over any number of threads.
 */
#include "workloads/support.h"

#include <stdatomic.h>

enum {
	SLOTS = 8192,
	BATCH_LEN = 200,
	LOOPS = 11000, /* of all threads together */
	SIZE_LEAST = 16,
	SIZE_GREATEST = 16000,
	THREADS_MAX = 256,
};

/* Blocks on their way to another thread. */
struct parcel {
	struct parcel *next;
	struct block blocks[BATCH_LEN / 4];
};

struct worker {
	_Atomic(struct parcel *) inbox;
	unsigned index;
	unsigned nr_loops;
};

static struct worker workers[THREADS_MAX];
static unsigned nr_threads;

static size_t falling_size(struct random *random)
{
	uint64_t draw = random_next(random);

	/* The square of an even draw, twice: falls off about as quickly as programs' sizes. */
	draw = draw * draw >> 32;
	draw = draw * draw >> 32;
	return SIZE_LEAST + (size_t)(draw * (SIZE_GREATEST - SIZE_LEAST) >> 32);
}

static void inbox_empty(struct worker *worker)
{
	/* Acquire, with the release in send(): the parcels' contents. */
	struct parcel *parcel =
		atomic_exchange_explicit(&worker->inbox, NULL, memory_order_acquire);

	while (parcel) {
		struct parcel *next = parcel->next;

		for (size_t i = 0; i < BATCH_LEN / 4; i++)
			block_free(&parcel->blocks[i]);
		free(parcel);
		parcel = next;
	}
}

static void send(struct worker *to, struct parcel *parcel)
{
	/* Relaxed: only compared. Release, with the acquire in inbox_empty(). */
	parcel->next = atomic_load_explicit(&to->inbox, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(
		&to->inbox, &parcel->next, parcel, memory_order_release, memory_order_relaxed))
		continue;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct random random = random_seed(worker->index);
	struct block *slots = calloc(SLOTS, sizeof(*slots));

	if (!slots)
		fail("out of memory");
	for (unsigned loop = 0; loop < worker->nr_loops; loop++) {
		size_t at = random_between(&random, 0, SLOTS - 1);

		for (size_t i = 0; i < BATCH_LEN; i++) {
			block_replace(&slots[at], falling_size(&random));
			at = (at + 61) % SLOTS;
		}
		if (loop % 4 == 0) {
			struct parcel *parcel = malloc(sizeof(*parcel));

			if (!parcel)
				fail("out of memory");
			for (size_t i = 0; i < BATCH_LEN / 4; i++)
				parcel->blocks[i] = block_new(falling_size(&random));
			send(&workers[(worker->index + 1) % nr_threads], parcel);
			inbox_empty(worker);
		}
	}
	for (size_t i = 0; i < SLOTS; i++)
		block_free(&slots[i]);
	free(slots);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];

	nr_threads = argument_or(argc, argv, 1, 2);
	if (nr_threads > THREADS_MAX)
		fail("too many threads");
	for (unsigned i = 0; i < nr_threads; i++) {
		workers[i].index = i;
		workers[i].nr_loops = LOOPS / nr_threads;
	}
	for (unsigned i = 0; i < nr_threads; i++)
		threads[i] = thread_start(work, &workers[i]);
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < nr_threads; i++)
		inbox_empty(&workers[i]);
	return work_done();
}
