/*
 * glibc_bench simple|thread [THREADS]: the two benchmarks that glibc keeps of its own malloc.
 *
 * After the descriptions of bench-malloc-simple and bench-malloc-thread in the GNU C
 * library's benchtests:
 *
 *   simple  25 to 1,600 blocks of one size are allocated, then freed in the same order; each
 *           of several sizes from 8 bytes to 4 KiB; one thread
 *   thread  each thread replaces blocks at random in an array of its own; sizes are from 4
 *           bytes to 32 KiB, a size being the less likely the larger it is
 *
 * Stresses: the fast paths (simple: bursts of one size; thread: sizes mixed). The work is
 * shared out evenly over any number of threads.
 */
#include "workloads/support.h"

enum {
	BLOCKS_MAX = 1600,
	BLOCKS_EACH = 400000, /* of each size and number of blocks */
	SLOTS = 1024,
	STEPS = 12000000, /* of all threads together */
	THREADS_MAX = 256,
};

static const size_t sizes[] = { 8, 16, 128, 1024, 4096 };
static const size_t counts[] = { 25, 100, 400, BLOCKS_MAX };

static void simple(void)
{
	static struct block blocks[BLOCKS_MAX];

	for (size_t size = 0; size < sizeof(sizes) / sizeof(sizes[0]); size++)
		for (size_t count = 0; count < sizeof(counts) / sizeof(counts[0]); count++)
			for (size_t done = 0; done < BLOCKS_EACH; done += counts[count]) {
				for (size_t i = 0; i < counts[count]; i++)
					blocks[i] = block_new(sizes[size]);
				for (size_t i = 0; i < counts[count]; i++)
					block_free(&blocks[i]);
			}
}

struct worker {
	unsigned index;
	unsigned nr_steps;
};

static void *replace(void *argument)
{
	const struct worker *worker = argument;
	struct random random = random_seed(worker->index);
	struct block *slots = calloc(SLOTS, sizeof(*slots));

	if (!slots)
		fail("out of memory");
	for (unsigned i = 0; i < worker->nr_steps; i++) {
		/* One over an even draw: the likelihood falls with the square of the size. */
		size_t size = 4 * (32768 / 4) / random_between(&random, 1, 32768 / 4);

		block_replace(&slots[random_between(&random, 0, SLOTS - 1)], size);
	}
	for (size_t i = 0; i < SLOTS; i++)
		block_free(&slots[i]);
	free(slots);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned nr_threads = argument_or(argc, argv, 2, 2);
	struct worker workers[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	if (nr_threads > THREADS_MAX)
		fail("too many threads");
	if (argc > 1 && !strcmp(argv[1], "simple")) {
		simple();
		return work_done();
	}
	if (argc < 2 || strcmp(argv[1], "thread") != 0)
		fail("usage: glibc_bench simple|thread [THREADS]");
	for (unsigned i = 0; i < nr_threads; i++) {
		workers[i] = (struct worker){ i, STEPS / nr_threads };
		threads[i] = thread_start(replace, &workers[i]);
	}
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	return work_done();
}
