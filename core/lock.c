/*
 * The mutex of core.h: its slow paths and its debug checks.
 *
 * Algorithm: the three-state futex mutex (Drepper, "Futexes are tricky").  A waiter
 * marks the lock slept-on before each sleep and takes it in that state, because it
 * cannot know whether others sleep still; the holder that finds the mark wakes one.
 *
 * Not guaranteed: fairness, or priority inheritance.
 */
#include "core/core.h"

/* What a lock protects takes less than this many spins; when the holder has lost its
 * processor a few yields bring it back sooner, and cheaper, than a sleep and a wake-up. */
#define SPINS 100u
#define YIELDS 3u

#if PB_DEBUG >= 1
_Atomic(pause_hook_t) pause_hook;
#endif

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* --- rank checks, debug builds only ------------------------------------------------- */

/* How many locks of each rank this thread holds. */
static __thread uint16_t held[NR_LOCK_RANKS];

void lock_debug_acquire(enum lock_rank rank)
{
	bool lower_ranks_only = true;

	for (unsigned other = (unsigned)rank + 1; other < NR_LOCK_RANKS; other++)
		lower_ranks_only &= held[other] == 0;
	/* Whoever holds the heaps lock may take all the locks of a rank in a row, as fork does. */
	if (held[LOCK_HEAPS] == 0 || rank <= LOCK_HEAPS)
		lower_ranks_only &= held[rank] == 0;
	CHECK(lower_ranks_only);
	held[rank]++;
}

void lock_debug_release(enum lock_rank rank)
{
	CHECK(held[rank] > 0);
	held[rank]--;
}

bool lock_held(enum lock_rank rank)
{
	return PB_DEBUG >= 1 ? held[rank] > 0 : true;
}

/* --- slow paths ----------------------------------------------------------------------- */

COLD void lock_wait(struct lock *lock, enum lock_rank rank)
{
	PAUSE(LOCK_WAIT);
	for (unsigned i = 1; i <= SPINS * YIELDS; i++) {
		/* Relaxed: only tells whether a try is worth its while. */
		uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

		/* Acquire: pairs with lock_release(). */
		if (state == LOCK_FREE &&
		    atomic_compare_exchange_weak_explicit(
			    &lock->state, &state, LOCK_HELD | lock_tag(rank),
			    memory_order_acquire, memory_order_relaxed))
			return;
		if (i % SPINS == 0)
			os_yield();
		else
			relax();
	}
	/* Acquire: pairs with lock_release(). */
	while (atomic_exchange_explicit(&lock->state, LOCK_SLEPT_ON | lock_tag(rank),
					memory_order_acquire) != LOCK_FREE)
		os_futex_wait(&lock->state, LOCK_SLEPT_ON | lock_tag(rank));
}

COLD void lock_wake(struct lock *lock)
{
	os_futex_wake(&lock->state, 1);
}

bool lock_try(struct lock *lock, enum lock_rank rank)
{
	uint32_t expected = LOCK_FREE;

	/* Acquire pairs with lock_release(). */
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &expected,
						     LOCK_HELD | lock_tag(rank),
						     memory_order_acquire,
						     memory_order_relaxed))
		return false;
	/* A try cannot deadlock: it is counted, but may be out of order. */
	if (PB_DEBUG >= 1)
		held[rank]++;
	return true;
}

void lock_reset(struct lock *lock)
{
	/* Relaxed: the child of fork has one thread. */
	uint32_t was = atomic_exchange_explicit(&lock->state, LOCK_FREE, memory_order_relaxed);
	uint32_t rank = (was >> 8) - 1;

	if (PB_DEBUG >= 1 && was != LOCK_FREE && rank < NR_LOCK_RANKS && held[rank] > 0)
		held[rank]--;
}
