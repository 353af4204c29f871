/* The first word of a freed block is overwritten; noticed when the block is put away. */
#include "tests/victims/victim.h"

int main(void)
{
	static void *others[5000];
	void **p = malloc(64);

	for (int i = 0; i < 5000; i++)
		others[i] = malloc(64);
	EXPECT_LINE("a block was written to after it was freed: 0x414141414140, or the one listed before it");
	/* As many as may be cached: what is freed now is put away soon. */
	for (int i = 0; i < 4000; i++)
		free(others[i]);
	free(p);
	p = hidden(p);
	*p = (void *)(uintptr_t)0x414141414140;
	for (int i = 4000; i < 5000; i++)
		free(others[i]);
	return unnoticed();
}
