/*
 * The cheapest clock there is, for latencies of tens of nanoseconds: the processor's own
 * where it can be read without a call, in ticks whose length launch.c measures; elsewhere
 * nanoseconds.
 */
#ifndef WORKLOADS_TICKS_H
#define WORKLOADS_TICKS_H

#include <stdint.h>
#include <time.h>

static inline uint64_t ticks_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return ticks_clock_ns();
#endif
}

#endif
