/*
 * recorded WHAT: programs of which it is known what they ask of malloc.
 *
 *   calls      each call once; 7,001 bytes mark where it begins and 7,002 where it ends
 *   threads N  N threads one after the other, blocks handed on to the next one
 *   fork       a child of fork allocates 7,003 bytes and ends by _exit
 *   exec       replaces itself by `recorded calls`
 *   kill       allocates 7,001 bytes and kills itself
 *   close      closes all descriptors, then allocates a lot
 *   much N     N mallocs and frees
 *   mixed N    N mallocs, then all but every tenth are freed
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile handed;

static void *use(void *p)
{
	if (p == NULL)
		abort();
	*(volatile char *)p = 1;
	return p;
}

static void calls(void)
{
	void *begin = use(malloc(7001));
	void *a = use(malloc(100)), *b = use(calloc(3, 50)), *c = NULL;

	a = use(realloc(a, 200));
	a = use(realloc(a, 300000));
	if (posix_memalign(&c, 4096, 500) != 0)
		abort();
	free(use(aligned_alloc(64, 128)));
	free(use(memalign(16, 48)));
	free(use(reallocarray(NULL, 10, 24)));
	free(NULL);
	/* Fails, and the block stays. */
	if (realloc(b, PTRDIFF_MAX) != NULL)
		abort();
	free(b);
	free(c);
	free(a);
	free(begin);
	free(use(malloc(7002)));
}

static void *hand_on(void *number)
{
	size_t size = 7100 + (size_t)number;

	free(handed);
	handed = use(malloc(size));
	return NULL;
}

static void threads(size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, hand_on, (void *)i) != 0 ||
		    pthread_join(thread, NULL) != 0)
			abort();
	}
	free(handed);
}

static void much(size_t nr)
{
	void *blocks[64] = { NULL };

	for (size_t i = 0; i < nr; i++) {
		free(blocks[i % 64]);
		blocks[i % 64] = use(malloc(16 + i % 200));
	}
}

static void mixed(size_t nr)
{
	void **blocks = calloc(nr, sizeof(*blocks));

	for (size_t i = 0; blocks != NULL && i < nr; i++)
		blocks[i] = use(malloc(16 + i % 200));
	for (size_t i = 0; blocks != NULL && i < nr; i++)
		if (i % 10 != 0)
			free(blocks[i]);
	free(blocks);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t nr = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (strcmp(what, "calls") == 0) {
		calls();
	} else if (strcmp(what, "threads") == 0) {
		threads(nr);
	} else if (strcmp(what, "fork") == 0) {
		if (fork() == 0) {
			use(malloc(7003));
			_exit(0);
		}
		wait(NULL);
		use(malloc(7001));
	} else if (strcmp(what, "exec") == 0) {
		use(malloc(7003));
		execl("/proc/self/exe", argv[0], "calls", (char *)NULL);
	} else if (strcmp(what, "kill") == 0) {
		use(malloc(7001));
		raise(SIGKILL);
	} else if (strcmp(what, "close") == 0) {
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
		much(20000);
		use(malloc(7001));
	} else if (strcmp(what, "mixed") == 0) {
		mixed(nr);
	} else if (strcmp(what, "much") == 0) {
		much(nr);
	} else {
		return 2;
	}
	return 0;
}
