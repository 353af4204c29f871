/*
 * false_sharing scratch|thrash [THREADS]: do threads get blocks in one cache line?
 *
 * After cache-scratch and cache-thrash of Berger, McKinley, Blumofe and Wilson, "Hoard: A
 * Scalable Memory Allocator for Multithreaded Applications" (ASPLOS 2000).
 *
 *   thrash   each thread allocates a block of 8 bytes, writes to it many times and frees it,
 *            over and over: an allocator that hands out neighbours to different threads
 *            makes them share a line (active false sharing)
 *   scratch  the same, but first one thread allocates a block for each of the others, which
 *            free it: an allocator that gives it back to who freed it hands out a line that
 *            is others' too (passive false sharing)
 *
 * Stresses: where blocks of different threads lie; next to nothing else. The work is shared
 * out evenly over any number of threads.
 */
#include "workloads/support.h"

enum {
	BLOCK_BYTES = 8,
	BLOCKS = 60000, /* of all threads together */
	WRITES = 4000,  /* to each block */
};

struct share {
	void *gift;
	unsigned nr_blocks;
};

static void *scratch(void *argument)
{
	struct share *share = argument;

	free(share->gift);
	for (unsigned i = 0; i < share->nr_blocks; i++) {
		volatile uint64_t *block = malloc(BLOCK_BYTES);

		if (!block)
			fail("out of memory");
		*block = i;
		for (unsigned j = 0; j < WRITES; j++)
			(*block)++;
		if (*block != (uint64_t)i + WRITES)
			fail("a block in use was changed");
		free((void *)(uintptr_t)block);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int passive = argc > 1 && !strcmp(argv[1], "scratch");
	unsigned nr_threads = argument_or(argc, argv, 2, 2);
	struct share *shares = calloc(nr_threads, sizeof(*shares));
	pthread_t *threads = calloc(nr_threads, sizeof(*threads));

	if (!shares || !threads)
		fail("out of memory");
	if (argc < 2 || (!passive && strcmp(argv[1], "thrash") != 0))
		fail("usage: false_sharing scratch|thrash [THREADS]");
	for (unsigned i = 0; i < nr_threads; i++) {
		shares[i].nr_blocks = BLOCKS / nr_threads;
		shares[i].gift = passive ? malloc(BLOCK_BYTES) : NULL;
	}
	for (unsigned i = 0; i < nr_threads; i++)
		threads[i] = thread_start(scratch, &shares[i]);
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	free(threads);
	free(shares);
	return work_done();
}
