/*
 * Lingering: where there is no background thread, work that is left for a little later is
 * done by whoever comes by a slow path then.  A program that frees much and goes on with a few
 * blocks now and then stays on the fast paths for good, and would keep all it has freed.  So
 * its heap is diverted: the next malloc or free comes by, and the one after that, until the
 * work is done.
 *
 * A thread that comes by more than eight times a millisecond, for longer than its bucket holds, is
 * asked by traps (divert.h) towards the end, and then left alone until a slow path finds that it
 * has saved visits again.
 */
#ifndef PB_SHIM_LINGER_H
#define PB_SHIM_LINGER_H

#include "shim/heap.h"

void linger_init(void);
/* Of a heap with traps: whether so much time has passed that its thread is to come by at once. */
bool linger_is_due(const struct heap *h);

#endif
