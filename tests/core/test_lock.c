/*
 * The mutex: exclusion, sleeping, try, reset, and the order of ranks in debug builds.
 */
#include "core/core.h"
#include "tests/support/dies.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <time.h>

#define THREADS 4
#define ROUNDS 200000

static struct lock lock;
static uint64_t counter;

static void *count(void *nothing)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		lock_acquire(&lock, LOCK_ZONE);
		counter++;
		lock_release(&lock, LOCK_ZONE);
	}
	return nothing;
}

Test(lock, excludes)
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		cr_assert(pthread_create(&threads[i], NULL, count, NULL) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	cr_assert(counter == (uint64_t)THREADS * ROUNDS);
	cr_assert(lock.state == 0);
}

static void *sleep_on_it(void *nothing)
{
	lock_acquire(&lock, LOCK_ZONE);
	counter++;
	lock_release(&lock, LOCK_ZONE);
	return nothing;
}

/* Holds it long enough for all to fall asleep: all are woken in the end. */
Test(lock, wakes_all_sleepers)
{
	struct timespec pause = {.tv_nsec = 50000000};
	pthread_t threads[THREADS];
	unsigned nr_pauses = 0;

	lock_acquire(&lock, LOCK_ZONE);
	for (unsigned i = 0; i < THREADS; i++)
		cr_assert(pthread_create(&threads[i], NULL, sleep_on_it, NULL) == 0);
	/* The first may be late on a busy machine. */
	do
		(void)nanosleep(&pause, NULL);
	while ((lock.state & 0xff) != LOCK_SLEPT_ON && ++nr_pauses < 400);
	cr_assert((lock.state & 0xff) == LOCK_SLEPT_ON && counter == 0);
	lock_release(&lock, LOCK_ZONE);
	for (unsigned i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	cr_assert(counter == THREADS);
}

Test(lock, try_and_reset)
{
	cr_assert(lock_try(&lock, LOCK_PCP));
	cr_assert(!lock_try(&lock, LOCK_PCP));
	lock_release(&lock, LOCK_PCP);
	cr_assert(lock_try(&lock, LOCK_PCP));
	lock_reset(&lock);
	cr_assert(lock_try(&lock, LOCK_PCP));
	lock_release(&lock, LOCK_PCP);
}

static struct lock heaps, pcp, pcp2, zone;

static void wrong_order(void)
{
	lock_acquire(&zone, LOCK_ZONE);
	lock_acquire(&pcp, LOCK_PCP);
}

static void same_rank(void)
{
	lock_acquire(&pcp, LOCK_PCP);
	lock_acquire(&pcp2, LOCK_PCP);
}

static void not_held(void)
{
	lock_release(&zone, LOCK_ZONE);
}

Test(lock, ranks)
{
	if (PB_DEBUG == 0)
		return;
	cr_assert(dies_with(wrong_order, "check failed: lower_ranks_only"));
	cr_assert(dies_with(same_rank, "check failed: lower_ranks_only"));
	cr_assert(dies_with(not_held, "check failed: held[rank] > 0"));
	/* Several of a rank under the lowest, as fork has them. */
	lock_acquire(&heaps, LOCK_HEAPS);
	lock_acquire(&pcp, LOCK_PCP);
	lock_acquire(&pcp2, LOCK_PCP);
	lock_acquire(&zone, LOCK_ZONE);
	cr_assert(lock_held(LOCK_ZONE) && lock_held(LOCK_HEAPS) && !lock_held(LOCK_HEAP));
	lock_reset(&zone);
	lock_reset(&pcp);
	lock_release(&pcp2, LOCK_PCP);
	lock_release(&heaps, LOCK_HEAPS);
	for (unsigned rank = 0; rank < NR_LOCK_RANKS; rank++)
		cr_assert(!lock_held((enum lock_rank)rank));
}
