/*
 * Is it really a double free?  The key in an object's second word is a suspicion, because
 * a program may have copied it from memory it never wrote; here it is made certain.
 */
#ifndef PB_SHIM_SUSPECT_H
#define PB_SHIM_SUSPECT_H

#include <stdbool.h>

struct slab;

/* Whether the object at p, whose second word is the key, is free indeed.  Without locks. */
bool suspect_is_freed(struct slab *s, const void *p);

#endif
