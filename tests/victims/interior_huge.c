/* A pointer into the second pageblock of a run of several. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = malloc(9 << 20);

	expect_interior("free", p + (5 << 20), malloc_usable_size(p), p);
	free(hidden(p + (5 << 20)));
	return unnoticed();
}
