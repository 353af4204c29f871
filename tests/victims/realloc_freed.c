/* realloc of a freed block. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = malloc(64);

	EXPECT_LINE("realloc of %p, which was freed (a block of %zu bytes)", p,
		    malloc_usable_size(p));
	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(realloc(hidden(p), 1000));
	return unnoticed();
}
