/* A pointer to the second page of a page run. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(1 << 20);

	expect_interior("free", p + 4096, malloc_usable_size(p), p);
	free(hidden(p + 4096));
	return unnoticed();
}
