/*
 * Small helpers every layer uses: assertions, branch hints, rounding.
 *
 * CHECK is always on and for corruption the program caused or that would
 * spread; ASSERT is for our own mistakes in debug builds (DEBUG >= 1);
 * ASSERT_DEEP walks a structure (DEBUG >= 2).  What is off is compiled, never run.
 */
#ifndef PB_CORE_UTIL_H
#define PB_CORE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef PB_DEBUG
#define PB_DEBUG 0
#endif

#define STATIC_ASSERT(cond, why) _Static_assert(cond, why)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
/* Runs once, at the start: lies together with others of its kind, in a part of the library that
 * is touched anyway. */
#define AT_START __attribute__((section(".text.startup")))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define MUST_CHECK __attribute__((warn_unused_result))
/* A function that reads what others write meanwhile, and is content with an old value: not
 * watched by ThreadSanitizer. */
#if defined(__clang__)
#define RACY __attribute__((no_sanitize("thread")))
#elif defined(__SANITIZE_THREAD__)
#define RACY __attribute__((no_sanitize_thread))
#else
#define RACY
#endif

/* Writes "pageblock: <what> at <file>:<line>" by write(2) and aborts. */
_Noreturn void util_fail(const char *what, const char *file, int line);
/* The same for a counter that differs from a walk of what it counts. */
_Noreturn void util_fail_numbers(const char *what, uint64_t kept, uint64_t walked,
				 const char *file, int line);

/* One line on standard error, "pageblock: <what> <number>": the program goes on. */
void util_say(const char *what, uint64_t number);

#define CHECK(cond)                                                                            \
	do {                                                                                   \
		if (unlikely(!(cond)))                                                         \
			util_fail("check failed: " #cond, __FILE__, __LINE__);                 \
	} while (0)
#define CHECK_COUNT(kept, walked)                                                              \
	do {                                                                                   \
		if (unlikely((uint64_t)(kept) != (uint64_t)(walked)))                          \
			util_fail_numbers(#kept, (kept), (walked), __FILE__, __LINE__);        \
	} while (0)
#define ASSERT(cond)                                                                           \
	do {                                                                                   \
		if (PB_DEBUG >= 1)                                                             \
			CHECK(cond);                                                           \
	} while (0)
#define ASSERT_DEEP(cond)                                                                      \
	do {                                                                                   \
		if (PB_DEBUG >= 2)                                                             \
			CHECK(cond);                                                           \
	} while (0)

/* align is a power of two. */
static inline size_t round_up(size_t n, size_t align)
{
	return (n + align - 1) & ~(align - 1);
}

static inline size_t round_down(size_t n, size_t align)
{
	return n & ~(align - 1);
}

static inline bool is_power_of_two(size_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Position of the highest set bit; n > 0. */
static inline unsigned log2_floor(size_t n)
{
	return 63u - (unsigned)__builtin_clzll(n);
}

/* Smallest k with 2^k >= n; n > 0. */
static inline unsigned log2_ceil(size_t n)
{
	return n <= 1 ? 0 : log2_floor(n - 1) + 1;
}

#endif
