/* Freed twice after the thread that allocated it is gone. */
#include "tests/victims/victim.h"

static void *allocates(void *arg)
{
	(void)arg;
	return malloc(64);
}

int main(void)
{
	pthread_t t;
	void *p;

	pthread_create(&t, NULL, allocates, NULL);
	pthread_join(t, &p);
	expect_double_free(p, malloc_usable_size(p));
	free(p);
	free(hidden(p));
	malloc_trim(0);
	return unnoticed();
}
