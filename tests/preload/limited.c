/*
 * limited MODE - limits, pressure, and memory on demand.
 *
 *   grow       frees most of 40 MiB and then maps 40 MiB by itself, slowly: under a limit of
 *              64 MiB it lives only if what was freed went back.  Also runs without the library.
 *   fill       allocates until malloc fails, at most 1 GiB, and says how much it got
 *   soft MIB   allocates and frees above the soft limit: resident memory stays near it
 *   reclaim    pb_reclaim() and shrinkers
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define MIB ((size_t)1 << 20)
#define BLOCK ((size_t)60000)

enum { NR = 700 };

static char *blocks[NR];

static void fill_blocks(void)
{
	for (int i = 0; i < NR; i++) {
		blocks[i] = malloc(BLOCK);
		EXPECT(blocks[i] != NULL);
		memset(blocks[i], 1, BLOCK);
	}
}

/* Every 50th stays, and the last: what glibc could give back from the top. */
static void free_most(void)
{
	for (int i = 0; i < NR - 1; i++) {
		if (i % 50 == 0)
			continue;
		free(blocks[i]);
		blocks[i] = NULL;
	}
}

static int grow(void)
{
	char *own;

	make_a_thread();
	fill_blocks();
	free_most();
	own = mmap(NULL, 40 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(own != MAP_FAILED);
	for (size_t at = 0; at < 40 * MIB; at += MIB / 2) {
		memset(own + at, 1, MIB / 2);
		usleep(10000);
	}
	printf("alive\n");
	return 0;
}

static int fill(void)
{
	size_t bytes = 0;

	while (bytes < 1024 * MIB) {
		char *p = malloc(BLOCK);

		if (p == NULL)
			break;
		memset(p, 1, BLOCK);
		bytes += BLOCK;
	}
	printf("%zu\n", bytes / MIB);
	return bytes < 1024 * MIB ? 0 : 1;
}

/* What is free is not kept above the limit, without a decay and without a thread. */
static int soft(size_t limit)
{
	size_t most = 0;

	expect_library();
	for (int round = 0; round < 100; round++) {
		size_t size = (size_t)(round % 7 + 1) * MIB, resident;
		char *p[8];

		for (int i = 0; i < 8; i++) {
			p[i] = malloc(size);
			EXPECT(p[i] != NULL);
			memset(p[i], 1, size);
		}
		for (int i = 0; i < 8; i++)
			free(p[i]);
		resident = resident_bytes();
		if (resident > most)
			most = resident;
	}
	printf("at most %zu MiB resident\n", most / MIB);
	fflush(stdout);
	/* The limit, and the program itself. */
	EXPECT(most < limit + 6 * MIB);
	return 0;
}

/* --- on demand ---------------------------------------------------------------------------- */

struct cache {
	char *memory;
	size_t bytes;
	_Atomic int nr_calls;
};

static size_t shrink(size_t nr_bytes, void *arg)
{
	struct cache *cache = arg;
	size_t bytes = cache->bytes;

	EXPECT(nr_bytes > 0);
	cache->nr_calls++;
	free(cache->memory);
	cache->memory = NULL;
	cache->bytes = 0;
	return bytes;
}

static struct cache make_cache(size_t bytes)
{
	struct cache cache = { .memory = malloc(bytes), .bytes = bytes };

	EXPECT(cache.memory != NULL);
	memset(cache.memory, 1, bytes);
	return cache;
}

static _Atomic int go_on = 1;

/* Keeps objects of its own in its caches while it runs. */
static void *churn(void *arg)
{
	while (go_on) {
		void *p[64];

		for (int i = 0; i < 64; i++)
			p[i] = malloc((size_t)i * 16 + 1);
		for (int i = 0; i < 64; i++)
			free(p[i]);
	}
	return arg;
}

static void shrinkers(void)
{
	struct cache one = make_cache(16 * MIB), two = make_cache(16 * MIB);
	struct pb_stats before = { .size = sizeof(before) }, after = before;
	int first, second;
	size_t done;

	EXPECT(pb_register_shrinker(NULL, NULL) == -1 && errno == EINVAL);
	EXPECT(pb_unregister_shrinker(5) == -1 && errno == EINVAL);
	EXPECT(pb_unregister_shrinker(-1) == -1 && errno == EINVAL);
	first = pb_register_shrinker(shrink, &one);
	second = pb_register_shrinker(shrink, &two);
	EXPECT(first >= 0 && second >= 0 && first != second);
	(void)pb_reclaim(SIZE_MAX, 0);
	EXPECT(one.nr_calls == 1 && two.nr_calls == 1);
	one = make_cache(16 * MIB);
	two = make_cache(16 * MIB);
	one.nr_calls = two.nr_calls = 0;
	(void)pb_reclaim(SIZE_MAX, 0);
	EXPECT(pb_get_stats(&before) == 0);
	one = make_cache(16 * MIB);
	two = make_cache(16 * MIB);
	one.nr_calls = two.nr_calls = 0;
	/* The first one's is enough. */
	done = pb_reclaim(8 * MIB, 0);
	EXPECT(done >= 8 * MIB && one.nr_calls == 1 && two.nr_calls == 0);
	EXPECT(pb_get_stats(&after) == 0);
	EXPECT(after.shrunk_bytes == before.shrunk_bytes + 16 * MIB);
	EXPECT(pb_unregister_shrinker(first) == 0 && pb_unregister_shrinker(second) == 0);
	EXPECT(pb_unregister_shrinker(first) == -1);
	(void)pb_reclaim(SIZE_MAX, 0);
	EXPECT(two.nr_calls == 0);
	free(two.memory);
}

static int reclaim(void)
{
	pthread_t threads[2];
	size_t full, done, left;

	expect_library();
	for (int i = 0; i < 2; i++)
		EXPECT(pthread_create(&threads[i], NULL, churn, NULL) == 0);
	fill_blocks();
	full = resident_bytes();
	free_most();
	done = pb_reclaim(SIZE_MAX, 0);
	left = resident_bytes();
	printf("resident %zu MiB, %zu MiB given back, %zu MiB left\n", full / MIB, done / MIB,
	       left / MIB);
	fflush(stdout);
	/* What it says is what it did, within a megabyte of what else happens. */
	EXPECT(done > (NR - NR / 50 - 1) * BLOCK * 9 / 10);
	EXPECT(full - left + MIB > done && full - left < done + MIB);
	/* And again: there is hardly anything left. */
	EXPECT(pb_reclaim(SIZE_MAX, 0) < 2 * MIB);
	shrinkers();
	pb_check();
	go_on = 0;
	for (int i = 0; i < 2; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "grow") == 0)
		return grow();
	if (strcmp(mode, "fill") == 0)
		return fill();
	if (strcmp(mode, "soft") == 0 && argc > 2)
		return soft((size_t)atoi(argv[2]) * MIB);
	if (strcmp(mode, "reclaim") == 0)
		return reclaim();
	return 2;
}
