/*
 * 2,000 threads come and go, a few at a time; each leaves some blocks, which the
 * next ones free.  Memory must not grow with their number.
 */
#include "tests/preload/test.h"

#include <pthread.h>

enum { NR_THREADS = 2000, AT_ONCE = 8, NR_LEFT = 200 };

static void *left[AT_ONCE][NR_LEFT];

static void *thread(void *arg)
{
	unsigned slot = (unsigned)(uintptr_t)arg % AT_ONCE;
	size_t nr = (uintptr_t)arg;

	/* Freed here, allocated by the thread that had the slot before. */
	for (int i = 0; i < NR_LEFT; i++)
		free(left[slot][i]);
	for (size_t i = 0; i < NR_LEFT; i++) {
		size_t size = 16 + (i * 37 + nr * 11) % 3000;

		left[slot][i] = malloc(size);
		memset(left[slot][i], 1, size);
	}
	/* A transient megabyte. */
	for (int i = 0; i < 10; i++) {
		void *p = malloc(100000);

		memset(p, 1, 100000);
		free(p);
	}
	return NULL;
}

static void wave(int nr)
{
	pthread_t threads[AT_ONCE];

	for (int i = 0; i < AT_ONCE; i++)
		EXPECT(pthread_create(&threads[i], NULL, thread,
				      (void *)(uintptr_t)(nr * AT_ONCE + i)) == 0);
	for (int i = 0; i < AT_ONCE; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
}

int main(void)
{
	size_t early = 0, late;

	expect_library();
	for (int i = 0; i < NR_THREADS / AT_ONCE; i++) {
		wave(i);
		if (i == NR_THREADS / AT_ONCE / 10)
			early = resident_bytes();
	}
	late = resident_bytes();

	struct pb_stats s = { .size = sizeof(s) };

	EXPECT(pb_get_stats(&s) == 0);
	printf("resident %zu KiB after a tenth, %zu KiB at the end; %llu heaps\n", early >> 10,
	       late >> 10, (unsigned long long)s.nr_heaps);
	fflush(stdout);
	EXPECT(late < early + (32 << 20));
	EXPECT(s.nr_heaps <= 2 * AT_ONCE + 1);
	pb_check();
	return 0;
}
