/*
 * probe.so: how long each malloc and free of a program took, whatever its allocator.
 *
 *   LD_PRELOAD=probe.so:ALLOCATOR.so PROBE_FILE=FILE PROGRAM
 *
 * Stands in front of the allocator, times every malloc, calloc, realloc and free, and counts
 * the ticks (ticks.h) in histograms that lie in FILE, which is mapped shared: children count
 * into the same, and however the process ends, the counts are there. The time that reading
 * the clock itself takes is taken off. operator new and memalign go past it.
 *
 * A histogram has 8 steps to each power of two: a value is known to within an eighth.
 * FILE: the header, then LANES times a histogram of allocations and one of frees, to be
 * added up. Threads are spread over the lanes so that they do not count in one cache line.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "workloads/ticks.h"

enum {
	STEP_SHIFT = 3, /* steps to each power of two, as a power of two */
	STEPS = 1 << STEP_SHIFT,
	BUCKETS = (64 - STEP_SHIFT + 1) * STEPS,
	LANES = 16,
	OVERHEAD_TRIES = 1000,
	EARLY_BYTES = 64 << 10,
};

enum { ALLOCATIONS, FREES, KINDS };

/* workloads/latency.py reads this. */
struct probe_file {
	uint64_t overhead_ticks;
	_Atomic uint64_t counts[LANES][KINDS][BUCKETS];
};

static struct probe_file *probe_file;
static _Atomic unsigned nr_threads;
static __thread unsigned own_lane; /* 1 more than the index; 0: not yet known */

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

/* What dlsym() itself asks for while the allocator is looked up; never given back. */
static _Alignas(16) unsigned char early[EARLY_BYTES];
static size_t early_used;

static void *early_alloc(size_t nr_bytes)
{
	size_t at = early_used;

	nr_bytes = (nr_bytes + 31) / 16 * 16; /* its size stands before it */
	if (nr_bytes > EARLY_BYTES - at)
		return NULL;
	early_used += nr_bytes;
	memcpy(early + at, &nr_bytes, sizeof(nr_bytes));
	return early + at + 16;
}

static bool is_early(const void *block)
{
	return (uintptr_t)block - (uintptr_t)early < EARLY_BYTES;
}

static void open_file(void)
{
	const char *path = getenv("PROBE_FILE");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
	struct probe_file *mapped = MAP_FAILED;
	uint64_t least = UINT64_MAX;

	if (fd < 0)
		return;
	if (!ftruncate(fd, sizeof(*mapped)))
		mapped = mmap(NULL, sizeof(*mapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		return;
	for (int i = 0; i < OVERHEAD_TRIES; i++) {
		uint64_t start = ticks_now(), ticks = ticks_now() - start;

		least = ticks < least ? ticks : least;
	}
	mapped->overhead_ticks = least;
	probe_file = mapped;
}

/* The first call comes before any thread is started. */
static void begin(void)
{
	static bool begun;
	void *symbol;

	if (begun)
		return;
	begun = true;
	symbol = dlsym(RTLD_NEXT, "calloc");
	memcpy(&next_calloc, &symbol, sizeof(symbol));
	symbol = dlsym(RTLD_NEXT, "realloc");
	memcpy(&next_realloc, &symbol, sizeof(symbol));
	symbol = dlsym(RTLD_NEXT, "free");
	memcpy(&next_free, &symbol, sizeof(symbol));
	symbol = dlsym(RTLD_NEXT, "malloc");
	memcpy(&next_malloc, &symbol, sizeof(symbol));
	open_file();
}

static void count(int kind, uint64_t ticks)
{
	struct probe_file *file = probe_file;
	unsigned bucket;

	if (!file)
		return;
	/* Relaxed throughout: sums, read when the program has ended. */
	if (!own_lane)
		own_lane =
		    1 + atomic_fetch_add_explicit(&nr_threads, 1, memory_order_relaxed) % LANES;
	ticks = ticks > file->overhead_ticks ? ticks - file->overhead_ticks : 0;
	if (ticks < STEPS) {
		bucket = (unsigned)ticks;
	} else {
		unsigned shift = 63 - (unsigned)__builtin_clzll(ticks) - STEP_SHIFT;

		bucket = (shift + 1) * STEPS + (unsigned)(ticks >> shift) - STEPS;
	}
	atomic_fetch_add_explicit(&file->counts[own_lane - 1][kind][bucket], 1,
				  memory_order_relaxed);
}

void *malloc(size_t nr_bytes)
{
	uint64_t start;
	void *block;

	if (!next_malloc) {
		begin();
		if (!next_malloc)
			return early_alloc(nr_bytes);
	}
	start = ticks_now();
	block = next_malloc(nr_bytes);
	count(ALLOCATIONS, ticks_now() - start);
	return block;
}

void *calloc(size_t nr, size_t nr_bytes)
{
	uint64_t start;
	void *block;

	if (!next_malloc) {
		begin();
		if (!next_malloc)
			return early_alloc(nr * nr_bytes);
	}
	start = ticks_now();
	block = next_calloc(nr, nr_bytes);
	count(ALLOCATIONS, ticks_now() - start);
	return block;
}

void *realloc(void *old, size_t nr_bytes)
{
	uint64_t start;
	void *block;

	if (!old)
		return malloc(nr_bytes);
	if (is_early(old)) {
		size_t old_bytes;

		memcpy(&old_bytes, (unsigned char *)old - 16, sizeof(old_bytes));
		block = malloc(nr_bytes);
		if (block)
			memcpy(block, old, old_bytes - 16 < nr_bytes ? old_bytes - 16 : nr_bytes);
		return block;
	}
	if (!next_malloc)
		begin();
	start = ticks_now();
	block = next_realloc(old, nr_bytes);
	count(ALLOCATIONS, ticks_now() - start);
	return block;
}

void free(void *block)
{
	uint64_t start;

	if (!block || is_early(block))
		return;
	if (!next_free)
		begin();
	start = ticks_now();
	next_free(block);
	count(FREES, ticks_now() - start);
}
