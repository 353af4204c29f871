/*
 * What the tests of the shim share: the seam to the test framework, expectations that
 * work on any thread, seeded random numbers, blocks with a pattern in them, and the
 * hooks that whoever links the shim has to provide.
 */
#ifndef PB_TESTS_SHIM_SUPPORT_H
#define PB_TESTS_SHIM_SUPPORT_H

#include "core/core.h"
#include "shim/shim.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- the framework ------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

/* Criterion's sandbox maps where ThreadSanitizer allows nothing; runner.h stands in. */
#if UNDER_TSAN
#include "tests/shim/runner.h"
#else
#include <criterion/criterion.h>
#endif

/* Each test has a process of its own and this long; none comes near it. */
#define TIME_BOUND_S 100

/* Where every step is checked, work is divided by the first of these, or, where the
 * number of threads or rounds matters more than their work, by the second. */
#if UNDER_TSAN
#define SLOWNESS 16u
#define SLOWNESS_MILD 4u
#elif PB_DEBUG || UNDER_ASAN
#define SLOWNESS 4u
#define SLOWNESS_MILD 1u
#else
#define SLOWNESS 1u
#define SLOWNESS_MILD 1u
#endif

/*
 * Ends the test with a message when cond does not hold; on any thread.  On the first
 * the framework reports it, elsewhere the process is stopped.
 */
#define EXPECT(cond, ...)                                                                      \
	do {                                                                                   \
		if (unlikely(!(cond)))                                                         \
			expect_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                 \
	} while (0)
__attribute__((format(printf, 4, 5))) void expect_failed(const char *file, int line,
							  const char *cond, const char *format, ...);

/* Whether fn ends the process by abort() after a line that contains text. */
bool dies_saying(void (*fn)(void *), void *arg, const char *text);
/* Runs fn in a child; its exit status, or -signal. */
int run_in_child(void (*fn)(void *), void *arg);

/* --- randomness ---------------------------------------------------------------------- */

struct rng {
	uint64_t state;
};
uint64_t rng_next(struct rng *r);
/* 0 .. n-1; n > 0. */
static inline size_t rng_below(struct rng *r, size_t n)
{
	return (size_t)(rng_next(r) % n);
}
/* 0 .. max, every magnitude as likely. */
size_t rng_size(struct rng *r, size_t max);

/*
 * The seed of a test: PB_SEED, or another one each time.  From here on a failure prints
 * the command that repeats the test: its filter, the seed and the number of operations.
 */
uint64_t seed_begin(const char *filter, uint64_t nr_ops);
/* PB_OPS, or usual / SLOWNESS. */
uint64_t nr_ops_of(uint64_t usual);

/* --- blocks -------------------------------------------------------------------------- */

/* A block with a pattern that depends on its address and on who filled it when. */
struct block {
	unsigned char *p;
	size_t size;   /* as asked for */
	size_t filled; /* bytes of pattern, size or more */
	uint64_t tag;
};

/* Writes the pattern over nr_bytes from b->p on. */
void block_fill(struct block *b, size_t nr_bytes, uint64_t tag);
/* The first nr_bytes at p are still those of b's pattern, though p may be elsewhere. */
void block_verify(const struct block *b, const unsigned char *p, size_t nr_bytes);
/* Verifies all of it and frees it. */
void block_free(struct block *b);
bool is_zero(const unsigned char *p, size_t nr_bytes);

/* --- the rest ------------------------------------------------------------------------ */

/* What shim_config() answers; to be changed before the first allocation of a test. */
extern struct shim_config test_config;
/* A decay for tests that look at caches and slabs one by one: nothing is settled or given
 * back by itself, however long the machine makes the test wait. */
#define DECAY_FOREVER_NS ((uint64_t)1000 * 1000000000)

struct shim_stats stats_now(void);
/* Nothing is allocated: after a trim no page is in a slab or a run, or free but dirty. */
void expect_nothing_kept(void);

void thread_start(pthread_t *thread, void *(*fn)(void *), void *arg);
void thread_join(pthread_t thread);
/* fn(arg) on a thread of its own, to its end. */
void on_thread(void *(*fn)(void *), void *arg);

#endif
