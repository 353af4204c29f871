/*
 * Memory on demand, as the program asks for it: pb_reclaim(), and the caches of its own
 * that it has registered.
 *
 * A place of the table is free, taken, or on its way; whoever calls a shrinker holds the
 * mutex, so that there is one call at a time and unregistering can wait for it.  A fork
 * child takes the mutex for its own: nobody is in a call there.
 */
#define _GNU_SOURCE
#include "preload/background.h"
#include "preload/export.h"
#include "preload/pageblock.h"
#include "preload/shrink.h"
#include "shim/shim.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SHRINKERS_MAX 64

static struct shrinker {
	pb_shrinker_fn *fn; /* NULL: none */
	void *arg;
} shrinkers[SHRINKERS_MAX];

/* Protects the table; held during a call. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread bool calling;

/* Asks each in turn until it is enough. */
static size_t shrink_all(size_t nr_bytes)
{
	size_t freed = 0;

	/* A shrinker that asks for memory back gets no shrinkers. */
	if (calling || pthread_mutex_lock(&mutex) != 0)
		return 0;
	calling = true;
	for (unsigned i = 0; i < SHRINKERS_MAX && freed < nr_bytes; i++) {
		size_t more = shrinkers[i].fn == NULL
				      ? 0
				      : shrinkers[i].fn(nr_bytes - freed, shrinkers[i].arg);

		freed = more > SIZE_MAX - freed ? SIZE_MAX : freed + more;
	}
	calling = false;
	(void)pthread_mutex_unlock(&mutex);
	return freed;
}

/* By the shrinker itself: it holds the mutex. */
static void lock(void)
{
	if (!calling)
		(void)pthread_mutex_lock(&mutex);
}

static void unlock(void)
{
	if (!calling)
		(void)pthread_mutex_unlock(&mutex);
}

EXPORT int pb_register_shrinker(pb_shrinker_fn *fn, void *arg)
{
	int number = 0;

	if (fn == NULL) {
		errno = EINVAL;
		return -1;
	}
	lock();
	while (number < SHRINKERS_MAX && shrinkers[number].fn != NULL)
		number++;
	if (number < SHRINKERS_MAX)
		shrinkers[number] = (struct shrinker){.fn = fn, .arg = arg};
	unlock();
	if (number == SHRINKERS_MAX) {
		errno = ENOSPC;
		return -1;
	}
	shim_set_shrink(shrink_all);
	background_want();
	return number;
}

EXPORT int pb_unregister_shrinker(int number)
{
	bool there;

	if (number < 0 || number >= SHRINKERS_MAX) {
		errno = EINVAL;
		return -1;
	}
	lock();
	there = shrinkers[number].fn != NULL;
	shrinkers[number].fn = NULL;
	unlock();
	if (!there)
		errno = EINVAL;
	return there ? 0 : -1;
}

void shrink_fork_child(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	/* Whoever held it may be gone; the caller itself forks in a call only if it does. */
	if (!calling)
		mutex = fresh;
}

EXPORT size_t pb_reclaim(size_t nr_bytes, uint64_t deadline)
{
	return shim_reclaim(nr_bytes, deadline);
}
