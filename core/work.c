/*
 * Work that nobody waits for.  See work.h.
 *
 * due_ns of each kind and work_next_ns only ever get earlier, but for work_run(): it takes
 * a kind's time away before it runs it and finds the earliest anew afterwards, so that what
 * becomes due meanwhile is not lost.
 *
 * Falling asleep is the other half of making due, and each looks at what the other wrote:
 *
 *   work_due()                        work_sleep()
 *     work_next_ns = due                sleeping_until = until
 *     -- full fence --                  -- full fence --
 *     sleeping_until > due?  wake       work_next_ns < until?  stay awake
 *
 * One of the two sees the other.  Not guaranteed: that a wake-up finds something to do.
 */
#include "core/work.h"

#include "core/core.h"

_Atomic uint64_t work_next_ns = WORK_NEVER;
struct work_waker work_waker = {.fd = -1};

/* Release when one is added: publishes its run and next. */
static _Atomic(struct work *) all_work;
/* Until when the background thread sleeps; 0: it does not, or there is none. */
static _Atomic uint64_t sleeping_until;
static _Atomic(void (*)(void)) wake_background;
static __thread bool is_background;
/* Written before there is any work. */
static work_linger_fn *linger;

/* Makes *word at most value, and publishes what the caller wrote before. */
static void lower(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t was = atomic_load_explicit(word, memory_order_relaxed);

	/* Release pairs with the exchange in find_next(): who forgets the minimum sees the
	 * due_ns that led to it. */
	while (value < was &&
	       !atomic_compare_exchange_weak_explicit(word, &was, value, memory_order_release,
						      memory_order_relaxed))
		;
}

static struct work *first_work(void)
{
	/* Acquire pairs with the release in work_add(). */
	return atomic_load_explicit(&all_work, memory_order_acquire);
}

void work_add(struct work *work)
{
	struct work *first = atomic_load_explicit(&all_work, memory_order_relaxed);

	/* Relaxed: published below. */
	atomic_store_explicit(&work->due_ns, WORK_NEVER, memory_order_relaxed);
	atomic_store_explicit(&work->running, false, memory_order_relaxed);
	do
		work->next = first;
	while (!atomic_compare_exchange_weak_explicit(&all_work, &first, work,
						      memory_order_release,
						      memory_order_relaxed));
}

/* Something is due at this time: the background thread is woken if it would sleep longer. */
static void announce(uint64_t due_ns)
{
	void (*wake)(void);

	lower(&work_next_ns, due_ns);
	/* Pairs with the one in work_sleep(): see above. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&sleeping_until, memory_order_relaxed) <= due_ns)
		return;
	/* Relaxed: only that just one of several wakes. */
	if (atomic_exchange_explicit(&sleeping_until, 0, memory_order_relaxed) == 0)
		return;
	/* Acquire pairs with work_background(): what wake() needs is there. */
	wake = atomic_load_explicit(&wake_background, memory_order_acquire);
	if (wake != NULL)
		wake();
}

void work_due(struct work *work, uint64_t due_ns)
{
	/* Relaxed: whoever makes it earlier meanwhile announces that himself. */
	if (due_ns >= atomic_load_explicit(&work->due_ns, memory_order_relaxed))
		return;
	lower(&work->due_ns, due_ns);
	announce(due_ns);
}

/* Forgets the earliest time and finds it anew.  What somebody else is running is left to
 * him: he comes here too.  What needs the background thread is nothing to slow paths when
 * there is none; it comes here first. */
static uint64_t find_next(void)
{
	uint64_t next_ns = WORK_NEVER;

	/* Acquire and release pair with lower(): see there. */
	(void)atomic_exchange_explicit(&work_next_ns, WORK_NEVER, memory_order_acq_rel);
	for (struct work *work = first_work(); work != NULL; work = work->next) {
		/* Acquire pairs with the release in run_one(): its due_ns is the new one. */
		bool running = atomic_load_explicit(&work->running, memory_order_acquire);
		uint64_t due_ns = atomic_load_explicit(&work->due_ns, memory_order_relaxed);

		if (!running && due_ns < next_ns && (!work->background || work_has_background()))
			next_ns = due_ns;
	}
	if (next_ns != WORK_NEVER)
		announce(next_ns);
	return next_ns;
}

static void run_one(struct work *work, uint64_t now_ns)
{
	uint64_t next_ns;

	/* Relaxed: a hint. */
	if (atomic_load_explicit(&work->due_ns, memory_order_relaxed) > now_ns ||
	    (work->background && !is_background))
		return;
	/* Acquire pairs with the release below: one slice sees what the last one did. */
	if (atomic_exchange_explicit(&work->running, true, memory_order_acquire))
		return;
	/* Relaxed: what became due before is what is run now. */
	atomic_store_explicit(&work->due_ns, WORK_NEVER, memory_order_relaxed);
	next_ns = work->run(now_ns);
	lower(&work->due_ns, next_ns);
	atomic_store_explicit(&work->running, false, memory_order_release);
}

static uint64_t run_all(uint64_t now_ns)
{
	if (unlikely(inspect_is_asked()))
		inspect_answer();
	for (struct work *work = first_work(); work != NULL; work = work->next)
		run_one(work, now_ns);
	return find_next();
}

uint64_t work_run(uint64_t now_ns)
{
	is_background = true;
	return run_all(now_ns);
}

bool work_is_background(void)
{
	return is_background;
}

COLD void work_tick_slow(uint64_t next_ns)
{
	uint64_t now_ns = os_now_ns();

	if (work_has_background())
		next_ns = next_ns > WORK_NEVER - WORK_GRACE_NS ? WORK_NEVER
							       : next_ns + WORK_GRACE_NS;
	if (now_ns >= next_ns || inspect_is_asked())
		next_ns = run_all(now_ns);
	if (next_ns != WORK_NEVER && linger != NULL && !work_has_background())
		linger(now_ns, next_ns);
}

void work_set_linger(work_linger_fn *fn)
{
	linger = fn;
}

/* --- the background thread ------------------------------------------------------------- */

bool work_sleep(uint64_t until_ns)
{
	atomic_store_explicit(&sleeping_until, until_ns, memory_order_relaxed);
	/* Pairs with the one in work_due(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&work_next_ns, memory_order_relaxed) >= until_ns)
		return true;
	work_awake();
	return false;
}

void work_awake(void)
{
	/* Relaxed: a wake-up too many does no harm. */
	atomic_store_explicit(&sleeping_until, 0, memory_order_relaxed);
}

void work_background(void (*wake)(void))
{
	/* Release pairs with the acquire in work_due(). */
	atomic_store_explicit(&wake_background, wake, memory_order_release);
	if (wake == NULL)
		work_awake();
}

bool work_has_background(void)
{
	/* Relaxed: a hint. */
	return atomic_load_explicit(&wake_background, memory_order_relaxed) != NULL;
}

void work_fork_child(void)
{
	work_background(NULL);
	for (struct work *work = first_work(); work != NULL; work = work->next) {
		/* Relaxed: there is one thread.  Its due_ns was taken by who ran it. */
		if (atomic_exchange_explicit(&work->running, false, memory_order_relaxed))
			work_due(work, 0);
	}
}
