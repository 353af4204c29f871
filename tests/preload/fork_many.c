/*
 * Several threads fork at once while others allocate; each child allocates, frees what
 * the parent's threads had, forks again, and makes a thread.  A child that hangs is
 * stopped by its alarm and seen by its parent.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { NR_FORKING = 4, NR_CHURNING = 4, NR_SHARED = 64, SECONDS_MOST = 20 };

static atomic_bool stop;
static _Atomic(void *) shared[NR_SHARED];

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 8;
}

static void some_work(unsigned seed, int nr)
{
	for (int i = 0; i < nr; i++) {
		size_t size = next_random(&seed) % 16 == 0 ? next_random(&seed) % 300000
							   : next_random(&seed) % 2000;
		char *p = malloc(size + 1);

		p[0] = p[size] = 1;
		free(atomic_exchange(&shared[next_random(&seed) % NR_SHARED], p));
	}
}

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (!stop)
		some_work(seed++, 100);
	return NULL;
}

static void *thread_in_child(void *arg)
{
	some_work(7, 200);
	return arg;
}

#pragma GCC diagnostic ignored "-Winfinite-recursion" /* generations end it */
static void child(unsigned seed, unsigned generations)
{
	pthread_t t;

	alarm(SECONDS_MOST);
	some_work(seed, 300);
	EXPECT(pthread_create(&t, NULL, thread_in_child, NULL) == 0);
	pthread_join(t, NULL);
	pb_check();
	if (generations > 1) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			child(seed + 1, generations - 1);
		EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	}
	_exit(0);
}

static void *forks(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < 40; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			child(seed, i % 4 == 0 ? 2 : 1);
		some_work(seed++, 100);
		EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
		EXPECT(status == 0);
	}
	return NULL;
}

int main(void)
{
	pthread_t forking[NR_FORKING], churning[NR_CHURNING];

	expect_library();
	for (uintptr_t i = 0; i < NR_CHURNING; i++)
		EXPECT(pthread_create(&churning[i], NULL, churn, (void *)i) == 0);
	for (uintptr_t i = 0; i < NR_FORKING; i++)
		EXPECT(pthread_create(&forking[i], NULL, forks, (void *)(i + 100)) == 0);
	for (int i = 0; i < NR_FORKING; i++)
		pthread_join(forking[i], NULL);
	stop = true;
	for (int i = 0; i < NR_CHURNING; i++)
		pthread_join(churning[i], NULL);
	pb_check();
	return 0;
}
