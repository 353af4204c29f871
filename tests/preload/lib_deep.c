/* Opened with RTLD_DEEPBIND. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *deep_make(void);
void deep_take(char *s);
void *deep_malloc_address(void);

/* A block for the program to free. */
char *deep_make(void)
{
	char *s = malloc(100);

	strcpy(s, "from the library");
	return s;
}

/* Frees blocks of the program's and of libc's. */
void deep_take(char *s)
{
	char *t = NULL;

	free(s);
	free(strdup("from libc"));
	if (asprintf(&t, "%d", 42) > 0)
		t = realloc(t, 1000);
	free(t);
}

void *deep_malloc_address(void)
{
	void *(*f)(size_t) = malloc;

	return *(void **)&f;
}
