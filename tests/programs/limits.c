/*
 * Runs into the limit on its address space or data: malloc must say so with NULL and ENOMEM,
 * keep every block it gave out before intact, and give memory again once some came back.
 *
 *   limits small         must succeed within the limit
 *   limits exhaust MIB   takes memory until there is none, at least MIB of it, in several ways
 *   limits together      does so in four threads at once
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)
/* More than any limit in use divided by the smallest block size in use. */
#define MAX_BLOCKS 400000

#define REQUIRE(condition)                                                                     \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);        \
			exit(1);                                                               \
		}                                                                              \
	} while (0)

struct heap {
	void **blocks;
	size_t count;
	size_t block_bytes;
};

/* Held in a mapping of its own, so that the table does not depend on what is tested. */
static void heap_init(struct heap *heap)
{
	heap->blocks = mmap(NULL, MAX_BLOCKS * sizeof(void *), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(heap->blocks != MAP_FAILED);
	heap->count = 0;
}

/* Takes blocks until there are no more; the first and last word of each is its own number. */
static size_t heap_fill(struct heap *heap, size_t block_bytes)
{
	heap->block_bytes = block_bytes;
	for (heap->count = 0; heap->count < MAX_BLOCKS; heap->count++) {
		errno = 0;
		char *block = malloc(block_bytes);
		if (!block) {
			REQUIRE(errno == ENOMEM);
			return heap->count * block_bytes;
		}
		memcpy(block, &heap->count, sizeof(size_t));
		memcpy(block + block_bytes - sizeof(size_t), &heap->count, sizeof(size_t));
		heap->blocks[heap->count] = block;
	}
	REQUIRE(!"the limit was never reached");
	return 0;
}

static void heap_check(const struct heap *heap)
{
	for (size_t i = 0; i < heap->count; i++) {
		const char *block = heap->blocks[i];
		REQUIRE(memcmp(block, &i, sizeof(i)) == 0);
		REQUIRE(memcmp(block + heap->block_bytes - sizeof(i), &i, sizeof(i)) == 0);
	}
}

static void heap_empty(struct heap *heap)
{
	for (size_t i = 0; i < heap->count; i++)
		free(heap->blocks[i]);
	heap->count = 0;
}

static void exhaust(size_t minimum_bytes)
{
	static const size_t sizes[] = { 65536, 4096, 1000, 300000, 3 * MIB, 65536 };
	struct heap heap;

	heap_init(&heap);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t got = heap_fill(&heap, sizes[i]);
		fprintf(stderr, "blocks of %zu: %zu MiB\n", sizes[i], got / MIB);
		REQUIRE(got >= minimum_bytes);
		heap_check(&heap);

		/* A failing realloc and calloc leave everything as it was. */
		errno = 0;
		REQUIRE(!realloc(heap.blocks[0], 2000 * MIB) && errno == ENOMEM);
		errno = 0;
		REQUIRE(!calloc(2000, MIB) && errno == ENOMEM);
		void *aligned = &heap;
		REQUIRE(posix_memalign(&aligned, 4096, 2000 * MIB) == ENOMEM);
		heap_check(&heap);
		heap_empty(&heap);

		char *half = malloc(minimum_bytes / 2);
		REQUIRE(half);
		memset(half, 1, minimum_bytes / 2);
		free(half);
		printf("blocks of %zu: enough, then none, then enough again\n", sizes[i]);
	}
}

/* No thread begins before all exist: their stacks are memory too. */
static pthread_barrier_t all_exist;

static void *exhaust_thread(void *table)
{
	struct heap *heap = table;

	pthread_barrier_wait(&all_exist);
	(void)heap_fill(heap, 20000);
	heap_check(heap);
	heap_empty(heap);
	return NULL;
}

/* Threads reach the limit together, and none of them for ever. */
static void exhaust_together(void)
{
	enum { THREADS = 4 };
	static struct heap heaps[THREADS];
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		heap_init(&heaps[i]);
	REQUIRE(pthread_barrier_init(&all_exist, NULL, THREADS) == 0);
	for (int i = 0; i < THREADS; i++)
		REQUIRE(pthread_create(&threads[i], NULL, exhaust_thread, &heaps[i]) == 0);
	for (int i = 0; i < THREADS; i++)
		REQUIRE(pthread_join(threads[i], NULL) == 0);
	void *after = malloc(10 * MIB);
	REQUIRE(after);
	free(after);
	puts("four threads: all came to an end");
}

static void small(void)
{
	enum { BLOCKS = 20000 };
	static unsigned char *blocks[BLOCKS];
	static size_t sizes[BLOCKS];
	uint32_t seed = 1;
	unsigned long sum = 0;

	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < BLOCKS; i++) {
			seed = seed * 1664525 + 1013904223;
			if (seed >> 30 == 0)
				continue;
			if (blocks[i])
				REQUIRE(blocks[i][sizes[i] - 1] == (unsigned char)i);
			free(blocks[i]);
			sizes[i] = 1 + (seed >> 8) % ((seed & 63) ? 1500 : 100000);
			blocks[i] = malloc(sizes[i]);
			REQUIRE(blocks[i]);
			memset(blocks[i], (unsigned char)i, sizes[i]);
			sum += sizes[i];
		}
	}
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	printf("small: %lu bytes in all\n", sum);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	if (argc == 2 && !strcmp(argv[1], "small")) {
		small();
	} else if (argc == 3 && !strcmp(argv[1], "exhaust")) {
		exhaust((size_t)atol(argv[2]) * MIB);
	} else if (argc == 2 && !strcmp(argv[1], "together")) {
		exhaust_together();
	} else {
		return 2;
	}
	return 0;
}
