/*
 * zeroed [BLOCKS]: calloc of large blocks, of which a part is used.
 *
 * As of hash tables and bitmaps that are allocated large and used in part: blocks of 64 KiB
 * to 16 MiB, every power of two as likely as the next, each with one page in four written;
 * 16 live at a time. That the memory is zero is looked at where the block before it at the
 * same place was written, and elsewhere.
 *
 * Stresses: whether memory known to be zero is cleared once more, page faults, and what is
 * kept resident of a block once freed.
 */
#include "workloads/support.h"

enum {
	SLOTS = 16,
	PAGE_BYTES = 4096,
};

int main(int argc, char **argv)
{
	unsigned nr_blocks = argument_or(argc, argv, 1, 1500);
	unsigned char *blocks[SLOTS] = { NULL };
	struct random random = random_seed(1);

	for (unsigned i = 0; i < nr_blocks; i++) {
		size_t slot = random_between(&random, 0, SLOTS - 1);
		size_t size = random_log_uniform(&random, 16, 24);
		unsigned char *block;

		free(blocks[slot]);
		block = blocks[slot] = calloc(size, 1);
		if (!block)
			fail("out of memory");
		for (size_t at = 0; at + PAGE_BYTES <= size; at += 4 * PAGE_BYTES) {
			if (block[at] || block[at + PAGE_BYTES - 1])
				fail("calloc gave memory that is not zero");
			block[at] = 1;
		}
	}
	for (size_t slot = 0; slot < SLOTS; slot++)
		free(blocks[slot]);
	return work_done();
}
