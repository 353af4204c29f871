/* A pointer to the stack. */
#include "tests/victims/victim.h"

int main(void)
{
	char here[64];

	memset(here, 0, sizeof(here));
	expect_foreign("free", here);
	free(hidden(here));
	return unnoticed();
}
