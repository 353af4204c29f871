/*
 * The deterministic scheduler.  See sched.h.
 *
 * Each thread has a semaphore it sleeps on, and the test has one: whoever lets another run
 * goes to sleep itself, so that one thread runs at any time and nothing depends on the
 * system's own scheduler.
 *
 * sched_random() takes one of three strategies by the seed: any thread at any stop; any but
 * those that are stalled for long at one pause point, chosen by the seed too; or the
 * probabilistic concurrency testing of Burckhardt, Kothari, Musuvathi and Nagarakatte
 * (ASPLOS 2010): threads have random priorities, the highest runs, and at a few random
 * stops the running one falls behind all others, which finds bugs of few preemptions with
 * a known probability.
 */
#include "tests/support/sched.h"

#include "core/core.h"
#include "tests/support/fake_os.h"
#include "tests/support/random.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* Stops after which nothing more is expected to come of it. */
#define STOPS_MAX 200000u
#define TRACE 256u
/* Stops beside those at pause points. */
#define STOP_STARTED NR_PAUSE_POINTS
#define STOP_BLOCKED (NR_PAUSE_POINTS + 1)
#define STOP_YIELD (NR_PAUSE_POINTS + 2)
#define STOP_ENDED (NR_PAUSE_POINTS + 3)

struct thread {
	pthread_t pthread;
	sem_t may_run;
	enum sched_state state;
	unsigned at;
	unsigned nr_stops;
	_Atomic uint32_t *waits_for;
	void *(*function)(void *);
	void *arg;
	int priority;
	unsigned stalled_until; /* a number of stops */
};

void (*sched_at_each_stop)(void);

static struct thread threads[SCHED_THREADS];
static unsigned nr_threads;
static sem_t test_may_run;
static __thread struct thread *self;

static struct {
	uint8_t thread, at;
} trace[TRACE];
static unsigned nr_trace;

static const char *const stop_names[] = {
#define PAUSE_POINT(name, where) #name,
#include "core/pauses.def"
#undef PAUSE_POINT
	"(starts)", "(waits for a lock)", "(yields)", "(has ended)",
};

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

/* The running thread stops, and the test goes on. */
static void stop_at(unsigned at)
{
	self->at = at;
	self->nr_stops++;
	(void)sem_post(&test_may_run);
	wait_for(&self->may_run);
}

/* --- where threads stop ------------------------------------------------------------------ */

static void at_pause(enum pause_point point)
{
	if (self != NULL)
		stop_at(point);
}

static bool at_futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	if (self == NULL) {
		fprintf(stderr, "sched: the test itself waits for a thread that is stopped\n");
		sched_print();
		abort();
	}
	/* Relaxed: one thread runs at a time, and semaphores are between them. */
	if (atomic_load_explicit(word, memory_order_relaxed) == value) {
		self->waits_for = word;
		self->state = SCHED_BLOCKED;
		stop_at(STOP_BLOCKED);
	}
	return true;
}

static bool at_futex_wake(_Atomic uint32_t *word, int nr)
{
	for (unsigned i = 0; i < nr_threads && nr > 0; i++)
		if (threads[i].state == SCHED_BLOCKED && threads[i].waits_for == word) {
			threads[i].state = SCHED_READY;
			nr--;
		}
	return true;
}

static void at_yield(void)
{
	if (self != NULL)
		stop_at(STOP_YIELD);
}

static void *start(void *arg)
{
	self = arg;
	wait_for(&self->may_run);
	(void)self->function(self->arg);
	self->state = SCHED_ENDED;
	self->at = STOP_ENDED;
	(void)sem_post(&test_may_run);
	return NULL;
}

/* --- the test's side --------------------------------------------------------------------- */

unsigned sched_spawn(void *(*function)(void *), void *arg)
{
	struct thread *thread = &threads[nr_threads];

	if (nr_threads == 0) {
		(void)sem_init(&test_may_run, 0, 0);
		fake_os.futex_wait = at_futex_wait;
		fake_os.futex_wake = at_futex_wake;
		fake_os.yielded = at_yield;
		/* Release pairs with pause_at(). */
		atomic_store_explicit(&pause_hook, at_pause, memory_order_release);
	}
	*thread = (struct thread){.function = function, .arg = arg, .at = STOP_STARTED};
	(void)sem_init(&thread->may_run, 0, 0);
	if (nr_threads == SCHED_THREADS ||
	    pthread_create(&thread->pthread, NULL, start, thread) != 0)
		abort();
	return nr_threads++;
}

enum sched_state sched_state(unsigned thread)
{
	return threads[thread].state;
}

unsigned sched_stops(unsigned thread)
{
	return threads[thread].nr_stops;
}

bool sched_step(unsigned number)
{
	struct thread *thread = &threads[number];

	if (thread->state != SCHED_READY)
		return false;
	(void)sem_post(&thread->may_run);
	wait_for(&test_may_run);
	trace[nr_trace % TRACE].thread = (uint8_t)number;
	trace[nr_trace % TRACE].at = (uint8_t)thread->at;
	nr_trace++;
	if (sched_at_each_stop != NULL)
		sched_at_each_stop();
	return thread->state == SCHED_READY;
}

bool sched_run_to(unsigned thread, enum pause_point point)
{
	for (unsigned i = 0; i < STOPS_MAX && sched_step(thread); i++)
		if (threads[thread].at == (unsigned)point)
			return true;
	return false;
}

bool sched_run(unsigned thread)
{
	for (unsigned i = 0; i < STOPS_MAX && sched_step(thread); i++)
		;
	return threads[thread].state == SCHED_ENDED;
}

enum strategy { BY_CHANCE, STALLING, BY_PRIORITY, NR_STRATEGIES };

/* The one of two that runs first, by priority. */
static unsigned first_of(unsigned a, unsigned b)
{
	return a == SCHED_THREADS || threads[b].priority > threads[a].priority ? b : a;
}

/* One that can run at this stop; SCHED_THREADS: none can. */
static unsigned choose(struct random *random, enum strategy strategy, unsigned now)
{
	unsigned ready[SCHED_THREADS];
	unsigned nr = 0, best = SCHED_THREADS;

	for (unsigned i = 0; i < nr_threads; i++) {
		if (threads[i].state != SCHED_READY)
			continue;
		best = first_of(best, i);
		if (threads[i].stalled_until <= now)
			ready[nr++] = i;
	}
	if (nr == 0 || strategy == BY_PRIORITY)
		return best;
	return ready[random_below(random, nr)];
}

/* After a thread's stop: whether it shall stay there for a while. */
static void hold_back(struct random *random, enum strategy strategy, unsigned stall_at,
		      struct thread *thread, unsigned now)
{
	static int lowest;

	if (now == 0)
		lowest = 0;
	/* One that yields waits for the others; now and then one falls behind. */
	if (thread->at == STOP_YIELD || random_below(random, 64) == 0)
		thread->priority = --lowest;
	if (strategy == STALLING && thread->at == stall_at && random_below(random, 2) == 0)
		thread->stalled_until = now + (unsigned)random_below(random, 600);
}

bool sched_random(uint64_t seed)
{
	struct random random;
	enum strategy strategy;
	unsigned stall_at, thread;

	random_seed(&random, seed);
	strategy = (enum strategy)random_below(&random, NR_STRATEGIES);
	stall_at = (unsigned)random_below(&random, NR_PAUSE_POINTS);
	for (unsigned i = 0; i < nr_threads; i++)
		threads[i].priority = 1 + (int)random_below(&random, 1000);
	for (unsigned i = 0; i < STOPS_MAX; i++) {
		thread = choose(&random, strategy, i);
		if (thread == SCHED_THREADS)
			break;
		(void)sched_step(thread);
		hold_back(&random, strategy, stall_at, &threads[thread], i);
	}
	for (unsigned i = 0; i < nr_threads; i++)
		if (threads[i].state != SCHED_ENDED)
			return false;
	return true;
}

void sched_print(void)
{
	unsigned from = nr_trace > TRACE ? nr_trace - TRACE : 0;

	for (unsigned i = from; i < nr_trace; i++)
		fprintf(stderr, "sched: %u: thread %u %s\n", i, trace[i % TRACE].thread,
			stop_names[trace[i % TRACE].at]);
}

void sched_end(void)
{
	for (unsigned i = 0; i < nr_threads; i++) {
		if (threads[i].state != SCHED_ENDED)
			abort();
		(void)pthread_join(threads[i].pthread, NULL);
		(void)sem_destroy(&threads[i].may_run);
	}
	nr_threads = 0;
	nr_trace = 0;
	atomic_store_explicit(&pause_hook, NULL, memory_order_relaxed);
	fake_os.futex_wait = NULL;
	fake_os.futex_wake = NULL;
	fake_os.yielded = NULL;
}
