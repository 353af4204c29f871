/* Runs under lib_wrap.c and the library behind it. */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dlfcn.h>
#include <pthread.h>

static void *thread(void *arg)
{
	for (int i = 0; i < 1000; i++)
		free(malloc((size_t)i));
	return arg;
}

int main(void)
{
	unsigned long *calls = dlsym(RTLD_DEFAULT, "lib_wrap_calls");
	pthread_t t;

	expect_library();
	EXPECT(calls != NULL);

	unsigned long before = *calls;

	EXPECT(pthread_create(&t, NULL, thread, NULL) == 0);
	pthread_join(t, NULL);
	EXPECT(*calls >= before + 1000);
	return 0;
}
