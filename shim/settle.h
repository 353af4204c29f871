/*
 * Settling: free objects leave chains for the bitmaps of their slabs, where they belong to
 * nobody's cache.
 *
 * A chain is a NULL-terminated list of free objects, each with the key in its second word.
 * A stray is an object whose slab has gone to another heap since it was freed.
 */
#ifndef PB_SHIM_SETTLE_H
#define PB_SHIM_SETTLE_H

#include "shim/heap.h"

/* Under the heap's lock: one object, a chain, the inbox of a class.  False, or the chain
 * of them, for strays. */
bool settle_object(struct heap *h, struct object *o) MUST_CHECK;
struct object *settle_chain(struct heap *h, struct object *o);
struct object *settle_inbox(struct heap *h, unsigned cls);
/* By the heap's thread, or for a heap without one: what its bins and inboxes have of cordoned
 * slabs. */
struct object *settle_cordoned(struct heap *h);
/* Without locks: strays go to the heaps they belong to. */
void settle_strays(struct object *o);

/* All of a before all of b. */
struct object *settle_join(struct object *a, struct object *b);

/* By the bin's thread: all of it. */
struct object *settle_empty_bin(struct bin *b);
/* Sets what the fast path counts down from, for a bin of this length: max - room is the
 * length at all times.  A bin that is longer than it may be is settled by the next push. */
void settle_set_length(struct bin *b, uint32_t length);
/* By the bin's thread: the room is used up, so the bin grows, or a batch goes. */
void settle_bin(struct heap *h, struct bin *b);

#endif
