/*
 * A naive model of the page allocator: one byte a page, every question answered by
 * looking at all of them.  Run in lock-step with the real one, it says for each call
 * what must happen, down to which kind of block must serve it.
 *
 * It knows one span, and finds out what a pcp caches by reading its slots.
 */
#ifndef PB_TESTS_ORACLE_H
#define PB_TESTS_ORACLE_H

#include "core/core.h"

#define ORACLE_BLOCKS 48u
#define ORACLE_PAGES (ORACLE_BLOCKS * (unsigned)PAGEBLOCK_PAGES)

enum oracle_page { ORACLE_FREE, ORACLE_TAKEN, ORACLE_CACHED };

struct oracle {
	pfn_t base;
	struct pcp *pcp; /* the only one registered, or NULL */
	unsigned nr_blocks; /* committed so far */
	unsigned max_blocks;
	/* Whether growth may be refused without the model knowing why. */
	bool may_refuse;
	uint8_t page[ORACLE_PAGES];
	uint8_t type[ORACLE_BLOCKS];
	uint8_t isolated[ORACLE_BLOCKS];
	/* Worked out when asked for: the page bytes changed. */
	bool stale[ORACLE_BLOCKS];
	int order[ORACLE_BLOCKS]; /* -1: none */
	unsigned nr_free[ORACLE_BLOCKS];
	unsigned nr_dirty[ORACLE_BLOCKS];
	uint64_t claims, steals, grown;
	/* The first disagreement, or NULL. */
	const char *wrong;
};

void oracle_init(struct oracle *oracle, pfn_t base, unsigned max_blocks, struct pcp *pcp);

/* Call the real function, compare, and follow. */
pfn_t oracle_alloc(struct oracle *oracle, size_t nr_pages, unsigned align_order,
		   enum migratetype mt);
void oracle_free(struct oracle *oracle, pfn_t pfn, size_t nr_pages);
void oracle_free_clean(struct oracle *oracle, pfn_t pfn, size_t nr_pages);
bool oracle_extend(struct oracle *oracle, pfn_t pfn, size_t nr_pages, size_t new_nr_pages);
pfn_t oracle_pcp_alloc(struct oracle *oracle, unsigned order, enum migratetype mt);
void oracle_pcp_free(struct oracle *oracle, pfn_t pfn, unsigned order);
void oracle_pcp_drain(struct oracle *oracle);
void oracle_purge_all(struct oracle *oracle);
void oracle_purge_tick(struct oracle *oracle);
void oracle_set_isolated(struct oracle *oracle, unsigned block, bool isolated);
/* Makes a wholly free block CMA, if it is one. */
void oracle_make_cma(struct oracle *oracle, unsigned block);

/* Compares all counters and all blocks' types with a count of the bytes. */
void oracle_compare(struct oracle *oracle);

#endif
