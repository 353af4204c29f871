/*
 * Isolation, as the rest of core sees it.
 */
#ifndef PB_CORE_ISOLATE_H
#define PB_CORE_ISOLATE_H

#include "core/pageblock.h"

/* The owner of blocks that are offline. */
#define ISOLATE_OFFLINE UINT32_MAX
/*
 * Owners with this bit are calls of core in progress.  What they have isolated is undone
 * in the child of a fork, where nobody else would.
 */
#define ISOLATE_CORE ((uint32_t)1 << 31)

uint32_t isolate_owner_core(void);

/* --- under the zone lock --- */

/* Whether the block can be isolated at this moment. */
bool isolate_possible_locked(const struct pageblock *block);
void isolate_mark_locked(struct pageblock *block, uint32_t owner);
void isolate_unmark_locked(struct pageblock *block);
/* Hands an isolated block on to another owner. */
void isolate_rename_locked(struct pageblock *block, uint32_t owner);
/* Whether all pages of a range, which must lie in committed blocks, are free. */
bool isolate_is_free_locked(pfn_t pfn, size_t nr_pages);

/* In the child of a fork: undoes what other threads of the parent were at. */
void isolate_fork_child(void);

#endif
