#include "tests/support/dies.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(void (*function)(void), int out)
{
	(void)signal(SIGABRT, SIG_DFL);
	(void)dup2(out, STDERR_FILENO);
	function();
	_exit(0);
}

bool dies_with(void (*function)(void), const char *message)
{
	char text[512];
	size_t len = 0;
	int ends[2];
	int status = 0;
	pid_t pid;

	if (pipe(ends) != 0)
		return false;
	pid = fork();
	if (pid == 0)
		child(function, ends[1]);
	(void)close(ends[1]);
	while (len < sizeof(text) - 1) {
		ssize_t n = read(ends[0], text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	(void)close(ends[0]);
	(void)waitpid(pid, &status, 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(text, message) != NULL)
		return true;
	fprintf(stderr, "expected to die with \"%s\": status %#x, said \"%s\"\n", message,
		(unsigned)status, text);
	return false;
}
