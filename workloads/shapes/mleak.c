/*
 * mleak [THREADS]: does memory of threads that ended stay lost?
 *
 * After the description of mleak in Leijen's mimalloc-bench: threads come and go one after
 * the other, and what they leave must be found again. Each allocates 600 blocks of 16 bytes
 * to 64 KiB, frees all but one in eight and ends; the others are freed by the thread after
 * the next. A thread's own blocks thus lie in memory that was somebody's before, or the
 * process grows without bound: its resident size is the result as much as its time.
 *
 * Checks itself that after the first tenth of the threads it does not grow by more than 1 GiB.
 */
#include "workloads/support.h"

enum {
	BLOCKS = 600,
	LEFT_EVERY = 8,
	GROWTH_MAX_KIB = 1 << 20,
};

struct worker {
	unsigned index;
	struct block left[BLOCKS / LEFT_EVERY];
};

static unsigned long resident_kib(void)
{
	unsigned long pages = 0;
	FILE *stream = fopen("/proc/self/statm", "re");

	if (!stream || fscanf(stream, "%*u %lu", &pages) != 1)
		fail("/proc/self/statm cannot be read");
	fclose(stream);
	return pages * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}

static void *visit(void *argument)
{
	struct worker *worker = argument;
	struct random random = random_seed(worker->index);
	struct block blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS / LEFT_EVERY; i++)
		block_free(&worker->left[i]);
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = block_new(random_log_uniform(&random, 4, 16));
	for (size_t i = 0; i < BLOCKS; i++)
		if (i % LEFT_EVERY == 0)
			worker->left[i / LEFT_EVERY] = blocks[i];
		else
			block_free(&blocks[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct worker workers[2];
	unsigned nr_threads = argument_or(argc, argv, 1, 2500);
	unsigned long early_kib = 0;

	for (unsigned i = 0; i < nr_threads; i++) {
		workers[i % 2].index = i;
		thread_join(thread_start(visit, &workers[i % 2]));
		if (i == nr_threads / 10)
			early_kib = resident_kib();
	}
	if (resident_kib() > early_kib + GROWTH_MAX_KIB)
		fail("memory of finished threads is not found again");
	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; j < BLOCKS / LEFT_EVERY; j++)
			block_free(&workers[i].left[j]);
	return work_done();
}
