/*
 * What is put before every file of core when it is compiled for simulate.c (-include): locks
 * are the simulator's.  core/lock.c and core/os.c are compiled without.
 */
#ifndef PB_WORKLOADS_SIMULATE_H
#define PB_WORKLOADS_SIMULATE_H

#include "core/core.h"

void simulate_acquire(struct lock *lock, enum lock_rank rank);
void simulate_release(struct lock *lock, enum lock_rank rank);
bool simulate_try(struct lock *lock, enum lock_rank rank);

#ifdef SIMULATED
#define lock_acquire simulate_acquire
#define lock_release simulate_release
#define lock_try simulate_try
#endif

#endif
