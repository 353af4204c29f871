/*
 * For the programs of tests/preload, in C and C++: each checks one behaviour and exits
 * with 0, with 1 after a line that says what was not as expected, or with 77 when it
 * cannot be tried here.  All fail when the library is not there.
 */
#ifndef PB_TESTS_PRELOAD_TEST_H
#define PB_TESTS_PRELOAD_TEST_H

#define PB_OPTIONAL
#include "preload/pageblock.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_SKIPPED 77

#define EXPECT(cond)                                                                           \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			dprintf(STDOUT_FILENO, "%s:%d: not so: %s\n", __FILE__, __LINE__,      \
				#cond);                                                        \
			_exit(1);                                                              \
		}                                                                              \
	} while (0)

/* Makes the compiler forget what it knows of a pointer or a size. */
#define HIDE(x) __asm__ volatile("" : "+r"(x) : : "memory")

static inline void expect_library(void)
{
	if (!pb_version) {
		dprintf(STDOUT_FILENO, "libpageblock.so is not loaded\n");
		_exit(1);
	}
}

static inline void skip(const char *why)
{
	dprintf(STDOUT_FILENO, "%s\n", why);
	_exit(EXIT_SKIPPED);
}

static inline void *nothing(void *arg)
{
	return arg;
}

/* One that ends at once: from then on the process has had threads. */
static inline void make_a_thread(void)
{
	pthread_t t;

	EXPECT(pthread_create(&t, NULL, nothing, NULL) == 0);
	EXPECT(pthread_join(t, NULL) == 0);
}

/* Resident pages in bytes. */
static inline size_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long total = 0, resident = 0;

	EXPECT(f != NULL && fscanf(f, "%lu %lu", &total, &resident) == 2);
	fclose(f);
	return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
