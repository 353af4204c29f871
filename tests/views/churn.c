/*
 * Threads that allocate and free all the time, for the preloaded library: churn FILE
 * [THREADS [small]].  small: blocks of up to 4 KiB only, which is steadier.  Pinned blocks of known number are held throughout; the slots are shared,
 * so that a block is often freed by another thread than the one that allocated it.
 *
 * FILE is made and holds what others read: operations done so far by each thread.  Writes
 * one line "BYTES LOWEST HIGHEST" for each class, how many blocks of it may be live, then
 * "ready", and ends with its input.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS_MAX 64
#define SLOTS 4096u
#define PINNED 20000u
/* Blocks of a class that a thread has freed and that are neither in a bitmap nor in a list
 * of their own heap: they look live.  Bounded by shim/limits.c and remote.c. */
#define IN_FLIGHT 2048u

static const size_t sizes[] = { 16, 64, 256, 1024, 4096, 100000, 700000 };
/* Of how many requests in 1,024 each is one, added up. */
static const unsigned upto[] = { 400, 700, 900, 1000, 1020, 1023, 1024 };
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define NR_CLASSES 5 /* of these are small blocks */

static struct counter {
	_Alignas(64) _Atomic uint64_t nr;
} *counters;
static _Atomic(void *) slots[SLOTS];
static unsigned most = 1024; /* random numbers are below it */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *churn(void *arg)
{
	size_t number = (size_t)arg;
	uint64_t state = (number + 1) * 0x9e3779b97f4a7c15u;

	for (uint64_t n = 1;; n++) {
		uint64_t r = next_random(&state);
		unsigned k = 0;
		char *p;

		while (r % most >= upto[k])
			k++;
		p = malloc(sizes[k]);
		p[0] = 1;
		free(atomic_exchange_explicit(&slots[(r >> 32) % SLOTS], p,
					      memory_order_acq_rel));
		/* Relaxed: read from outside, as it comes. */
		atomic_store_explicit(&counters[number].nr, n, memory_order_relaxed);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t nr_threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 8;
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	pthread_t thread;

	if (fd < 0 || nr_threads == 0 || nr_threads > THREADS_MAX ||
	    ftruncate(fd, THREADS_MAX * sizeof(*counters)) != 0)
		return 2;
	counters = mmap(NULL, THREADS_MAX * sizeof(*counters), PROT_READ | PROT_WRITE,
			MAP_SHARED, fd, 0);
	if (counters == MAP_FAILED)
		return 2;
	if (argc > 3)
		most = upto[NR_CLASSES - 1];
	for (unsigned k = 0; k < NR_CLASSES; k++) {
		for (unsigned i = 0; i < PINNED; i++)
			((char *)malloc(sizes[k]))[0] = 1;
		/* Beside the pinned ones what is in slots, and on its way home from each thread. */
		printf("%zu %u %zu\n", sizes[k], PINNED,
		       PINNED + SLOTS + nr_threads * IN_FLIGHT);
	}
	for (size_t i = 0; i < nr_threads; i++)
		if (pthread_create(&thread, NULL, churn, (void *)i) != 0)
			return 2;
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
