/* A pointer 16 bytes into a small block. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(64);

	expect_interior("free", p + 16, malloc_usable_size(p), p);
	free(hidden(p + 16));
	return unnoticed();
}
