/* A pointer to a static variable. */
#include "tests/victims/victim.h"

static char here[64];

int main(void)
{
	expect_foreign("free", here);
	free(hidden(here));
	return unnoticed();
}
