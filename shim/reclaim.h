/*
 * Getting memory back when it is asked for: by the program, by an operator, under pressure.
 */
#ifndef PB_SHIM_RECLAIM_H
#define PB_SHIM_RECLAIM_H

#include <stddef.h>
#include <stdint.h>

/* Registers the work that is due when core is pressed. */
void reclaim_init(void);

/* What the program's caches said they have freed, for statistics. */
uint64_t reclaim_shrunk_bytes(void);

/* core_config.pressed: takes no locks. */
void reclaim_pressed(void);

#endif
