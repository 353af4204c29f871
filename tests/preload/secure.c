/*
 * Linked to the library and set-user-ID: PAGEBLOCK_CONF must mean nothing.  Exits with 0
 * when the process is privileged in this way; the runner looks at standard error.
 */
#include "tests/preload/test.h"

#include <sys/auxv.h>

int main(void)
{
	expect_library();
	free(malloc(10));
	if (getauxval(AT_SECURE) == 0)
		skip("no set-user-ID programs here");
	return 0;
}
