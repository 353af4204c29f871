/*
 * bad.so: allocators for the tests of the benchmarks, each with one fault, by BAD_KIND:
 *
 *   1  the 1,000th malloc of a process stops it
 *   2  the 1,000th malloc of a process never comes back
 *   3  calloc gives memory that is not zero where it is large
 *   4  every 50th malloc takes 200 microseconds longer
 *
 * All else is libc's.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void *__libc_malloc(size_t nr_bytes);
void *__libc_calloc(size_t nr, size_t nr_bytes);

static _Atomic unsigned nr_mallocs;

static void wait_200_us(void)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < 200000);
}

void *malloc(size_t nr_bytes)
{
	unsigned nth = 1 + atomic_fetch_add_explicit(&nr_mallocs, 1, memory_order_relaxed);

	if (BAD_KIND == 1 && nth == 1000)
		abort();
	while (BAD_KIND == 2 && nth == 1000)
		pause();
	if (BAD_KIND == 4 && nth % 50 == 0)
		wait_200_us();
	return __libc_malloc(nr_bytes);
}

void *calloc(size_t nr, size_t nr_bytes)
{
	char *block = __libc_calloc(nr, nr_bytes);

	if (BAD_KIND == 3 && block && nr * nr_bytes >= 65536)
		block[0] = 1;
	return block;
}
