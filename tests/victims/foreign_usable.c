/* malloc_usable_size of a static variable. */
#include "tests/victims/victim.h"

static char here[64];

int main(void)
{
	expect_foreign("malloc_usable_size", here);
	return malloc_usable_size(hidden(here)) == 0 ? unnoticed() : unnoticed();
}
