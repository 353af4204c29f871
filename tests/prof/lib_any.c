/* A library to be opened and closed: its constructor and its destructor allocate. */
#include <stdlib.h>

static void *volatile kept;

__attribute__((constructor)) static void begin(void)
{
	kept = malloc(1000);
}

__attribute__((destructor)) static void end(void)
{
	free(kept);
}
