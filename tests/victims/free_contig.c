/* free() of what only pb_free_contig() takes. */
#define PB_OPTIONAL
#include "preload/pageblock.h"
#include "tests/victims/victim.h"

int main(void)
{
	void *p = pb_alloc_contig(PB_PAGEBLOCK_BYTES, 0, 0);

	expect_foreign("free", p);
	free(hidden(p));
	return unnoticed();
}
