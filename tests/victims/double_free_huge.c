/* A run of many pageblocks, freed twice, trimmed in between. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = malloc(20 << 20);

	expect_double_free(p, malloc_usable_size(p));
	free(p);
	malloc_trim(0);
	free(hidden(p));
	return unnoticed();
}
