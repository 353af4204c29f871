/*
 * The zone: the page allocator's one lock, its counters and its policy.
 * Shared by the files of core that work under the zone lock.
 */
#ifndef PB_CORE_ZONE_H
#define PB_CORE_ZONE_H

#include "core/pageblock.h"

/*
 * Under the lock.  What is not here is derived:
 *   allocated_pages = taken_pages - (what registered pcps say they hold)
 */
struct zone {
	struct lock lock;
	uint64_t taken_pages; /* handed out to pcps and to callers */
	uint64_t free_pages;
	uint64_t cma_free_pages; /* those of free_pages that are on CMA blocks */
	uint64_t isolated_free_pages;
	uint64_t offline_pages;
	uint64_t purging_pages;
	uint64_t dirty_free_pages;
	uint64_t total_pages;
	/* Of taken and dirty free pages together; UINT64_MAX: no limit.  See limit.c. */
	uint64_t soft_pages;
	uint64_t hard_pages;
	uint64_t soft_hits;
	uint64_t hard_hits;
	uint64_t ready_blocks;     /* ready.c */
	uint32_t kind_blocks[NR_KINDS]; /* but for kind 0 */
	uint64_t thp_edges;        /* neighbours that differ: thp.c */
	uint64_t collapsed_blocks; /* made huge pages by the background thread */
	uint64_t inherited_blocks; /* that a fork child still gives back at once */
	/* Of dirty_free_pages: from there on waste.c wants to know. */
	uint64_t waste_mark;
	uint64_t purged_pages;
	uint64_t purge_calls;
	uint64_t claims;
	uint64_t claims_of[NR_MIGRATETYPES][NR_MIGRATETYPES]; /* [from][to] */
	uint64_t steals;
	uint64_t steals_of[NR_MIGRATETYPES][NR_MIGRATETYPES]; /* [of the block][for] */
	uint64_t grown;
	uint64_t isolated_core_blocks; /* by calls of core in progress */
	_Atomic uint64_t isolated_blocks; /* for isolate_any() also read without the lock */
	uint64_t cma_total_pages;
	uint64_t isolate_ok;
	uint64_t isolate_busy;
	uint64_t contig_ok;
	uint64_t contig_failed;
	struct core_config config;
};

extern struct zone zone;

/* Kinds that have blocks. */
static inline unsigned zone_nr_kinds_locked(void)
{
	unsigned nr = 0;

	for (unsigned kind = 1; kind < NR_KINDS; kind++)
		nr += zone.kind_blocks[kind] > 0;
	return nr;
}

static inline void zone_lock(void)
{
	lock_acquire(&zone.lock, LOCK_ZONE);
}

/* Debug builds: now and then, walks everything before the lock is dropped. */
void zone_check_sampled_locked(void);

static inline void zone_unlock(void)
{
	if (PB_DEBUG >= 1)
		zone_check_sampled_locked();
	lock_release(&zone.lock, LOCK_ZONE);
}

/*
 * Up to nr naturally aligned runs of 2^order pages from one block, of the kind if there is
 * room; runs[i] gets pfn << 1 | reads as zero.  Returns how many; 0: there is no room.
 */
unsigned zone_alloc_bulk_locked(unsigned order, enum migratetype mt, unsigned kind, unsigned nr,
				uint64_t *runs);
/* Frees; clean: nobody wrote to these pages since they were handed out zeroed. */
void zone_free_locked(pfn_t pfn, size_t nr_pages, bool clean);
/* Changes the type of a block and its place on the lists. */
void zone_set_type_locked(struct pageblock *block, enum migratetype mt);

/*
 * Counts n more free pages of the block, or fewer when n is the two's complement: as
 * isolated ones, or as free and, where they are, as CMA too.
 */
static inline void zone_count_free_locked(const struct pageblock *block, uint64_t n)
{
	if (pageblock_isolated(block)) {
		zone.isolated_free_pages += n;
		return;
	}
	zone.free_pages += n;
	if (pageblock_type(block) == MIGRATE_CMA)
		zone.cma_free_pages += n;
}

/* Takes [from, from + n) of a block that is not isolated, all of them free. */
void zone_take_locked(struct pageblock *block, unsigned from, unsigned n);

/*
 * Gives isolated blocks back that are wholly free, and waits for those that somebody else
 * is giving back.  Call without the lock; at most PURGE_BATCH_BLOCKS.  They are clean
 * afterwards, unless the system refused.
 */
void purge_isolated(struct pageblock **blocks, unsigned nr);

#define PURGE_BATCH_BLOCKS 8u

void purge_init(void);
void purge_fork_child(void);
/* Looks at what is due anew. */
void purge_soon(void);
/* A block that is not resident is about to be used. */
void purge_missed_locked(void);
/*
 * Gives back the free dirty runs of blocks, wholly free ones or not, without locks; at most
 * PURGE_BATCH_BLOCKS of them.  Blocks that somebody else is giving back are left to him.
 * Returns the bytes that were dirty.
 */
size_t purge_blocks(struct pageblock **blocks, unsigned nr);

/* Memory kept ready: ready.c. */
void ready_init(void);
/* Looks whether there is enough. */
void ready_soon(void);
/* A block with APART_READY is taken from, isolated, or given back. */
void ready_used_locked(struct pageblock *block);

/* Huge pages: thp.c. */
#define THP_CHUNK_BLOCKS ((size_t)32)
struct span;
void thp_init(void);
/* Whether a chunk of a span shall ask for huge pages; and what became of it. */
bool thp_grows_locked(const struct span *span, size_t nr_blocks, bool dense);
/* The process is about to fork. */
void thp_forked(void);
/* A wholly free block is going to be one of a kind's. */
void thp_begins_kind_locked(struct pageblock *block);
/* A clean block is opened for pages of no kind. */
void thp_opens_locked(struct pageblock *block);
void thp_grown_locked(struct span *span, size_t from, size_t to, bool huge);
/* What is dense by now is looked for some time later. */
void thp_soon_locked(void);
/* Without locks, while the block's free pages are off its lists. */
void thp_wanted(struct pageblock *block);
void thp_given_back(struct pageblock *block, bool whole);

/* Limits: limit.c. */
static inline bool limit_fits_locked(uint64_t nr_pages)
{
	return zone.taken_pages + zone.dirty_free_pages + nr_pages <= zone.hard_pages;
}

static inline bool limit_is_soft_hit_locked(void)
{
	return zone.taken_pages + zone.dirty_free_pages > zone.soft_pages;
}

void limit_set_locked(const struct core_config *config);
/* More is wanted although the soft limit is passed. */
void limit_soft_hit_locked(void);
/* Gives back what it takes, without locks; whether so many pages fit under the hard limit. */
bool limit_make_room(size_t nr_pages);

/* Free dirty pages in blocks that are in use: waste.c. */
void waste_init(void);
void waste_armed_locked(void);

/* After a block became wholly free and dirty: it is idle from now on. */
void zone_idle_locked(struct pageblock *block);

/*
 * Sets or clears the isolated bit and moves the block's free pages between the
 * counters.  What isolation is made of (isolate.c); tests use it directly.
 */
void zone_set_isolated_locked(struct pageblock *block, bool isolated);

#endif
