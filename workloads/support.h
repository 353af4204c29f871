/*
 * What the timed workloads share: seeded random numbers, blocks that carry a mark at both
 * ends, and threads that must start. Failures go to standard error and end the program with
 * status 1; nothing else is ever printed.
 *
 * A mark is light on purpose (two bytes written, two read back): it catches blocks that
 * overlap or were cleared while they were in use, and costs every allocator the same.
 */
#ifndef WORKLOADS_SUPPORT_H
#define WORKLOADS_SUPPORT_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Noreturn static inline void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(1);
}

/* xorshift64*: the state must not be 0; random_seed() sees to that. */
struct random {
	uint64_t state;
};

static inline struct random random_seed(uint64_t seed)
{
	return (struct random){ (seed + 1) * 0x9e3779b97f4a7c15u };
}

static inline uint32_t random_next(struct random *random)
{
	uint64_t state = random->state;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	random->state = state;
	return (uint32_t)((state * 0x2545f4914f6cdd1du) >> 32);
}

/* Evenly from min to max, both included. */
static inline size_t random_between(struct random *random, size_t min, size_t max)
{
	return min + (size_t)(((uint64_t)random_next(random) * (max - min + 1)) >> 32);
}

/* Each power of two from 1 << min_shift up to 1 << max_shift is as likely as the next. */
static inline size_t random_log_uniform(struct random *random, unsigned min_shift,
					unsigned max_shift)
{
	size_t base = (size_t)1 << random_between(random, min_shift, max_shift - 1);

	return base + random_between(random, 0, base - 1);
}

/* A block in use; size_bytes is at least 2, and 0 where there is no block. */
struct block {
	unsigned char *data;
	size_t size_bytes;
};

static inline unsigned char block_mark(const struct block *block)
{
	return (unsigned char)((uintptr_t)block->data >> 4 ^ block->size_bytes);
}

static inline struct block block_adopt(void *data, size_t size_bytes)
{
	struct block block = { data, size_bytes };

	if (!data)
		fail("out of memory");
	block.data[0] = block_mark(&block);
	block.data[size_bytes - 1] = block_mark(&block);
	return block;
}

static inline struct block block_new(size_t size_bytes)
{
	return block_adopt(malloc(size_bytes), size_bytes);
}

static inline void block_check(const struct block *block)
{
	if (block->data[0] != block_mark(block) ||
	    block->data[block->size_bytes - 1] != block_mark(block))
		fail("a block in use was changed");
}

static inline void block_free(struct block *block)
{
	if (!block->data)
		return;
	block_check(block);
	free(block->data);
	*block = (struct block){ NULL, 0 };
}

static inline void block_replace(struct block *block, size_t size_bytes)
{
	block_free(block);
	*block = block_new(size_bytes);
}

static inline pthread_t thread_start(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, function, argument))
		fail("cannot start a thread");
	return thread;
}

static inline void thread_join(pthread_t thread)
{
	if (pthread_join(thread, NULL))
		fail("cannot join a thread");
}

/* The number in argv[index], or the default where there is none. */
static inline unsigned argument_or(int argc, char **argv, int index, unsigned otherwise)
{
	long value = argc > index ? strtol(argv[index], NULL, 10) : (long)otherwise;

	if (value <= 0 || value > 1000000000)
		fail("arguments are numbers above 0");
	return (unsigned)value;
}

/*
 * What main returns when the work is done and what is not to stay is freed. With
 * WORKLOADS_IDLE_MS in the environment the process stays so long, all but idle, so that its
 * resident size can be seen: one small block comes and goes every 10 ms, because some
 * allocators give memory back only when they are called.
 */
static inline int work_done(void)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	const char *idle = getenv("WORKLOADS_IDLE_MS");
	long left_ms = idle ? strtol(idle, NULL, 10) : 0;

	for (; left_ms > 0; left_ms -= 10) {
		struct block block = block_new(100);

		block_free(&block);
		nanosleep(&pause, NULL);
	}
	return 0;
}

#endif
