/* A vfork child allocates and frees in its parent's memory; posix_spawn and system go on. */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static volatile int stop;

static void *churn(void *arg)
{
	while (!stop)
		free(malloc(200));
	return arg;
}

static void *volatile from_child;

/* A function of its own: vfork returns twice. */
__attribute__((noinline)) static void once(size_t size)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		void *p = malloc(size);

		memset(p, 1, size);
		free(p);
		from_child = malloc(size);
		_exit(from_child == NULL);
	}
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	free(from_child);
}

int main(void)
{
	static const size_t sizes[] = { 10, 1000, 20000, 100000, 5 << 20 };
	pthread_t t;
	char *argv[] = { "true", NULL };
	pid_t pid;
	int status;

	expect_library();
	EXPECT(pthread_create(&t, NULL, churn, NULL) == 0);
	for (int i = 0; i < 200; i++)
		once(sizes[i % 5]);
	EXPECT(posix_spawnp(&pid, "true", NULL, NULL, argv, environ) == 0);
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(system("exit 3") == 3 << 8);
	stop = 1;
	pthread_join(t, NULL);
	pb_check();
	return 0;
}
