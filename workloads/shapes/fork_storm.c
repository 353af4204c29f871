/*
 * fork_storm [CHILDREN]: a process with threads and a heap forks over and over.
 *
 * As servers that save a snapshot or run helpers in a child. A heap of 32 MiB of small blocks
 * stands; two threads replace blocks in it all the time, each at a steady pace; the main
 * thread forks children one after the other, four alive at a time. A child verifies a part
 * of the heap, allocates and frees 2,000 blocks of its own, and ends.
 *
 * Stresses: what the allocator does at fork (locks taken in the parent, state mended in the
 * child), how much of its memory the child writes to and therefore copies, and deadlocks.
 */
#include "workloads/support.h"

#include <stdatomic.h>
#include <sys/wait.h>

enum {
	SLOTS = 64 << 10,
	CHANGED = 4 << 10, /* slots of each of the threads that go on */
	ALIVE = 4,
	CHILD_BLOCKS = 2000,
};

static struct block slots[SLOTS];
static _Atomic int stop;

static void *replace(void *argument)
{
	struct block *own = argument;
	struct random random = random_seed((uint64_t)(own - slots));
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };

	/* Relaxed: nothing but the end depends on it. */
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (unsigned i = 0; i < 1000; i++)
			block_replace(&own[random_between(&random, 0, CHANGED - 1)],
				      random_between(&random, 16, 1000));
		nanosleep(&pause, NULL);
	}
	return NULL;
}

_Noreturn static void child(unsigned index)
{
	struct random random = random_seed(index);
	struct block blocks[CHILD_BLOCKS];

	/* The threads' own slots may have been half replaced when the fork came. */
	for (size_t i = 2 * CHANGED; i < SLOTS; i += 16)
		block_check(&slots[i]);
	for (size_t i = 0; i < CHILD_BLOCKS; i++)
		blocks[i] = block_new(random_between(&random, 16, 1000));
	for (size_t i = 0; i < CHILD_BLOCKS; i++)
		block_free(&blocks[i]);
	block_free(&slots[SLOTS - 1 - index % CHANGED]);
	_exit(0);
}

static void await_one(void)
{
	int status;

	if (wait(&status) < 0 || status)
		fail("a child failed");
}

int main(int argc, char **argv)
{
	unsigned nr_children = argument_or(argc, argv, 1, 120);
	struct random random = random_seed(1);
	pthread_t threads[2];

	for (size_t i = 0; i < SLOTS; i++)
		slots[i] = block_new(random_between(&random, 16, 1000));
	for (size_t i = 0; i < 2; i++)
		threads[i] = thread_start(replace, &slots[i * CHANGED]);
	for (unsigned i = 0; i < nr_children; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("cannot fork");
		if (pid == 0)
			child(i);
		if (i >= ALIVE)
			await_one();
	}
	for (unsigned i = 0; i < ALIVE && i < nr_children; i++)
		await_one();
	atomic_store_explicit(&stop, 1, memory_order_relaxed);
	for (size_t i = 0; i < 2; i++)
		thread_join(threads[i]);
	for (size_t i = 0; i < SLOTS; i++)
		block_free(&slots[i]);
	return work_done();
}
