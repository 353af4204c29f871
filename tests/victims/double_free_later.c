/* Freed again after thousands of other frees. */
#include "tests/victims/victim.h"

int main(void)
{
	static void *others[5000];
	void *p = malloc(64);

	expect_double_free(p, malloc_usable_size(p));
	for (int i = 0; i < 5000; i++)
		others[i] = malloc(64);
	free(p);
	for (int i = 0; i < 5000; i++)
		free(others[i]);
	free(hidden(p));
	return unnoticed();
}
