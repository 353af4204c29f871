/* A wild pointer, freed by a thread that never allocated. */
#include "tests/victims/victim.h"

static char here[64];

static void *frees(void *p)
{
	free(p);
	return NULL;
}

int main(void)
{
	pthread_t t;

	expect_foreign("free", here);
	pthread_create(&t, NULL, frees, hidden(here));
	pthread_join(t, NULL);
	return unnoticed();
}
