/* A pointer 8 bytes into a small block. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(64);

	expect_interior("free", p + 8, malloc_usable_size(p), p);
	free(hidden(p + 8));
	return unnoticed();
}
