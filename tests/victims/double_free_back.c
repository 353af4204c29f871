/* Freed by another thread, then by its own. */
#include "tests/victims/victim.h"

static void *frees(void *p)
{
	free(p);
	return NULL;
}

int main(void)
{
	pthread_t t;
	void *p = malloc(64);

	expect_double_free(p, malloc_usable_size(p));
	pthread_create(&t, NULL, frees, p);
	pthread_join(t, NULL);
	free(hidden(p));
	malloc_trim(0);
	return unnoticed();
}
