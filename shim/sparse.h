/*
 * Sparse blocks drain: new objects go elsewhere, so that those that are there leave whole
 * pageblocks behind when they die.
 *
 * Each pass of holes.c counts how full the blocks of small objects are.  Of those with less
 * than a quarter of their slabs' bytes live, the sparser half drain: their slabs are being
 * emptied (SLAB_EMPTYING), so that what is freed in them does not wait in a thread's cache to be
 * handed out again, and refills take from them only when their class has nothing else.
 *
 * The bounds: a new slab is made exactly when one would have been made without, because a
 * draining slab that is needed stops being one.  What may be faulted in instead of it is no
 * more than the free objects of draining blocks that are resident.  Each block in
 * use costs one slow free for each object that was live in it.
 */
#ifndef PB_SHIM_SPARSE_H
#define PB_SHIM_SPARSE_H

#include <stdbool.h>
#include <stddef.h>

/* Under the holes lock: counts a block of the pass in progress; whether it is to drain. */
bool sparse_count(size_t slab_bytes, size_t live_bytes);
/* The pass is over: what it has counted decides in the next one. */
void sparse_pass_ends(void);

#endif
