/*
 * handoff [BATCHES]: one thread allocates, another frees, and only one of them ever runs.
 *
 * A batch of 1,000 blocks of 16 to 1,039 bytes is allocated by one thread and freed by the
 * other while the first one waits; three batches in four go that way, the fourth is freed
 * by the thread that allocated it. The strict turns make it repeatable to the instruction,
 * which contended benchmarks of remote frees are not.
 *
 * Stresses: frees of other threads' blocks, and their way back to who allocates.
 */
#include "workloads/support.h"

#include <semaphore.h>

enum {
	BATCH = 1000,
};

static struct block blocks[BATCH];
static sem_t filled, emptied;
static unsigned nr_handed;

static void *consume(void *unused)
{
	(void)unused;
	for (unsigned i = 0; i < nr_handed; i++) {
		while (sem_wait(&filled))
			;
		for (size_t j = 0; j < BATCH; j++)
			block_free(&blocks[j]);
		sem_post(&emptied);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned nr_batches = argument_or(argc, argv, 1, 10000);
	struct random random = random_seed(1);
	pthread_t consumer;

	if (sem_init(&filled, 0, 0) || sem_init(&emptied, 0, 0))
		fail("no semaphores");
	nr_handed = nr_batches - nr_batches / 4;
	consumer = thread_start(consume, NULL);
	for (unsigned i = 1; i <= nr_batches; i++) {
		for (size_t j = 0; j < BATCH; j++)
			blocks[j] = block_new(random_between(&random, 16, 1039));
		if (i % 4 == 0) {
			for (size_t j = 0; j < BATCH; j++)
				block_free(&blocks[j]);
			continue;
		}
		sem_post(&filled);
		while (sem_wait(&emptied))
			;
	}
	thread_join(consumer);
	return 0;
}
