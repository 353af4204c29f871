/*
 * Large objects: MOVABLE page runs with a single owner, exactly as long as needed.
 * The run's length stands in the client area, in the word of its first page.
 */
#ifndef PB_SHIM_LARGE_H
#define PB_SHIM_LARGE_H

#include <stdbool.h>
#include <stddef.h>

/* Pages for size bytes (> 0), aligned to 2^align_order pages; NULL when there is no room.
 * *zeroed (may be NULL): whether it reads as zero. */
void *large_alloc(size_t size, unsigned align_order, bool *zeroed);
/* The same, by making a pageblock free (compact.h); for sizes of up to one. */
void *large_alloc_compacting(size_t size);
/* p is in a span and in no slab; anything but a live run's start stops the program. */
void large_free(void *p);
/* The same resized, moved if need be; NULL when there is no room and p is as it was. */
void *large_realloc(void *p, size_t size);
/* Bytes of the live run at p; stops the program when there is none, naming the call. */
size_t large_bytes(const void *p, const char *call);

#endif
