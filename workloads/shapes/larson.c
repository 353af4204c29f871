/*
 * larson [THREADS [GENERATIONS]]: a server whose threads bleed memory into each other.
 *
 * After Larson and Krishnan, "Memory Allocation for Long-Running Server Applications" (ISMM
 * 1998). Each chain owns 1,000 blocks of 8 to 1,000 bytes and replaces them at random; after
 * a while its thread ends and a new one takes over the blocks, so that most blocks are freed
 * by another thread than the one that allocated them, and that one is often gone.
 *
 * Stresses: frees of remote blocks, adoption of what a finished thread leaves behind, caches
 * of threads that end. The work is shared out evenly over any number of chains.
 */
#include "workloads/support.h"

#include <semaphore.h>

enum {
	SLOTS = 1000,
	REPLACEMENTS = 30000000,
};

struct chain {
	struct block blocks[SLOTS];
	struct random random;
	unsigned generations_left;
	unsigned replacements; /* of one generation */
	sem_t ended;	       /* posted by the last generation */
};

static void start_generation(struct chain *chain);

static void *generation(void *argument)
{
	struct chain *chain = argument;

	for (unsigned i = 0; i < chain->replacements; i++) {
		size_t slot = random_between(&chain->random, 0, SLOTS - 1);

		block_replace(&chain->blocks[slot], random_between(&chain->random, 8, 1000));
	}
	if (--chain->generations_left)
		start_generation(chain);
	else
		sem_post(&chain->ended);
	return NULL;
}

static void start_generation(struct chain *chain)
{
	if (pthread_detach(thread_start(generation, chain)))
		fail("cannot detach a thread");
}

int main(int argc, char **argv)
{
	unsigned nr_chains = argument_or(argc, argv, 1, 2);
	unsigned nr_generations = argument_or(argc, argv, 2, 20);
	struct chain *chains = calloc(nr_chains, sizeof(*chains));

	if (!chains)
		fail("out of memory");
	for (unsigned i = 0; i < nr_chains; i++) {
		chains[i].random = random_seed(i);
		sem_init(&chains[i].ended, 0, 0);
		chains[i].generations_left = nr_generations;
		chains[i].replacements = REPLACEMENTS / nr_chains / nr_generations;
		/* The first generation is this thread's: it allocates what the others free. */
		for (size_t slot = 0; slot < SLOTS; slot++)
			chains[i].blocks[slot] =
			    block_new(random_between(&chains[i].random, 8, 1000));
	}
	for (unsigned i = 0; i < nr_chains; i++)
		start_generation(&chains[i]);
	for (unsigned i = 0; i < nr_chains; i++) {
		while (sem_wait(&chains[i].ended))
			continue;
		for (size_t slot = 0; slot < SLOTS; slot++)
			block_free(&chains[i].blocks[slot]);
	}
	free(chains);
	return work_done();
}
