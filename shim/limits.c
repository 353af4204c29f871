/* The limits of limits.h: a table made from classes.def, and one shift for all. */
#include "shim/limits.h"

#include "shim/classes.h"

#include <stdatomic.h>

#define BIN_BYTES_MAX 131072u
#define BATCH_BYTES_MAX 32768u
#define BATCH_BYTES_FIRST 1024u
#define BIN_OBJECTS_MAX 4096u
#define BATCH_OBJECTS_MAX 128u
#define CACHE_FULL_THREADS 4u

#define AT_LEAST_ONE(n) ((n) < 1 ? 1 : (n))
#define AT_MOST(n, max) ((n) > (max) ? (max) : (n))
#define OBJECTS(b, nr_bytes, max) AT_LEAST_ONE(AT_MOST((nr_bytes) / (b), max))

/* How long a class's bins and batches may get; a batch is also a step of growth. */
static const struct {
	uint16_t bin, batch, first;
} most[NR_CLASSES] = {
#define CLASS(b, o)                                                                            \
	{ OBJECTS(b, BIN_BYTES_MAX, BIN_OBJECTS_MAX),                                          \
	  OBJECTS(b, BATCH_BYTES_MAX, BATCH_OBJECTS_MAX),                                      \
	  OBJECTS(b, BATCH_BYTES_FIRST, BATCH_OBJECTS_MAX) },
#include "shim/classes.def"
#undef CLASS
};

/* By how many halvings the limits are less. Relaxed: a policy. */
static _Atomic uint8_t cache_shift;

static uint32_t shifted(uint32_t objects)
{
	uint32_t n = objects >> atomic_load_explicit(&cache_shift, memory_order_relaxed);

	return n < 1 ? 1 : n;
}

uint32_t limits_bin(unsigned cls)
{
	return shifted(most[cls].bin);
}

/* What moves many objects for one lock is halved half as often. */
uint32_t limits_moved(uint32_t n)
{
	n >>= atomic_load_explicit(&cache_shift, memory_order_relaxed) / 2;
	return n < 1 ? 1 : n;
}

uint32_t limits_batch(unsigned cls)
{
	return limits_moved(most[cls].batch);
}

uint32_t limits_first(unsigned cls)
{
	return most[cls].first;
}

bool limits_many_threads(void)
{
	return atomic_load_explicit(&cache_shift, memory_order_relaxed) > 0;
}

/* Relaxed: a policy. */
static _Atomic uint32_t threads;

uint32_t limits_threads(void)
{
	return atomic_load_explicit(&threads, memory_order_relaxed);
}

void limits_set(uint32_t nr_threads)
{
	uint32_t full = nr_threads / CACHE_FULL_THREADS;

	atomic_store_explicit(&threads, nr_threads, memory_order_relaxed);
	atomic_store_explicit(&cache_shift, (uint8_t)(full <= 1 ? 0 : log2_ceil(full)),
			      memory_order_relaxed);
}
