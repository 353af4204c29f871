/*
 * Work that nobody waits for: giving back, and whatever else is done a while later.
 *
 * Each kind says when it is due and is run in slices: by the background thread when
 * there is one, else by slow paths of the program's threads, which also step in when the
 * background thread is late.  With nothing due, a slow path pays one load, and the
 * background thread sleeps for good.
 *
 * Any thread may call these functions, with or without locks, unless it says otherwise.
 */
#ifndef PB_CORE_WORK_H
#define PB_CORE_WORK_H

#include "core/inspect.h"
#include "core/util.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WORK_NEVER UINT64_MAX
/* How late the background thread may be before slow paths step in: 100 ms. */
#define WORK_GRACE_NS ((uint64_t)100 * 1000 * 1000)

/* One kind of work, in static memory. */
struct work {
	/*
	 * Does one slice, a millisecond or so, with no locks held and never twice at a time.
	 * now_ns as of os_now_ns().  Returns when it wants to be run next: 0 at once,
	 * WORK_NEVER not before work_due() says so.
	 */
	uint64_t (*run)(uint64_t now_ns);
	/* Only the background thread does it: it waits until there is one. */
	bool background;
	/* The rest is work.c's. */
	_Atomic uint64_t due_ns;
	_Atomic bool running;
	struct work *next;
};

/* Adds a kind of work, for good; not due at first. */
void work_add(struct work *work);

/* It shall be run at this time, or earlier if it was due earlier.  Never waits for a lock. */
void work_due(struct work *work, uint64_t due_ns);

/* When the earliest work is due, and the grace that slow paths give it. */
extern _Atomic uint64_t work_next_ns;

/* What work_tick() does once something may be due. */
void work_tick_slow(uint64_t next_ns);

/* At the end of a slow path, without locks: runs a slice of each work that is due, and
 * answers who asks from outside (inspect.h). */
static inline void work_tick(void)
{
	/* Relaxed: a hint; what is due is found out by work_run(). */
	uint64_t next_ns = atomic_load_explicit(&work_next_ns, memory_order_relaxed);

	if (unlikely(next_ns != WORK_NEVER || inspect_is_asked()))
		work_tick_slow(next_ns);
}

/*
 * Called by slow paths of threads at the end of work_tick(), while there is no background
 * thread and work is left for later: the caller shall come by again, as far as it can be
 * had for that.  Without locks.  Set once, at the start.
 */
typedef void work_linger_fn(uint64_t now_ns, uint64_t next_ns);
void work_set_linger(work_linger_fn *linger);

/* --- for the background thread ------------------------------------------------------ */

/* Runs a slice of each work that is due, and answers requests; when the next is due.
 * Without locks. */
uint64_t work_run(uint64_t now_ns);

/*
 * The caller is going to sleep until until_ns: from now on somebody who makes work due
 * earlier calls wake(), once, perhaps under locks.  False: something is due earlier by now.
 */
bool work_sleep(uint64_t until_ns);
/* It no longer sleeps. */
void work_awake(void);

/*
 * The socket, with its device and inode, into which a byte from outside of the process
 * wakes the background thread so that it answers a request; fd -1: there is none.
 */
struct work_waker {
	_Atomic int32_t fd;
	uint32_t unused;
	uint64_t dev, ino;
};
extern struct work_waker work_waker;

/*
 * There is a background thread from now on, which wake() wakes (from any thread, without
 * taking locks), or, NULL, there is none any more.
 */
void work_background(void (*wake)(void));
bool work_has_background(void);
/* Whether the caller is that thread, or whatever else calls work_run() by itself. */
bool work_is_background(void);

/* The child of fork has no background thread, and nobody is in the middle of anything. */
void work_fork_child(void);

#endif
