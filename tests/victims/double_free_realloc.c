/* Freed after realloc moved it. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = malloc(64), *q;

	expect_double_free(p, malloc_usable_size(p));
	q = realloc(p, 100000);
	free(hidden(p));
	free(q);
	return unnoticed();
}
