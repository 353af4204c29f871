/*
 * A fake operating system under the page allocator, linked in place of core/os.c.
 *
 * Reservations are real address space.  What is announced by fake_os_data() is never
 * made accessible: if core touches a page it manages, the test dies of it.  For each such
 * page the fake knows whether it is committed, in a test's hands, and written to since
 * it was last purged: the last is the truth about zeroed pages.
 *
 * Violations are counted, and printed when they happen: a purge of a page in use or not
 * committed, a purge with nothing to purge in it, a use of a page that is in use.
 */
#ifndef PB_TESTS_FAKE_OS_H
#define PB_TESTS_FAKE_OS_H

#include "core/core.h"

struct fake_os {
	/* What the system is like; set by the test. */
	uint64_t now_ns;
	/* How far each os_yield() moves the clock on. */
	uint64_t yield_ns;
	size_t memory_bytes;
	size_t address_limit; /* SIZE_MAX: none */
	size_t address_used;
	size_t reserve_limit; /* bytes that can be reserved in all */
	size_t commit_limit;  /* bytes of data that can be committed in all */
	/* The n-th call from now that can fail fails; 0: none does.  Counts down. */
	unsigned fail_at;
	/* All purges fail. */
	bool fail_purge;
	/* The system takes no advice about huge pages, and makes none. */
	bool fail_hugepage;
	bool shared; /* what os_shared() says */
	/* Several parts are given back by one call. */
	bool takes_vectors;
	/* Called in the middle of each purge, with no lock held. */
	void (*during_purge)(void *addr, size_t bytes);
	/* In place of the system's, true when they are (a scheduler's: see sched.h). */
	bool (*futex_wait)(_Atomic uint32_t *word, uint32_t value);
	bool (*futex_wake)(_Atomic uint32_t *word, int nr);
	/* Called by os_yield(), once the clock has moved. */
	void (*yielded)(void);

	/* What happened. */
	unsigned nr_reserves, nr_unreserves, nr_commits, nr_uncommits, nr_purges, nr_hugepage_on;
	unsigned nr_hugepage_off, nr_hugepage_refused, nr_collapses, nr_populates;
	unsigned nr_metadata_purges; /* parts of memory that is not announced */
	unsigned nr_fallible; /* calls that could have failed */
	size_t reserved_bytes, committed_bytes;
	void *last_commit;
	size_t last_commit_bytes;
	unsigned violations;
};

extern struct fake_os fake_os;

/* The span_added callback: these are pages for the program, not to be touched. */
int fake_os_data(void *start, size_t bytes);

/* The test takes and writes to pages; gives them up. */
void fake_os_use(pfn_t pfn, size_t nr_pages);
void fake_os_unuse(pfn_t pfn, size_t nr_pages);
/* The test's pages have been replaced by zero pages. */
void fake_os_clean(pfn_t pfn, size_t nr_pages);
/* They count as written to from now on, whoever has them. */
void fake_os_touch(pfn_t pfn, size_t nr_pages);
/* Whether all of them read as zero. */
bool fake_os_zero(pfn_t pfn, size_t nr_pages);
bool fake_os_committed(pfn_t pfn, size_t nr_pages);
bool fake_os_touched(pfn_t pfn);

#endif
