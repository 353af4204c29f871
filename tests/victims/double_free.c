/* Freed twice in a row. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = malloc(64);

	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(hidden(p));
	return unnoticed();
}
