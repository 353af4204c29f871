/*
 * What the fast paths leave by a jump: any size, any pointer, any state of the thread.
 */
#ifndef PB_SHIM_SLOW_H
#define PB_SHIM_SLOW_H

#include <stddef.h>

/* NULL: no memory (ENOMEM). */
void *slow_malloc(size_t size);
/* Keeps errno; what is no live block stops the program. */
void slow_free(void *p);

#endif
