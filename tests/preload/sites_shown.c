/*
 * For the view of sites: grows by 96 MiB, every tenth block from a place in the code of its
 * own, says so, and waits until its input ends.
 */
#include "tests/preload/test.h"

#define NR_BLOCKS ((size_t)1 << 20)
#define BLOCK_BYTES 96

void *ask_for_the_tenth(size_t size);
void *ask_for_others(size_t size);

__attribute__((noinline)) void *ask_for_the_tenth(size_t size)
{
	void *p = malloc(size);

	HIDE(p);
	return p;
}

__attribute__((noinline)) void *ask_for_others(size_t size)
{
	void *p = malloc(size);

	HIDE(p);
	return p;
}

int main(void)
{
	char c;

	expect_library();
	for (size_t i = 0; i < NR_BLOCKS; i++) {
		char *p = i % 10 == 0 ? ask_for_the_tenth(BLOCK_BYTES)
				      : ask_for_others(BLOCK_BYTES);

		EXPECT(p != NULL);
		*p = 1;
	}
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6);
	EXPECT(read(STDIN_FILENO, &c, 1) == 0);
	return 0;
}
