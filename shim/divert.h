/*
 * Diverting a heap: its thread leaves the fast paths at its next malloc and its next free,
 * comes by a slow path, and does what others asked of it.  That is how a running thread is
 * reached without a branch on the fast paths: every size leads to a bin that is always
 * empty, and no bin has an owner.
 *
 * What a thread that sleeps has in its bins and slots cannot be taken: at most BIN_BYTES_MAX
 * for each class and OUTGOING_BYTES_MAX for each slot (limits.c, remote.c).
 */
#ifndef PB_SHIM_DIVERT_H
#define PB_SHIM_DIVERT_H

#include "shim/heap.h"

/* To give up all that the heap caches; or what it has of cordoned slabs. */
#define DIVERT_SETTLE 1u
#define DIVERT_LEAVE 2u
/* To begin or to end counting mallocs for the next sample: see sample.h.  While they are
 * counted all small mallocs stay diverted, and frees do not. */
#define DIVERT_SAMPLE 4u
/* To come by: see linger.h. */
#define DIVERT_COME_BY 8u
/* Nothing of this heap: another of its thread's is asked. */
#define DIVERT_OTHERS 16u
/* 32 is DIVERT_TRAPPED, in heap.h. */

/* Asks the heap's thread; heaps without one are left alone.  By anybody, without the lock. */
void divert_heap(struct heap *h, unsigned requests);

/* The heap's thread, which is the caller, is to come by when it next asks for one of every NR_TRAPS
 * small sizes, NR_TRAPS: for none, or when linger_is_due(): for who does much of the same that is
 * not before it does something else.  Nothing happens when it is asked for more already. */
#define NR_TRAPS 16u
void divert_trap(struct heap *h, unsigned which);

/* --- under the heap's lock --- */

/* A new heap. */
void divert_setup(struct heap *h);
/* The thread that may push into the small bins, 0: none.  Of a heap that is not diverted. */
void divert_set_owner(struct heap *h, uintptr_t thread_pointer);
/* Mallocs find the bins again; returns what was asked for.  divert_set_owner() comes next. */
unsigned divert_end(struct heap *h);

#endif
