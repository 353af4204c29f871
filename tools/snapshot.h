/*
 * What a look into a process finds: blocks, counters, caches, classes, resident memory.
 *
 * Everything is counted by walking it.  A zone at rest is seen at one moment (`exact`);
 * in one that does not come to rest each block is, and sums are of what was seen, so that
 * they add up all the same; only what threads cache may have been somewhere else a moment
 * before, and is cut to what there can be.
 */
#ifndef PB_TOOLS_SNAPSHOT_H
#define PB_TOOLS_SNAPSHOT_H

#include "tools/reader.h"

#define BLOCK_PAGES 512u
#define BLOCK_WORDS 8u
#define BLOCK_GRANULES 32u
#define PAGE_SIZE_BYTES 4096u
#define BLOCK_BYTES ((uint64_t)BLOCK_PAGES * PAGE_SIZE_BYTES)
#define NR_TYPES 4u
/* As the kernel prints them: up to two blocks in a row. */
#define NR_ORDERS 11u

extern const char *const type_labels[NR_TYPES];

/* What a block is to a reader, by the state table of doc/design.md. */
enum block_state { BLOCK_OPEN, BLOCK_ISOLATED, BLOCK_OFFLINE };

struct block_view {
	uint64_t address;
	uint64_t free[BLOCK_WORDS];
	uint64_t dirty[BLOCK_WORDS];
	uint64_t idle_since_ns;
	uint16_t nr_free, nr_purging, nr_dirty;
	uint8_t type;
	uint8_t state;
	/* With LOOK_RESIDENT: pages, and whether one huge page holds all of it. */
	uint16_t nr_resident;
	bool huge;
	/* With LOOK_CLIENTS: */
	uint16_t slab_pages;   /* pages in slabs */
	uint16_t run_pages;    /* pages of page runs in use, those begun in other blocks too */
	uint16_t nr_runs;      /* that begin here */
	uint16_t nr_holes;     /* of slab_pages: given back, nothing in them is live */
	uint64_t holes[BLOCK_WORDS];
	uint32_t live_bytes;   /* in slabs, those in threads' caches included */
	uint32_t nr_live;      /* objects, likewise */
};

/* What there is of one size class, in objects. */
struct class_view {
	uint32_t bytes;
	uint32_t slab_bytes; /* of one slab */
	uint32_t nr_objects; /* in one slab */
	uint64_t nr_slabs;
	uint64_t nr_live;
	uint64_t nr_free;   /* in slabs */
	uint64_t nr_cached; /* in threads' caches or on their way home */
};

/* What the heaps of one place of the shim hold, in bytes. */
#define HEAP_PLACES_MAX 64u
struct place_view {
	uint64_t slabs, live; /* those in threads' caches included */
};

struct pcp_view {
	uint64_t nr_pages, high, refills;
};

/* One row for each scalar counter of struct zone that is a total since the start. */
#define ZONE_COUNTERS(X)                                                                       \
	X(purged_pages)                                                                        \
	X(purge_calls)                                                                         \
	X(claims)                                                                              \
	X(steals)                                                                              \
	X(grown)                                                                               \
	X(isolate_ok)                                                                          \
	X(isolate_busy)                                                                        \
	X(contig_ok)                                                                           \
	X(contig_failed)

struct snapshot {
	bool exact; /* the zone is seen at one moment, with LOOK_CHAINS the heaps at rest too */

	struct block_view *blocks;
	size_t nr_blocks;
	unsigned nr_spans;

	/* In pages, by walking the blocks. */
	uint64_t total, free, isolated, purging, offline, cma, cma_free, dirty, allocated;
	uint64_t cached; /* in threads' page caches */
	/* Free runs by type and order, without isolated blocks, and on these. */
	uint64_t runs[NR_TYPES][NR_ORDERS];
	uint64_t isolated_runs[NR_ORDERS];
	uint64_t blocks_of[NR_TYPES];
	uint64_t nr_isolated, nr_offline, nr_mixed, nr_whole;

#define X(name) uint64_t name;
	ZONE_COUNTERS(X)
#undef X
	uint64_t claims_of[NR_TYPES][NR_TYPES];
	uint64_t steals_of[NR_TYPES][NR_TYPES];
	uint64_t pcp_drains;
	bool pcps_disabled;

	struct pcp_view *pcps;
	size_t nr_pcps;

	struct class_view *classes;
	size_t nr_classes;
	size_t nr_heaps, nr_ownerless;
	struct place_view places[HEAP_PLACES_MAX];

	/* In bytes, from the classes and blocks. */
	uint64_t live, slabs, slabs_free, slabs_cached, large;
	uint64_t nr_large, holes; /* page runs, pages of slabs given back; with LOOK_CLIENTS */

	/* In bytes, from the system. */
	uint64_t rss, resident, huge;
	bool resident_known, huge_known;
};

enum {
	LOOK_RESIDENT = 1, /* what is resident, by block */
	LOOK_CLIENTS = 2,  /* what is in each block: slabs and page runs */
	LOOK_CHAINS = 4    /* what is on its way between heaps at rest: else it looks live */
};

/* 0, or an exit status after a complaint. */
int snapshot_take(struct snapshot *s, struct reader *r, unsigned what);
void snapshot_free(struct snapshot *s);

/* As the kernel computes them, in thousandths; see debugfs extfrag. */
int snapshot_fragmentation_index(const struct snapshot *s, unsigned order);
int snapshot_unusable_index(const struct snapshot *s, unsigned order);
/* Free runs of the order, whatever their type. */
uint64_t snapshot_runs(const struct snapshot *s, unsigned order);

/* "12.3 MiB", in a buffer of the caller's; returns it. */
const char *human_bytes(char buffer[24], uint64_t nr_bytes);

#endif
