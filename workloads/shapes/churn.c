/*
 * churn [REPLACEMENTS]: one thread, blocks of mixed sizes that live for mixed times.
 *
 * 20,000 blocks of 16 to 8,191 bytes, every power of two as likely as the next, are replaced
 * at random. A slot's turn comes by the square of an even draw, so that some blocks are
 * replaced all the time and others hardly ever, as in programs.
 *
 * Stresses: the fast paths of many size classes at once, slabs that are never quite empty,
 * and the memory lost between them.
 */
#include "workloads/support.h"

enum {
	SLOTS = 20000,
};

static struct block blocks[SLOTS];

int main(int argc, char **argv)
{
	unsigned nr_replacements = argument_or(argc, argv, 1, 5000000);
	struct random random = random_seed(1);

	for (unsigned i = 0; i < nr_replacements; i++) {
		uint64_t draw = random_next(&random);
		size_t slot = (size_t)(((draw * draw >> 32) * SLOTS) >> 32);

		block_replace(&blocks[slot], random_log_uniform(&random, 4, 13));
	}
	for (size_t slot = 0; slot < SLOTS; slot++)
		block_free(&blocks[slot]);
	return work_done();
}
