/*
 * Handles: objects without an address of their own, which the compactor may move while
 * nobody has them pinned.  This is what is movable for real; a pointer of malloc is not.
 *
 * An object stands in a slab of MOVABLE pages that belongs to the heap of handles, or in a
 * page run, behind a header that leads back to its entry.
 *
 * entry.state, changed by atomics only:
 *     63        32  27    26       25      24   23     0
 *    | generation |    | WANTED | MOVING | LIVE | pins  |
 * LIVE and the generation say whether a handle is good; MOVING excludes new pins, and
 * whoever meets it waits; WANTED: the last to unpin moves it, because its block is to be
 * vacated.  A pin's acquire pairs with the release that ends MOVING, an unpin's release
 * with the acquire that begins it, so that the copy has all that was written.
 */
#ifndef PB_SHIM_HANDLE_H
#define PB_SHIM_HANDLE_H

#include "shim/heap.h"

/* How often the object of a handle is pinned at this moment. */
unsigned handle_pins(uint64_t handle);

/* The heap of handles, if there is one yet. */
struct heap *handle_heap(void);

/* --- for the compactor, who holds its lock (compact.h) --- */

/* What stands in front of every object. */
struct handle_object {
	uint32_t index;    /* of its entry */
	uint32_t nr_pages; /* of its run; 0: it is in a slab */
	uint64_t nr_bytes; /* of the payload, which follows */
};
STATIC_ASSERT(sizeof(struct handle_object) % ALIGN_MIN == 0, "payloads are aligned");

/*
 * Takes the object for itself: nobody can pin or free it until it is migrated or put back.
 * False: it is pinned (and then wanted, if `wanted`), being freed, or isolated already.
 */
bool handle_isolate(struct handle_object *o, bool wanted) MUST_CHECK;
/* Moves an isolated object to another place; false: there is no room, it is still isolated. */
bool handle_migrate(struct handle_object *o) MUST_CHECK;
void handle_putback(struct handle_object *o);
/* The same by its handle, which is wanted: the object, or NULL. */
struct handle_object *handle_isolate_named(uint64_t handle);

#endif
