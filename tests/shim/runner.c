/* Runs the tests where Criterion cannot; empty elsewhere.  See runner.h. */
#define _GNU_SOURCE
#include "tests/shim/support.h"

#if UNDER_TSAN

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct runner_test *first, **last = &first;

void runner_add(struct runner_test *test)
{
	*last = test;
	last = &test->next;
}

/* One report ends the test.  The tests' processes have one thread when they are forked. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "halt_on_error=1:second_deadlock_stack=1";
}

static bool passes(const struct runner_test *test)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm((unsigned)test->timeout);
		test->body();
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("[----] %s::%s: caught signal %d\n", test->suite, test->name,
		       WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	const char *filter = "*";
	unsigned nr = 0, nr_failed = 0;

	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "--filter") == 0)
			filter = argv[i + 1];
	}
	for (struct runner_test *test = first; test != NULL; test = test->next) {
		char name[128];

		snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
		if (fnmatch(filter, name, 0) != 0)
			continue;
		nr++;
		printf("[RUN ] %s::%s\n", test->suite, test->name);
		if (!passes(test)) {
			nr_failed++;
			printf("[FAIL] %s::%s\n", test->suite, test->name);
		}
	}
	printf("[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0\n", nr,
	       nr - nr_failed, nr_failed);
	return nr == 0 || nr_failed != 0;
}

#endif
