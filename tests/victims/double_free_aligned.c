/* A block of aligned_alloc, freed twice. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = aligned_alloc(4096, 100);

	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(hidden(p));
	return unnoticed();
}
