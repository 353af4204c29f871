/*
 * alloc_test [THREADS]: slots picked by a Pareto distribution, and what is in them is used.
 *
 * After "Testing Memory Allocators: ptmalloc2 vs tcmalloc vs hoard vs jemalloc, While Trying
 * to Simulate Real-World Loads" (No Bugs Hare, OLogN Technologies, ithare.com, 2018): a slot
 * is picked by a Pareto distribution, so that lifetimes are of all lengths; if it is empty a
 * block is put there and filled, otherwise all of the block is read and it is freed. Sizes
 * are up to 1 KiB, half of all below 1/16 of that.
 *
 * Stresses: one thread's fast paths, and how close together the allocator puts what is used
 * together: most of the time goes into reading and writing the blocks.
 */
#include "workloads/support.h"

enum {
	SLOTS = 1 << 16,
	STEPS = 3000000, /* of all threads together */
	SIZE_MAX_SHIFT = 10,
	THREADS_MAX = 256,
};

struct worker {
	unsigned index;
	unsigned nr_steps;
};

/*
 * Four fifths of the picks fall on one fifth of the slots, within that again, and so on: the
 * rule by which Pareto's distribution is known, drawn by halves of slots.
 */
static size_t pareto_slot(struct random *random)
{
	size_t first = 0, len = SLOTS;

	for (unsigned draws = 0; len > 4; draws++) {
		if (random_next(random) % 5 == 0) {
			first += len / 5;
			return first + random_between(random, 0, len - len / 5 - 1);
		}
		len /= 5;
	}
	return first + random_between(random, 0, len - 1);
}

static unsigned char contents(const struct block *block)
{
	return (unsigned char)(block->size_bytes * 7 + 1);
}

static void fill(struct block *block)
{
	memset(block->data, contents(block), block->size_bytes);
}

static void verify(const struct block *block)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < block->size_bytes; i++)
		wrong |= block->data[i] ^ contents(block);
	if (wrong)
		fail("a block in use was changed");
}

static void *work(void *argument)
{
	const struct worker *worker = argument;
	struct random random = random_seed(worker->index);
	struct block *slots = calloc(SLOTS, sizeof(*slots));

	if (!slots)
		fail("out of memory");
	for (unsigned i = 0; i < worker->nr_steps; i++) {
		struct block *block = &slots[pareto_slot(&random)];

		if (block->data) {
			verify(block);
			free(block->data);
			block->data = NULL;
		} else {
			*block = block_new(random_log_uniform(&random, 3, SIZE_MAX_SHIFT));
			fill(block);
		}
	}
	for (size_t i = 0; i < SLOTS; i++)
		free(slots[i].data);
	free(slots);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned nr_threads = argument_or(argc, argv, 1, 1);
	struct worker workers[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	if (nr_threads > THREADS_MAX)
		fail("too many threads");
	for (unsigned i = 0; i < nr_threads; i++) {
		workers[i] = (struct worker){ i, STEPS / nr_threads };
		threads[i] = thread_start(work, &workers[i]);
	}
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	return work_done();
}
