/* realloc of a freed page run. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = malloc(1 << 20);

	EXPECT_LINE("realloc of %p, which was freed (a block of %zu bytes)", p,
		    malloc_usable_size(p));
	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(realloc(hidden(p), 2 << 20));
	return unnoticed();
}
