/* An address that no program can have. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = hidden((void *)(uintptr_t)0x00007ffffffffff0);

	expect_foreign("free", p);
	free(p);
	return unnoticed();
}
