/*
 * A program with an allocator of its own, defined in the executable: the loader prefers it to
 * any preloaded one, for libc too. The preloaded library is then in the process without being
 * asked for anything, and must not get in the way: at start, in threads, in fork, at exit.
 *
 * The allocator is a bump allocator that never reuses memory and knows its own blocks.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA_BYTES ((size_t)64 << 20)
#define HEADER_BYTES ((size_t)16)

static _Alignas(4096) unsigned char arena[ARENA_BYTES];
static atomic_size_t used;
static atomic_long given, taken, foreign;

static int is_ours(const void *block)
{
	return (const unsigned char *)block >= arena &&
	       (const unsigned char *)block < arena + ARENA_BYTES;
}

static void *take(size_t align, size_t size)
{
	size_t start = atomic_load(&used), block;

	do {
		block = (start + HEADER_BYTES + align - 1) & ~(align - 1);
		if (size > ARENA_BYTES || block + size > ARENA_BYTES) {
			errno = ENOMEM;
			return NULL;
		}
	} while (!atomic_compare_exchange_weak(&used, &start, block + size));
	memcpy(arena + block - sizeof(size), &size, sizeof(size));
	atomic_fetch_add(&given, 1);
	return arena + block;
}

void *malloc(size_t size)
{
	return take(16, size);
}

void free(void *block)
{
	if (!block)
		return;
	atomic_fetch_add(is_ours(block) ? &taken : &foreign, 1);
}

void *calloc(size_t count, size_t size)
{
	/* The arena is zero and no part of it is given out twice. */
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return take(16, bytes);
}

void *realloc(void *block, size_t size)
{
	size_t old;
	void *bigger = take(16, size);

	if (block && bigger) {
		memcpy(&old, (unsigned char *)block - sizeof(old), sizeof(old));
		memcpy(bigger, block, old < size ? old : size);
		free(block);
	}
	return bigger;
}

void *memalign(size_t align, size_t size)
{
	return take(align < 16 ? 16 : align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

int posix_memalign(void **result, size_t align, size_t size)
{
	void *block = memalign(align, size);

	if (!block)
		return ENOMEM;
	*result = block;
	return 0;
}

size_t malloc_usable_size(void *block)
{
	size_t size = 0;

	if (block)
		memcpy(&size, (unsigned char *)block - sizeof(size), sizeof(size));
	return size;
}

static void *thread(void *argument)
{
	for (int i = 0; i < 1000; i++) {
		char *text = strdup("from libc");
		if (!is_ours(text))
			return argument;
		free(text);
	}
	return NULL;
}

int main(void)
{
	char *line = NULL;
	size_t line_bytes = 0;
	FILE *file = fopen("/proc/self/maps", "r");

	if (!file)
		return 1;
	/* getline allocates inside libc. */
	FILE *copy = fopen("maps.own", "w");
	while (getline(&line, &line_bytes, file) > 0)
		fputs(line, copy);
	fclose(copy);
	fclose(file);
	printf("getline's block is %s\n", is_ours(line) ? "ours" : "foreign");
	free(line);

	int lost = 0;
	for (int round = 0; round < 20; round++) {
		pthread_t threads[4];
		void *result;
		for (int i = 0; i < 4; i++)
			if (pthread_create(&threads[i], NULL, thread, &lost))
				return 1;
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], &result);
			lost += result != NULL;
		}
		pid_t pid = fork();
		if (pid == 0)
			exit(thread(&lost) ? 1 : 0);
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			lost++;
	}
	printf("%d lost, %ld foreign\n", lost, atomic_load(&foreign));
	printf("%s\n", atomic_load(&given) > 80000 && atomic_load(&taken) > 80000 ? "used" : "?");
	return 0;
}
