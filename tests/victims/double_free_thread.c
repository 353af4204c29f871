/* Freed by its thread, then by another one. */
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
	free(p);
	pthread_create(&t, NULL, frees, hidden(p));
	pthread_join(t, NULL);
	return unnoticed();
}
