/*
 * Linked -z initfirst and loaded after the allocator, so that its constructor comes
 * before everybody's, libc's included, and the first allocation with it.
 */
#include <stdlib.h>

void *lib_first_block;

__attribute__((constructor)) static void construct(void)
{
	lib_first_block = malloc(100);
	free(malloc(100000));
}
