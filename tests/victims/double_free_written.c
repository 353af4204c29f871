/* Freed again after it was overwritten, as by a program that still uses it. */
#include "tests/victims/victim.h"

int main(void)
{
	static void *others[5000];
	char *p = malloc(64);

	expect_double_free(p, malloc_usable_size(p));
	for (int i = 0; i < 5000; i++)
		others[i] = malloc(64);
	/* Long enough ago that the block is on no list of a thread. */
	free(p);
	for (int i = 0; i < 5000; i++)
		free(others[i]);
	malloc_trim(0);
	p = hidden(p);
	memset(p + 8, 0x55, 40);
	free(p);
	return unnoticed();
}
