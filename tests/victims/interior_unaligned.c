/* A pointer that is not aligned to anything. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(200);

	expect_interior("free", p + 1, malloc_usable_size(p), p);
	free(hidden(p + 1));
	return unnoticed();
}
