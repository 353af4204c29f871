/* Freed twice by a thread that did not allocate it, which then ends. */
#include "tests/victims/victim.h"

static void *frees(void *p)
{
	free(p);
	free(hidden(p));
	return NULL;
}

int main(void)
{
	pthread_t t;
	void *p = malloc(64);

	expect_double_free(p, malloc_usable_size(p));
	pthread_create(&t, NULL, frees, p);
	pthread_join(t, NULL);
	malloc_trim(0);
	return unnoticed();
}
