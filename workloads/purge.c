/*
 * What giving memory back costs others: the latency of malloc in a thread that allocates
 * and frees small blocks, while 64 MiB that another thread has freed go back to the system,
 * and in equally long stretches in between in which nothing goes back.  Both in one run, in
 * turn, so that whatever else the machine does disturbs both.
 *
 *   LD_PRELOAD=libpageblock.so PAGEBLOCK_CONF=decay:20ms purge [ROUNDS]
 *
 * Prints nanoseconds; exits with 1 when nothing was given back.
 */
#define _GNU_SOURCE
#define PB_OPTIONAL
#include "preload/pageblock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NR_BLOCKS = 1024, BLOCK = 65536, RING = 4096 };
/* Buckets of an eighth of a power of two. */
enum { STEPS = 8, BUCKETS = 40 * STEPS };
enum phase { NOT_NOW, QUIET, PURGING, OVER, NR_PHASES };

static _Atomic int phase;
static uint64_t histogram[NR_PHASES][BUCKETS];
static uint64_t most[NR_PHASES];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned log = ns < STEPS ? 3 : 63u - (unsigned)__builtin_clzll(ns);
	unsigned bucket = ns < STEPS ? (unsigned)ns
				     : (log - 3) * STEPS + (unsigned)(ns >> (log - 3));

	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The least time of a bucket. */
static uint64_t bucket_ns(unsigned bucket)
{
	if (bucket < 2 * STEPS)
		return bucket;
	return (uint64_t)(STEPS + bucket % STEPS) << (bucket / STEPS - 1);
}

static void *work(void *unused)
{
	static void *ring[RING];
	uint64_t random = 88172645463325252u;
	unsigned at = 0;
	int now;

	while ((now = atomic_load_explicit(&phase, memory_order_relaxed)) != OVER) {
		uint64_t start, ns;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		free(ring[at]);
		start = now_ns();
		ring[at] = malloc(16 + random % 2000);
		ns = now_ns() - start;
		*(volatile char *)ring[at] = 1;
		at = (at + (unsigned)(random >> 40)) % RING;
		histogram[now][bucket_of(ns)]++;
		if (ns > most[now])
			most[now] = ns;
	}
	return unused;
}

static uint64_t purged_bytes(void)
{
	struct pb_stats stats = {.size = sizeof(stats)};

	return pb_get_stats(&stats) == 0 ? stats.purged_bytes : 0;
}

/* How long it took until most of the 64 MiB had gone; 0: it did not. */
static uint64_t one_round(void)
{
	static char *blocks[NR_BLOCKS];
	uint64_t before, start, took;

	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		blocks[i] = malloc(BLOCK);
		memset(blocks[i], 1, BLOCK);
	}
	before = purged_bytes();
	for (unsigned i = 0; i < NR_BLOCKS; i++)
		free(blocks[i]);
	phase = PURGING;
	start = now_ns();
	do {
		usleep(2000);
		took = now_ns() - start;
	} while (took < 3000000000u &&
		 purged_bytes() - before < (uint64_t)NR_BLOCKS * BLOCK * 9 / 10);
	phase = NOT_NOW;
	return took < 3000000000u ? took : 0;
}

static uint64_t percentile(int which, double part)
{
	uint64_t nr = 0, seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		nr += histogram[which][i];
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += histogram[which][i];
		if ((double)seen >= (double)nr * part)
			return bucket_ns(i);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int nr_rounds = argc > 1 ? atoi(argv[1]) : 40;
	uint64_t in_all = 0;
	pthread_t worker;

	if (!pb_get_stats) {
		fprintf(stderr, "purge: libpageblock.so is not loaded\n");
		return 2;
	}
	pthread_create(&worker, NULL, work, NULL);
	for (int i = 0; i < nr_rounds; i++) {
		uint64_t took = one_round();

		if (took == 0) {
			fprintf(stderr, "purge: nothing was given back within 3 s\n");
			return 1;
		}
		in_all += took;
		usleep(20000);
		phase = QUIET;
		usleep((useconds_t)(took / 1000));
		phase = NOT_NOW;
	}
	phase = OVER;
	pthread_join(worker, NULL);
	printf("%-10s %10s %10s %10s %10s %12s\n", "malloc, ns", "50 %", "99 %", "99.9 %",
	       "99.99 %", "most");
	for (int which = QUIET; which <= PURGING; which++)
		printf("%-10s %10llu %10llu %10llu %10llu %12llu\n",
		       which == QUIET ? "quiet" : "purging",
		       (unsigned long long)percentile(which, 0.5),
		       (unsigned long long)percentile(which, 0.99),
		       (unsigned long long)percentile(which, 0.999),
		       (unsigned long long)percentile(which, 0.9999),
		       (unsigned long long)most[which]);
	printf("99.99 %% while purging: %.2f times that of quiet stretches (%.1f s of each)\n",
	       (double)percentile(PURGING, 0.9999) / (double)percentile(QUIET, 0.9999),
	       (double)in_all * 1e-9);
	return 0;
}
