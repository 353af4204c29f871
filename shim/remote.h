/*
 * Frees of objects of other heaps: collected by heap in the freeing thread's outgoing
 * slots, and given back many at a time.
 */
#ifndef PB_SHIM_REMOTE_H
#define PB_SHIM_REMOTE_H

#include "shim/heap.h"

/* h: the calling thread's heap; to: the object's. */
void remote_free(struct heap *h, struct heap *to, size_t nr_bytes, struct object *o);
/* Everything in the slots; by the heap's thread, or under the heaps lock if it has none. */
void remote_deliver_all(struct heap *h);
/* In the child of fork: the slots of a thread that is gone. */
void remote_mend_slots(struct heap *h);

#endif
