/* A block of a span that was never handed out. */
#include "tests/victims/victim.h"

int main(void)
{
	/* A later granule of the pageblock this one is in, or of its neighbour. */
	char *p = malloc(100000);
	char *q = p + (40 << 20);

	expect_foreign("free", q);
	free(hidden(q));
	return unnoticed();
}
