/*
 * Fallback between migratetypes, in the kernel's order of things.
 *
 * A whole block changes sides freely: nothing of another kind is in it.  A partly used
 * one is claimed only when at least half of it is free, so that what follows finds room
 * in the same block; failing that one run is taken where it hurts least, the fullest
 * block, or one that is kept for a kind, and the rest stays with the block's own type.
 * That last step has no further conditions: grouping never makes an allocation fail (R10).
 *
 * CMA blocks never change their type (R1).  They are lent to MOVABLE and RECLAIMABLE
 * requests, as the very last resort, after growth: see contig.c.  Isolated blocks are on
 * no list, so they are never seen here.
 */
#include "core/fallback.h"

#include "core/index.h"
#include "core/zone.h"

#define NR_FALLBACKS 2u

static const uint8_t fallbacks[NR_MIGRATETYPES][NR_FALLBACKS] = {
#define MIGRATETYPE(name, label, f1, f2) {MIGRATE_##f1, MIGRATE_##f2},
#include "core/migratetype.def"
#undef MIGRATETYPE
};

struct pageblock *fallback_claim_whole(enum migratetype mt, bool dirty)
{
	for (unsigned i = 0; i < NR_FALLBACKS; i++) {
		unsigned other = fallbacks[mt][i];
		struct pageblock *block;

		if (other == MIGRATE_NONE)
			continue;
		block = index_whole((enum migratetype)other, dirty);
		if (block != NULL) {
			zone_set_type_locked(block, mt);
			return block;
		}
	}
	return NULL;
}

static struct pageblock *claim_half_free(enum migratetype mt, unsigned order)
{
	for (unsigned i = 0; i < NR_FALLBACKS; i++) {
		unsigned other = fallbacks[mt][i];
		struct pageblock *block;

		if (other == MIGRATE_NONE)
			continue;
		block = index_emptiest((enum migratetype)other, order);
		if (block != NULL && block->nr_free * 2 >= PAGEBLOCK_PAGES) {
			zone_set_type_locked(block, mt);
			return block;
		}
	}
	return NULL;
}

struct pageblock *fallback_steal(enum migratetype mt, unsigned order)
{
	struct pageblock *block = claim_half_free(mt, order);

	if (block != NULL)
		return block;
	for (unsigned i = 0; i < NR_FALLBACKS; i++) {
		unsigned other = fallbacks[mt][i];

		if (other == MIGRATE_NONE)
			continue;
		block = index_fullest((enum migratetype)other, order);
		if (block != NULL)
			break;
	}
	for (unsigned kind = 1; kind < NR_KINDS && block == NULL && mt != MIGRATE_CMA; kind++)
		block = index_fullest(index_group(MIGRATE_UNMOVABLE, kind), order);
	if (block == NULL && (mt == MIGRATE_MOVABLE || mt == MIGRATE_RECLAIMABLE))
		block = index_fullest(MIGRATE_CMA, order);
	if (block != NULL) {
		zone.steals++;
		zone.steals_of[pageblock_type(block)][mt]++;
	}
	return block;
}
