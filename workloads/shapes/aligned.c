/*
 * aligned [REPLACEMENTS]: blocks with alignments of 32 bytes to 2 MiB.
 *
 * As of programs that want vector registers, cache lines, direct input and output, or huge
 * pages: posix_memalign() and aligned_alloc() in turn, alignments of 32, 64, 128, 256, 512
 * and 4,096 bytes often, 64 KiB and 2 MiB now and then, sizes from 1 to 64 times a small
 * alignment; 2,000 slots are replaced at random. Every address is checked.
 *
 * Stresses: the path beside the fast one, and the memory lost to alignment.
 */
#include "workloads/support.h"

enum {
	SLOTS = 2000,
	SMALL_SHIFTS = 5,
};

static struct block aligned_new(struct random *random, int posix)
{
	static const unsigned shifts[] = { 5, 6, 7, 8, 9, 12 };
	unsigned dice = random_next(random) % 1000;
	size_t alignment = (size_t)1 << shifts[random_next(random) % 6];
	size_t size = alignment * random_log_uniform(random, 0, 6);
	void *data = NULL;

	if (dice < 8)
		alignment = 64 << 10;
	if (dice < 1)
		alignment = 2 << 20;
	if (posix) {
		if (posix_memalign(&data, alignment, size))
			data = NULL;
	} else {
		data = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
	}
	if ((uintptr_t)data % alignment)
		fail("not aligned");
	return block_adopt(data, size);
}

int main(int argc, char **argv)
{
	static struct block blocks[SLOTS];
	unsigned nr_replacements = argument_or(argc, argv, 1, 1500000);
	struct random random = random_seed(1);

	for (unsigned i = 0; i < nr_replacements; i++) {
		struct block *block = &blocks[random_between(&random, 0, SLOTS - 1)];

		block_free(block);
		*block = aligned_new(&random, i % 2);
	}
	for (size_t i = 0; i < SLOTS; i++)
		block_free(&blocks[i]);
	return work_done();
}
