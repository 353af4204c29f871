/*
 * A heap profiler as many are written: preloaded before the allocator, finds the next
 * malloc by dlsym at the first call, and counts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

unsigned long lib_wrap_calls;
static void *(*next_malloc)(size_t);
static void (*next_free)(void *);

static void find_next(void)
{
	*(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
	*(void **)&next_free = dlsym(RTLD_NEXT, "free");
	/* A failing lookup allocates: malloc, which is this, calloc and realloc. */
	(void)dlsym(RTLD_NEXT, "there_is_no_such_function");
}

void *malloc(size_t size)
{
	if (next_malloc == NULL)
		find_next();
	lib_wrap_calls++;
	return next_malloc(size);
}

void free(void *p)
{
	if (next_free == NULL)
		find_next();
	next_free(p);
}
