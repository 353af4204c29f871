/* malloc_usable_size of a pointer into a block. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(64);

	expect_interior("malloc_usable_size", p + 16, malloc_usable_size(p), p);
	return malloc_usable_size(hidden(p + 16)) == 0 ? unnoticed() : unnoticed();
}
