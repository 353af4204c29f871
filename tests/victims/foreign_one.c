/* The smallest pointers that are not NULL. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = hidden((void *)(uintptr_t)0x10);

	expect_foreign("free", p);
	free(p);
	return unnoticed();
}
