/*
 * How much a thread may cache.  Bounded by bytes, so that a cache costs the same whatever
 * the class, and halved for each doubling of the threads from twice CACHE_FULL_THREADS on,
 * so that many do not hold many times as much.
 */
#ifndef PB_SHIM_LIMITS_H
#define PB_SHIM_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* Objects a bin of the class may hold; a batch, which is also a step of growth; and the
 * first batch, whoever else is there. */
uint32_t limits_bin(unsigned cls);
uint32_t limits_batch(unsigned cls);
uint32_t limits_first(unsigned cls);
/* A limit on what is moved at once, as it is for as many threads as there are; at least 1. */
uint32_t limits_moved(uint32_t n);
/* Whether there are so many that a slab of each class for each of them is much. */
bool limits_many_threads(void);
/* As last set. */
uint32_t limits_threads(void);
/* The number of heaps with threads has changed. */
void limits_set(uint32_t nr_threads);

#endif
