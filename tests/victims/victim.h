/*
 * For the programs of tests/victims: each misuses the allocator once.  Before it does it
 * says on standard output what line it expects; the runner wants that line, and only
 * that, on standard error, and the program ended by SIGABRT.
 */
#ifndef PB_TESTS_VICTIMS_VICTIM_H
#define PB_TESTS_VICTIMS_VICTIM_H

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPECT_LINE(...)                                                                       \
	do {                                                                                   \
		dprintf(STDOUT_FILENO, "pageblock: " __VA_ARGS__);                             \
		dprintf(STDOUT_FILENO, "\n");                                                  \
	} while (0)

/* call: "free", "realloc", "malloc_usable_size" */
static inline void expect_double_free(const void *p, size_t nr_bytes)
{
	EXPECT_LINE("double free of %p (a block of %zu bytes)", p, nr_bytes);
}

static inline void expect_interior(const char *call, const void *p, size_t nr_bytes,
				   const void *base)
{
	EXPECT_LINE("%s of %p, which is inside a block of %zu bytes at %p", call, p, nr_bytes,
		    base);
}

static inline void expect_foreign(const char *call, const void *p)
{
	EXPECT_LINE("%s of %p, which is not a block of this allocator", call, p);
}

/* The same pointer, about which the compiler knows nothing. */
static inline void *hidden(const void *p)
{
	uintptr_t n = (uintptr_t)p;

	__asm__ volatile("" : "+r"(n) : : "memory");
	return (void *)n;
}

/* Reached only when the misuse went unnoticed. */
static inline int unnoticed(void)
{
	dprintf(STDERR_FILENO, "unnoticed\n");
	return 0;
}

#endif
