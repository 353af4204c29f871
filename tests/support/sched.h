/*
 * A deterministic scheduler: the threads of a test run one at a time, and change only at
 * pause points (core/pauses.def), where they wait for a lock, and where they yield.
 *
 * A directed test says which thread runs and up to where.  A seeded one lets
 * sched_random() choose; the same seed makes the same choices.  Core must be built with
 * pause points and linked to the fake operating system.
 *
 * The test's own thread is not among those scheduled: while others are stopped it must
 * not wait for anything they hold; if it does, the program stops and says so.
 */
#ifndef PB_TESTS_SCHED_H
#define PB_TESTS_SCHED_H

#include "core/pause.h"

#include <stdbool.h>
#include <stdint.h>

#define SCHED_THREADS 8u

enum sched_state { SCHED_READY, SCHED_BLOCKED, SCHED_ENDED };

/* Makes a thread, which does not run yet; its number, from 0. */
unsigned sched_spawn(void *(*function)(void *), void *arg);
enum sched_state sched_state(unsigned thread);
/* How many times it has stopped so far. */
unsigned sched_stops(unsigned thread);

/* Runs one thread to its next stop; false: it has ended, or waits for a lock. */
bool sched_step(unsigned thread);
/* Runs one thread until it stops at the point; false: it ended or waits before that. */
bool sched_run_to(unsigned thread, enum pause_point point);
/* Runs one thread to its end; false: it waits for a lock, or for something that does not come. */
bool sched_run(unsigned thread);
/* Runs all of them to their ends in an order given by the seed; false: nobody can go on. */
bool sched_random(uint64_t seed);

/* Called by the test's thread after each stop of another, when set: looks, and changes nothing. */
extern void (*sched_at_each_stop)(void);

/* Says what has run since the last sched_end(), a line a stop, the last ones only. */
void sched_print(void);
/* All threads have ended: forgets them. */
void sched_end(void);

#endif
