/* The main thread ends by pthread_exit; others go on, and one of them ends the program. */
#include "tests/preload/test.h"

#include <pthread.h>

static pthread_t main_thread;
static void *from_main[100];

static void *thread(void *arg)
{
	EXPECT(pthread_join(main_thread, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		memset(from_main[i], 1, 100);
		free(from_main[i]);
	}
	for (int i = 0; i < 100; i++)
		from_main[i] = malloc(100);
	pb_check();
	exit(0);
	return arg;
}

int main(void)
{
	pthread_t t;

	expect_library();
	for (int i = 0; i < 100; i++)
		from_main[i] = malloc(100);
	main_thread = pthread_self();
	EXPECT(pthread_create(&t, NULL, thread, NULL) == 0);
	pthread_exit(NULL);
}
