/*
 * large [REPLACEMENTS]: one thread, blocks of 5 to 25 MiB, every page of them written.
 *
 * Eight slots are replaced at random, as a program that loads pictures or tensors would. One
 * byte of each 4 KiB is written: less than such a program does, so what remains is mostly
 * the allocator's choice to keep memory or to give it back, and of huge or small pages.
 *
 * Stresses: mmap and munmap, page faults, and the fit of sizes that never repeat.
 */
#include "workloads/support.h"

enum {
	SLOTS = 8,
	PAGE_BYTES = 4096,
	MIB = 1 << 20,
};

int main(int argc, char **argv)
{
	unsigned nr_replacements = argument_or(argc, argv, 1, 250);
	struct block blocks[SLOTS] = {{NULL, 0}};
	struct random random = random_seed(1);

	for (unsigned i = 0; i < nr_replacements; i++) {
		struct block *block = &blocks[random_between(&random, 0, SLOTS - 1)];

		block_replace(block, random_between(&random, 5 * MIB, 25 * MIB));
		for (size_t at = PAGE_BYTES; at < block->size_bytes - 1; at += PAGE_BYTES)
			block->data[at] = 1;
	}
	for (size_t slot = 0; slot < SLOTS; slot++)
		block_free(&blocks[slot]);
	return work_done();
}
