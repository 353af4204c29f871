/*
 * Holes: pages of slabs without a live object go back to the system.
 *
 * After a peak most pages of small objects still hold one survivor, but many hold none.
 * holes.c looks for these in slabs that are left alone, and gives them back where enough
 * of a pageblock is holes to be worth breaking its huge page.
 */
#ifndef PB_SHIM_HOLES_H
#define PB_SHIM_HOLES_H

#include "shim/heap.h"

/* Once, before the first heap. */
void holes_init(uint64_t decay_ns);
/* How long a slab is left alone before it is looked at. */
void holes_set_decay(uint64_t decay_ns);

/* Gives all there are back, whatever their age; the bytes given back. */
size_t holes_purge_all(void);

extern _Atomic bool holes_armed;
void holes_arm(void);

/* A slab has become emptier: there may be holes a while from now.  Any thread, any lock. */
static inline void holes_note(void)
{
	/* Relaxed: a hint; a pass that begins meanwhile sees the slab or is told again. */
	if (unlikely(!atomic_load_explicit(&holes_armed, memory_order_relaxed)))
		holes_arm();
}

void holes_fork_prepare(void);
void holes_fork_parent(void);
void holes_fork_child(void);

#endif
