/* Runs with and without the library, as pageblock.h shows it. */
#define PB_OPTIONAL
#include <pageblock.h>

#include <stdio.h>

int main(void)
{
	if (!pb_version) {
		puts("without");
		return 0;
	}
	printf("with %s %d\n", pb_version(), PAGEBLOCK_VERSION_NUMBER);
	printf("header %d.%d.%d\n", PAGEBLOCK_VERSION_MAJOR, PAGEBLOCK_VERSION_MINOR,
	       PAGEBLOCK_VERSION_PATCH);
	if (pb_check)
		pb_check();
	if (pb_trim)
		pb_trim();
	return 0;
}
