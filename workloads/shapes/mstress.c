/*
 * mstress [THREADS [PHASES]]: a server in phases; blocks survive the threads that made them.
 *
 * After the description of mstress in Leijen's mimalloc-bench. In each phase all threads are
 * new. They allocate blocks whose sizes are around powers of two, small ones far more often;
 * keep some for the phase; free the others soon; and swap some with a table that all threads
 * share and that outlives the phases. The threads' shares of the work differ.
 *
 * Stresses: frees by other threads, memory of finished threads, long-lived blocks between
 * short-lived ones, sizes from 16 bytes to 128 KiB.
 */
#include "workloads/support.h"

#include <stdatomic.h>

enum {
	SHARED = 1000,
	KEPT_MAX = 4096,
	STEPS = 6000000, /* of all threads and phases together */
	THREADS_MAX = 256,
};

static _Atomic(void *) shared[SHARED];

struct worker {
	struct random random;
	unsigned nr_steps;
};

/* A block starts with its size; both ends carry a mark (support.h). */
static void *item_new(struct random *random)
{
	unsigned shift = 4;

	/* Each power of two is half as likely as the one before, up to 128 KiB. */
	while (shift < 17 && random_next(random) & 1)
		shift++;
	size_t size_bytes = ((size_t)1 << shift) + random_between(random, 0, 1u << (shift - 1));
	struct block block = block_new(size_bytes + sizeof(size_t));
	size_t *item = (size_t *)(void *)(block.data + 8);

	memcpy(item, &size_bytes, sizeof(size_bytes));
	return block.data;
}

static void item_free(void *item)
{
	size_t size_bytes;

	if (!item)
		return;
	memcpy(&size_bytes, (char *)item + 8, sizeof(size_bytes));
	struct block block = { item, size_bytes + sizeof(size_t) };

	block_free(&block);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct random *random = &worker->random;
	void **kept = calloc(KEPT_MAX, sizeof(*kept));

	if (!kept)
		fail("out of memory");
	for (unsigned i = 0; i < worker->nr_steps; i++) {
		void **slot = &kept[random_between(random, 0, KEPT_MAX - 1)];
		unsigned dice = random_next(random) % 100;

		if (dice < 55) {
			item_free(*slot);
			*slot = item_new(random);
		} else if (dice < 90) {
			item_free(*slot);
			*slot = NULL;
		} else {
			/* Acquire and release: what is in the block goes with it. */
			*slot = atomic_exchange_explicit(
				&shared[random_between(random, 0, SHARED - 1)], *slot,
				memory_order_acq_rel);
		}
	}
	for (size_t i = 0; i < KEPT_MAX; i++)
		item_free(kept[i]);
	free(kept);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned nr_threads = argument_or(argc, argv, 1, 2);
	unsigned nr_phases = argument_or(argc, argv, 2, 20);
	struct worker workers[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	if (nr_threads > THREADS_MAX)
		fail("too many threads");
	for (unsigned phase = 0; phase < nr_phases; phase++) {
		for (unsigned i = 0; i < nr_threads; i++) {
			unsigned even = STEPS / nr_phases / nr_threads;

			/* From half to one and a half of the even share, in turn. */
			workers[i].nr_steps =
				even / 2 + even * ((i + phase) % nr_threads) /
						   (nr_threads > 1 ? nr_threads - 1 : 1);
			workers[i].random = random_seed(phase * nr_threads + i);
			threads[i] = thread_start(work, &workers[i]);
		}
		for (unsigned i = 0; i < nr_threads; i++)
			thread_join(threads[i]);
		/* A few of the survivors end with the phase. Relaxed: all threads are joined.
		 */
		for (size_t i = 0; i < SHARED; i++)
			if (i % 10 == phase % 10)
				item_free(atomic_exchange_explicit(&shared[i], NULL,
								   memory_order_relaxed));
	}
	for (size_t i = 0; i < SHARED; i++)
		item_free(atomic_load_explicit(&shared[i], memory_order_relaxed));
	return work_done();
}
