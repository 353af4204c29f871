/*
 * What the fast paths leave by a jump: any size, any pointer, any state of the thread.
 */
#ifndef PB_SHIM_SLOW_H
#define PB_SHIM_SLOW_H

#include <stddef.h>

struct sites_caller;

/* NULL: no memory (ENOMEM). */
void *slow_malloc(size_t size);
/* The same in a place, for a site that shall be known. */
void *slow_malloc_at(size_t size, unsigned place, struct sites_caller *caller);
/* Keeps errno; what is no live block stops the program. */
void slow_free(void *p);

#endif
