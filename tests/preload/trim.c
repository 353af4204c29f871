/* malloc_trim gives memory back and says so; resident memory is what tells. */
#include "tests/preload/test.h"

#include <malloc.h>

enum { NR = 40000, SIZE = 1500 };

static void *blocks[NR];

int main(void)
{
	expect_library();
	for (int i = 0; i < NR; i++) {
		blocks[i] = malloc(SIZE);
		memset(blocks[i], 1, SIZE);
	}
	size_t full = resident_bytes();

	for (int i = 0; i < NR; i++)
		free(blocks[i]);
	EXPECT(malloc_trim(0) == 1);
	EXPECT(malloc_trim(1 << 20) == 0);

	size_t trimmed = resident_bytes();

	printf("resident %zu KiB, after malloc_trim %zu KiB\n", full >> 10, trimmed >> 10);
	fflush(stdout);
	EXPECT(full - trimmed > (size_t)NR * SIZE * 9 / 10);

	/* The same by the library's own name, and the counter with it. */
	struct pb_stats before = { .size = sizeof(before) }, after = before;
	void *p = malloc(50 << 20);

	memset(p, 1, 50 << 20);
	free(p);
	EXPECT(pb_get_stats(&before) == 0);
	EXPECT(pb_trim() >= 49 << 20);
	EXPECT(pb_get_stats(&after) == 0);
	EXPECT(after.purged_bytes >= before.purged_bytes + (49 << 20));
	EXPECT(pb_trim() == 0);
	return 0;
}
