/* A number that never was a pointer. */
#include "tests/victims/victim.h"

int main(void)
{
	void *p = hidden((void *)(uintptr_t)0x1234560);

	expect_foreign("free", p);
	free(p);
	return unnoticed();
}
