/*
 * Named pause points: debug builds can stop a thread between two steps of a protocol, so
 * that a test decides what happens meanwhile.  Release builds have no trace of them.
 *
 * PAUSE(name) calls the hook, if a test has set one (tests/support/sched.c does).
 */
#ifndef PB_CORE_PAUSE_H
#define PB_CORE_PAUSE_H

#include "core/util.h"

#include <stdatomic.h>

enum pause_point {
#define PAUSE_POINT(name, where) PAUSE_##name,
#include "core/pauses.def"
#undef PAUSE_POINT
	NR_PAUSE_POINTS
};

#if PB_DEBUG >= 1

typedef void (*pause_hook_t)(enum pause_point point);
/* Set by tests before they start threads. */
extern _Atomic(pause_hook_t) pause_hook;

static inline void pause_at(enum pause_point point)
{
	/* Acquire pairs with the test's store: what the hook works on is set up. */
	pause_hook_t hook = atomic_load_explicit(&pause_hook, memory_order_acquire);

	if (unlikely(hook != NULL))
		hook(point);
}

#define PAUSE(name) pause_at(PAUSE_##name)

#else

#define PAUSE(name) ((void)0)

#endif

#endif
