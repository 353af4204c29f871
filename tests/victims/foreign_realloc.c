/* realloc of a pointer to the stack. */
#include "tests/victims/victim.h"

int main(void)
{
	char here[64];

	memset(here, 0, sizeof(here));
	expect_foreign("realloc", here);
	free(realloc(hidden(here), 1000));
	return unnoticed();
}
