/*
 * free_only: one thread allocates, another one does nothing but free.
 *
 * The shape that users of allocators with caches by thread report most often (mimalloc#1364,
 * #177; snmalloc#814): a pipeline whose last stage frees and never allocates, so that it
 * never looks into its own caches, and the memory must find its way back all the same. The
 * two share a ring of pointers; blocks are of 24 to 4,000 bytes, small ones more often, and
 * every thousandth is of 256 KiB.
 *
 * Stresses: batches of remote frees, thread caches that only ever fill, peak memory.
 */
#include "workloads/support.h"

#include <sched.h>
#include <stdatomic.h>

enum {
	RING_LEN = 1 << 14,
	BLOCKS = 4000000,
	LARGE_EVERY = 1000,
	LARGE_BYTES = 256 << 10,
	STEP = 64, /* the indices are published once in so many blocks */
};

static struct block ring[RING_LEN];
static _Alignas(64) _Atomic unsigned filled;
static _Alignas(64) _Atomic unsigned emptied;

static void *free_all(void *argument)
{
	unsigned seen = 0;

	(void)argument;
	for (unsigned at = 0; at < BLOCKS; at++) {
		while (at == seen) {
			/* Acquire, with the release in main(): the blocks up to there. */
			seen = atomic_load_explicit(&filled, memory_order_acquire);
			if (at == seen)
				sched_yield();
		}
		block_free(&ring[at % RING_LEN]);
		if ((at + 1) % STEP == 0)
			/* Release, with the acquire in main(): the slots are empty. */
			atomic_store_explicit(&emptied, at + 1, memory_order_release);
	}
	return NULL;
}

int main(void)
{
	pthread_t consumer = thread_start(free_all, NULL);
	struct random random = random_seed(1);
	unsigned free_up_to = RING_LEN;

	for (unsigned at = 0; at < BLOCKS; at++) {
		while (at == free_up_to) {
			/* Acquire, with the release in free_all(). */
			free_up_to =
				atomic_load_explicit(&emptied, memory_order_acquire) + RING_LEN;
			if (at == free_up_to)
				sched_yield();
		}
		ring[at % RING_LEN] = block_new(
			at % LARGE_EVERY == 0 ? LARGE_BYTES
					      : 12 + random_log_uniform(&random, 4, 11));
		if ((at + 1) % STEP == 0)
			/* Release, with the acquire in free_all(): the blocks. */
			atomic_store_explicit(&filled, at + 1, memory_order_release);
	}
	thread_join(consumer);
	return work_done();
}
