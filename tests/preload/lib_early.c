/* A library whose constructor and destructor allocate. */
#include <stdlib.h>

static void *block, *last;

void *lib_early_block(void);

__attribute__((constructor)) static void construct(void)
{
	block = malloc(77);
	last = malloc(1 << 20);
}

__attribute__((destructor)) static void destruct(void)
{
	free(last);
	free(malloc(123));
}

void *lib_early_block(void)
{
	return block;
}
