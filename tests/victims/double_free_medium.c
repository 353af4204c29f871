/* A block of several granules, freed twice. */
#include "tests/victims/victim.h"

int main(void)
{
	void *keep = malloc(20000), *p = malloc(20000);

	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(hidden(p));
	free(keep);
	return unnoticed();
}
