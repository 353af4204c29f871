/* realloc of a pointer into a block. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(64);

	expect_interior("realloc", p + 16, malloc_usable_size(p), p);
	free(realloc(hidden(p + 16), 1000));
	return unnoticed();
}
