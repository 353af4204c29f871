/*
 * Vacating cordoned blocks: what core asks for when it has isolated a range that it wants
 * empty, for a contiguous allocation or to take it out of use.
 *
 * Slabs in the range become cold and hand out nothing more (SLAB_CORDONED).  Free objects of
 * them leave inboxes, the caches of heaps without a thread and the caller's own at once, and
 * those of other threads at the next call of each: DIVERT_LEAVE is posted after the slabs
 * have become cold, so that a thread that has answered can cache none of them again.  A slab
 * without live objects goes back.  Handles' objects are moved out (compact.h).
 *
 * The bound: from the moment on that a thread sees the request it makes one more malloc or
 * free, of any size, before nothing of the range is in its caches.  What it holds itself it
 * must free or realloc, which moves blocks out of the range.  A thread that calls neither
 * keeps what it caches (see divert.h).
 */
#ifndef PB_SHIM_VACATE_H
#define PB_SHIM_VACATE_H

#include "core/core.h"

/* core_config.vacate and vacate_end.  Without locks. */
int vacate_range(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns);
void vacate_end(pfn_t pfn, size_t nr_pages);

struct heap;
struct slab;
/* Runs fn on every slab that begins in the block of pfn, under the lock of its heap; how many
 * there were. */
unsigned vacate_each_slab(pfn_t pfn, void (*fn)(struct heap *h, struct slab *s, void *arg),
			  void *arg);

/* Whether a live page run should move: a hint. */
bool vacate_is_wanted(const void *p, size_t nr_bytes);

#endif
