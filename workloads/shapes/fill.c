/*
 * fill [MIB]: one thread fills a gigabyte with small blocks and ends.
 *
 * Blocks of 17 to 512 bytes are allocated without a free in between, as by a cache or an
 * index that is loaded at start. Every block is written in full and points to the one before
 * it, which is looked at once more when its successor is there.
 *
 * Stresses: page faults, thus how early a heap that is large and growing takes huge pages,
 * the path that carves new slabs, and the bytes lost to each block.
 */
#include "workloads/support.h"

enum {
	FILL = 0x5a,
};

struct link {
	struct link *before;
	size_t size_bytes;
	unsigned char fill[];
};

int main(int argc, char **argv)
{
	size_t left_bytes = (size_t)argument_or(argc, argv, 1, 1024) << 20;
	struct random random = random_seed(1);
	struct link *last = NULL;
	size_t last_bytes = 0;

	for (size_t size_bytes; left_bytes >= 512; left_bytes -= size_bytes) {
		struct link *link;

		size_bytes = random_between(&random, sizeof(*link) + 1, 512);
		link = malloc(size_bytes);
		if (!link)
			fail("out of memory");
		link->before = last;
		link->size_bytes = size_bytes;
		memset(link->fill, FILL, size_bytes - sizeof(*link));
		if (last && (last->size_bytes != last_bytes ||
			     ((unsigned char *)last)[last_bytes - 1] != FILL))
			fail("a block in use was changed");
		last_bytes = size_bytes;
		last = link;
	}
	return work_done();
}
