/*
 * A trace's objects on the page allocator alone: as little between malloc and pages as can
 * be, so that what is measured is core.
 *
 * Objects of up to 16 KiB share runs of 64 KiB with others of their size class and thread,
 * the fullest of the last few first; larger ones take page runs of exactly their size.  Each
 * thread of the trace has a pcp of its own.  All calls are made by one thread of the system.
 */
#ifndef PB_WORKLOADS_PAGES_H
#define PB_WORKLOADS_PAGES_H

#include "core/core.h"

#define PAGES_SMALL_MAX ((size_t)16 << 10)
#define PAGES_CLASSES 36u
#define PAGES_GROUPS 16u

struct slab;

struct pages_thread {
	struct pcp pcp;
	struct slab *partial[PAGES_GROUPS][PAGES_CLASSES];
};

struct pages_object {
	void *addr;
	struct slab *slab; /* NULL: a run of its own */
	size_t nr_pages;   /* of such a run */
};

struct pages {
	struct pages_thread *threads;
	struct pages_object *objects;
	struct slab *unused;
	unsigned group; /* of what is allocated next: groups share no slabs */
	uint64_t nr_requests; /* made of the page allocator, frees included */
};

/* False: no memory. core_init() has been called. */
bool pages_init(struct pages *pages, unsigned nr_threads, size_t nr_objects);
/* The object's address, or NULL. */
void *pages_alloc(struct pages *pages, unsigned thread, size_t object, size_t size,
		  unsigned align_log2);
void pages_free(struct pages *pages, unsigned thread, size_t object);

#endif
