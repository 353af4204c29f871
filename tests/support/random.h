/*
 * Seeded random numbers: the same sequence on every machine for the same seed.
 */
#ifndef PB_TESTS_RANDOM_H
#define PB_TESTS_RANDOM_H

#include <stdint.h>

struct random {
	uint64_t state;
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* 0 to n - 1; n > 0. */
uint64_t random_below(struct random *random, uint64_t n);
/* Mostly small: each power of two up to 2^max_order is as likely as the next. */
uint64_t random_size(struct random *random, unsigned max_order);

/* The number in an environment variable, or the default. */
uint64_t random_env(const char *name, uint64_t otherwise);

#endif
