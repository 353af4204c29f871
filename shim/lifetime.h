/*
 * Lifetimes that a program says for a stretch of its code: blocks allocated there come from
 * heaps, and pageblocks, of their own.
 */
#ifndef PB_SHIM_LIFETIME_H
#define PB_SHIM_LIFETIME_H

#include "core/core.h"

enum lifetime { LIFETIME_UNKNOWN, LIFETIME_SHORT, LIFETIME_LONG, NR_LIFETIMES };

/* Levels of nesting that are remembered. */
#define LIFETIME_DEPTH 32u

/* Until the matching pop the calling thread allocates what is thought to live so long. */
void lifetime_push(enum lifetime lifetime);
/* Without a push nothing happens. */
void lifetime_pop(void);
/* What the calling thread said last. */
enum lifetime lifetime_now(void);

#endif
