/* A pointer into a block of several granules. */
#include "tests/victims/victim.h"

int main(void)
{
	char *keep = malloc(20000), *p = malloc(20000);

	expect_interior("free", p + 4096, malloc_usable_size(p), p);
	free(hidden(p + 4096));
	free(keep);
	return unnoticed();
}
