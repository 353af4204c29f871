/*
 * shbench [THREADS]: batches of mixed sizes, freed forwards, backwards and late.
 *
 * After what MicroQuill says of its SmartHeap tests: sh6bench (one thread: some blocks are
 * freed last in, first out, others in the order in which they came) and sh8bench (several
 * threads, and some blocks are freed by another thread). With one thread this is like the
 * former, with more like the latter.
 *
 * A batch has blocks of 1 to 1,000 bytes, the smaller the more. Of each batch a third is
 * freed backwards at once and a third forwards; the rest goes into a tray, whose former
 * contents are freed: those of the thread itself, or with several threads of the next one.
 *
 * Stresses: the order of free lists, locality when it is unlike that of allocation, slabs
 * kept alive by the late third. The work is shared out evenly over any number of threads.
 */
#include "workloads/support.h"

#include <stdatomic.h>

enum {
	SIZES = 40,
	BATCH_LEN = 900, /* divisible by 3 */
	BATCHES = 30000, /* of all threads together */
	THREADS_MAX = 256,
};

struct tray {
	struct block blocks[BATCH_LEN / 3];
};

/* The tray that waits at each thread's place; whoever swaps it owns what comes out. */
static _Atomic(struct tray *) places[THREADS_MAX];
static unsigned nr_threads;

struct worker {
	unsigned index;
	struct tray *tray; /* in hand */
};

/* Size class i is about three times as frequent as one three times as large. */
static size_t batch_size(struct random *random)
{
	size_t draw = random_between(random, 1, SIZES);
	size_t at = draw * draw * draw;

	return 1 + at * 999 / (SIZES * SIZES * SIZES);
}

static void tray_empty(struct tray *tray)
{
	for (size_t i = 0; i < BATCH_LEN / 3; i++)
		block_free(&tray->blocks[i]);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct random random = random_seed(worker->index);
	struct block batch[BATCH_LEN];
	unsigned place = (worker->index + 1) % nr_threads;

	for (unsigned i = 0; i < BATCHES / nr_threads; i++) {
		for (size_t j = 0; j < BATCH_LEN; j++)
			batch[j] = block_new(1 + batch_size(&random));
		for (size_t j = BATCH_LEN / 3; j-- > 0;)
			block_free(&batch[3 * j]);
		for (size_t j = 0; j < BATCH_LEN / 3; j++)
			block_free(&batch[3 * j + 1]);
		for (size_t j = 0; j < BATCH_LEN / 3; j++)
			worker->tray->blocks[j] = batch[3 * j + 2];
		/* Acquire and release: the blocks in the trays go with them. */
		worker->tray = atomic_exchange_explicit(&places[place], worker->tray,
							memory_order_acq_rel);
		tray_empty(worker->tray);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	static struct tray trays[2 * THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	nr_threads = argument_or(argc, argv, 1, 1);
	if (nr_threads > THREADS_MAX)
		fail("too many threads");
	for (unsigned i = 0; i < nr_threads; i++) {
		/* Relaxed: the threads that look at it start later. */
		atomic_store_explicit(&places[i], &trays[2 * i], memory_order_relaxed);
		workers[i] = (struct worker){ i, &trays[2 * i + 1] };
	}
	for (unsigned i = 0; i < nr_threads; i++)
		threads[i] = thread_start(work, &workers[i]);
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < 2 * nr_threads; i++)
		tray_empty(&trays[i]);
	return work_done();
}
