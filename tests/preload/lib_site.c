/* A site that goes: the code that asks for memory is unloaded while its blocks live. */
#include <stdlib.h>

void *site_ask(size_t size);

void *site_ask(size_t size)
{
	void *volatile p = malloc(size);

	return p;
}
