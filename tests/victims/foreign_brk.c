/* A block of an allocator that uses sbrk. */
#include "tests/victims/victim.h"

int main(void)
{
	char *p = sbrk(65536);

	expect_foreign("free", p + 16);
	free(hidden(p + 16));
	return unnoticed();
}
