/*
 * Threads allocate and free without pause, also each other's blocks, while several of them
 * fork. A child is one thread with the memory of all: it must be able to allocate, to free
 * what threads it does not have left behind, and to start threads of its own.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 6, FORKERS = 3, FORKS = 120, SLOTS = 512 };

/* Blocks pass through these; whoever takes one out owns it. */
static _Atomic(unsigned char *) slots[SLOTS];
static atomic_int stop;
static atomic_long checked;

static void complain(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(99);
}

/* A block knows its size in its first four bytes; the rest is that size's low byte. */
static unsigned char *block_make(uint32_t size_bytes)
{
	unsigned char *block = malloc(size_bytes);

	if (!block)
		complain("no memory");
	memset(block, (int)(size_bytes & 255), size_bytes);
	memcpy(block, &size_bytes, sizeof(size_bytes));
	return block;
}

static void block_drop(unsigned char *block)
{
	uint32_t size_bytes;

	if (!block)
		return;
	memcpy(&size_bytes, block, sizeof(size_bytes));
	for (uint32_t i = sizeof(size_bytes); i < size_bytes; i++)
		if (block[i] != (size_bytes & 255))
			complain("a block was overwritten");
	free(block);
	atomic_fetch_add_explicit(&checked, 1, memory_order_relaxed);
}

static void churn(uint32_t *seed, int steps)
{
	for (int i = 0; i < steps; i++) {
		*seed = *seed * 1664525 + 1013904223;
		uint32_t size_bytes = 8 + (*seed >> 8) % ((*seed & 127) ? 600 : 200000);
		block_drop(atomic_exchange(&slots[*seed >> 23], block_make(size_bytes)));
	}
}

static void *worker(void *argument)
{
	uint32_t seed = (uint32_t)(uintptr_t)argument;

	while (!atomic_load(&stop))
		churn(&seed, 100);
	return NULL;
}

static void *worker_of_child(void *argument)
{
	uint32_t seed = (uint32_t)(uintptr_t)argument;

	churn(&seed, 300);
	return NULL;
}

static void child(uint32_t seed)
{
	churn(&seed, 300);
	if (seed & 1) {
		pthread_t threads[2];
		for (uintptr_t i = 0; i < 2; i++)
			if (pthread_create(&threads[i], NULL, worker_of_child, (void *)(seed + i)))
				complain("no thread in the child");
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	}
	for (int i = 0; i < SLOTS; i++)
		block_drop(atomic_exchange(&slots[i], NULL));
	if (seed & 2) {
		/* A grandchild, and an end through exit with all its handlers. */
		pid_t pid = fork();
		if (pid == 0) {
			churn(&seed, 50);
			exit(7);
		}
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
		    WEXITSTATUS(status) != 7)
			complain("a grandchild ended wrongly");
	}
	_exit(7);
}

static void *forker(void *argument)
{
	uint32_t seed = (uint32_t)(uintptr_t)argument;

	for (int i = 0; i < FORKS; i++) {
		churn(&seed, 20);
		pid_t pid = fork();
		if (pid == 0)
			child(seed);
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			complain("fork failed");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
			fprintf(stderr, "a child ended with %#x\n", (unsigned)status);
			_exit(98);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t workers[WORKERS], forkers[FORKERS];

	for (uintptr_t i = 0; i < WORKERS; i++)
		if (pthread_create(&workers[i], NULL, worker, (void *)(i + 1)))
			return 1;
	for (uintptr_t i = 0; i < FORKERS; i++)
		if (pthread_create(&forkers[i], NULL, forker, (void *)(i + 100)))
			return 1;
	for (int i = 0; i < FORKERS; i++)
		pthread_join(forkers[i], NULL);
	atomic_store(&stop, 1);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	for (int i = 0; i < SLOTS; i++)
		block_drop(atomic_exchange(&slots[i], NULL));
	fprintf(stderr, "%ld blocks checked\n", atomic_load(&checked));
	printf("%d children, all ended well\n", FORKERS * FORKS);
	return atomic_load(&checked) < 10000;
}
