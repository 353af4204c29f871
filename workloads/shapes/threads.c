/*
 * threads [THREADS]: short threads that leave live blocks to others.
 *
 * Two threads live at a time. Each frees what was left in its tray by one before it, does a
 * little work of its own, leaves 64 blocks of 16 to 2,047 bytes in the tray and ends; every
 * fourth tray waits for over 100 rounds, so that memory of many finished threads is in use.
 *
 * Stresses: what a thread's first and last allocation cost, and whether the memory of
 * finished threads is found again by those that come after.
 */
#include "workloads/support.h"

enum {
	LANES = 2,
	TRAYS = 32, /* of each lane */
	BLOCKS = 64,
	OWN_BLOCKS = 100,
};

struct tray {
	struct block blocks[BLOCKS];
	struct random random;
};

static struct tray trays[LANES][TRAYS];

static void *visit(void *argument)
{
	struct tray *tray = argument;
	struct block own[OWN_BLOCKS];

	for (size_t i = 0; i < OWN_BLOCKS; i++)
		own[i] = block_new(random_log_uniform(&tray->random, 4, 10));
	for (size_t i = 0; i < BLOCKS; i++)
		block_replace(&tray->blocks[i], random_log_uniform(&tray->random, 4, 11));
	for (size_t i = 0; i < OWN_BLOCKS; i++)
		block_free(&own[i]);
	return NULL;
}

/* Three short-lived trays in turn, and then one of the many whose blocks live long. */
static size_t tray_of_round(unsigned round)
{
	return round % 4 ? round % 4 - 1 : 3 + round / 4 % (TRAYS - 3);
}

int main(int argc, char **argv)
{
	unsigned nr_rounds = argument_or(argc, argv, 1, 12000) / LANES;
	pthread_t threads[LANES];

	for (size_t lane = 0; lane < LANES; lane++)
		for (size_t i = 0; i < TRAYS; i++)
			trays[lane][i].random = random_seed(lane * TRAYS + i);
	for (unsigned round = 0; round < nr_rounds; round++)
		for (size_t lane = 0; lane < LANES; lane++) {
			if (round)
				thread_join(threads[lane]);
			threads[lane] = thread_start(visit, &trays[lane][tray_of_round(round)]);
		}
	for (size_t lane = 0; lane < LANES; lane++) {
		thread_join(threads[lane]);
		for (size_t i = 0; i < TRAYS; i++)
			for (size_t j = 0; j < BLOCKS; j++)
				block_free(&trays[lane][i].blocks[j]);
	}
	return work_done();
}
