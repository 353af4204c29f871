/* Stacks by an unwinder that is only loaded when somebody wants to have some. */
#ifndef PB_PRELOAD_UNWIND_H
#define PB_PRELOAD_UNWIND_H

#include <stdbool.h>

/* Loads it and does what it does the first time; false: there is none here. */
bool unwind_load(void);

/* The callers of malloc in the calling thread, innermost first; how many. */
unsigned unwind_stack(void **frames, unsigned max);

#endif
