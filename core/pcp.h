/*
 * pcplists: a thread's cache of page runs.  Included by core.h, which has the interface.
 *
 * A run in the cache is a slot; the slots of one order and type form a chain, newest
 * first, by slot numbers in arrays beside them.  No free page is ever touched.  Slot 0 is
 * no slot, so that a zeroed pcp is an empty one with high 0.
 */
#ifndef PB_CORE_PCP_H
#define PB_CORE_PCP_H

#include "core/core.h"

#define PCP_LISTS (PCP_ORDERS * PCP_TYPES)
#define PCP_SLOTS 96u

/*
 * Under lock; nr_pages is also read without it, by statistics.
 *
 * run[s], pfn << 1 | zeroed:
 *     63                                 1   0
 *    | pfn of the run's first page        | reads as zero |
 */
struct pcp {
	struct lock lock;
	_Atomic uint32_t nr_pages;  /* in all chains; written under lock */
	uint32_t high;              /* most pages it may hold; 0: caches nothing */
	uint32_t high_saved;        /* what high was before the caches were disabled */
	uint32_t low;               /* fewest pages it held since the last trim */
	uint32_t nonempty;          /* one bit for each chain that has a slot */
	uint16_t until_trim;        /* operations until it looks whether it is too large */
	uint8_t refills;            /* in a row without an overflow: the batch doubles */
	bool overflowed;            /* since the last refill: high may grow */
	bool registered;            /* by pcp_init() */
	uint8_t flush_next;         /* chain the next flush starts with */
	uint8_t spare;              /* chain of slots given back */
	uint8_t nr_used;            /* slots ever used, without slot 0 */
	uint8_t nr_runs;            /* in all chains */
	uint8_t kind; /* of the blocks its UNMOVABLE runs come from; set by who allocates */
	struct pcp *next;           /* of the registered ones; written once */
	uint8_t head[PCP_LISTS];
	uint8_t tail[PCP_LISTS];
	uint8_t older[PCP_SLOTS];
	uint8_t newer[PCP_SLOTS];
	uint64_t run[PCP_SLOTS];
};

STATIC_ASSERT(sizeof(struct pcp) <= 1152, "every heap carries one");
STATIC_ASSERT(PCP_SLOTS <= UINT8_MAX, "slot numbers are bytes");
STATIC_ASSERT(PCP_LISTS <= 32, "nonempty has a bit for each chain");

/* Pages in all registered pcps. */
uint64_t pcp_count_all(void);
/* Compares every registered pcp's chains with its count, and its pages with the zone. */
void pcp_check_all(void);

/* How often all registered pcps have been drained. */
uint64_t pcp_count_drains(void);

/* For readers outside of the process. */
void pcp_inspect(void);

/* Takes the locks of all registered pcps and the zone lock; gives back the former. */
void pcp_fork_prepare(void);
void pcp_fork_parent(void);
void pcp_fork_child(void);

#endif
