/*
 * A program that makes a child when a line of input comes, without allocating before; the
 * child, whose number it writes, goes through many slow paths, writes a line, and waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say(long number)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "%ld\n", number);

	if (write(STDOUT_FILENO, line, (size_t)len) != len)
		_exit(1);
}

static void next(void)
{
	char c;

	do {
		if (read(STDIN_FILENO, &c, 1) != 1)
			_exit(0);
	} while (c != '\n');
}

int main(void)
{
	char *volatile p = malloc(1);

	p[0] = 1;
	say(getpid());
	next();
	if (fork() == 0) {
		for (int i = 0; i < 100; i++)
			(p = malloc(100000))[0] = 1;
		say(getpid());
	}
	pause();
	return 0;
}
