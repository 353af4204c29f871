/*
 * Births: objects of sites that are watched from birth to death.
 *
 * A watched object stands in a heap of its own, whose slabs are cold (SLAB_WATCHED), so that
 * its free is seen, exactly, and nobody else pays for that.  Sizes are rounded up to powers of
 * two there, which keeps it to a slab for each; what is watched at one time is bounded in
 * number (BIRTHS_MAX) and in bytes (sites.c says how many).  A record has the site, which knows
 * the rest (survival.h).
 *
 * An object may outlive its record: then its death is seen, and says nothing.
 */
#ifndef PB_SHIM_BIRTHS_H
#define PB_SHIM_BIRTHS_H

#include "shim/heap.h"

#define BIRTHS_MAX 2048u

struct birth {
	uintptr_t object; /* 0: none */
	uintptr_t site;
};

/* An object of at least so many bytes, SMALL_MAX at most, which is not watched yet; NULL: no
 * memory.  Without locks. */
void *births_alloc(size_t size);

/* --- under the sites lock --- */

/* Bytes of objects from births_alloc() that live. */
uint64_t births_bytes(void);
/* False: there is no room for one more. */
bool births_add(struct birth birth);
/* The object dies; its record, or one with site 0 when it has none. */
struct birth births_end(const void *object, size_t nr_bytes);
/* The object is watched no longer, and lives; its record, or one with site 0. */
struct birth births_forget(uintptr_t object);

#endif
