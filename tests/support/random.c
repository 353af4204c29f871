/*
 * A counter stepped by the golden ratio and mixed well: passes for random, and any seed
 * will do, 0 included.
 */
#include "tests/support/random.h"

#include <stdlib.h>

void random_seed(struct random *random, uint64_t seed)
{
	random->state = seed;
	(void)random_next(random);
}

uint64_t random_next(struct random *random)
{
	uint64_t x = random->state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93u;
	return x ^ (x >> 32);
}

uint64_t random_below(struct random *random, uint64_t n)
{
	return (random_next(random) >> 11) % n;
}

uint64_t random_size(struct random *random, unsigned max_order)
{
	uint64_t top = (uint64_t)1 << random_below(random, max_order + 1);

	return 1 + random_below(random, top);
}

uint64_t random_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}
