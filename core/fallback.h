/*
 * What to do when a type has no room of its own.
 */
#ifndef PB_CORE_FALLBACK_H
#define PB_CORE_FALLBACK_H

#include "core/pageblock.h"

/* All under the zone lock. */

/* A wholly free block of any type but CMA, made to be of type mt; NULL: none. */
struct pageblock *fallback_claim_whole(enum migratetype mt, bool dirty);

/*
 * The last resorts: a block of another type that has a free run of the order.  It is
 * claimed for mt when at least half of it is free, else it keeps its type.  NULL: no
 * block at all has one.
 */
struct pageblock *fallback_steal(enum migratetype mt, unsigned order);

#endif
