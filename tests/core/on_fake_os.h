/*
 * What tests of the page allocator on the fake operating system have in common.
 */
#ifndef TESTS_CORE_ON_FAKE_OS_H
#define TESTS_CORE_ON_FAKE_OS_H

#include "core/span.h"
#include "core/zone.h"
#include "tests/support/fake_os.h"

#include <criterion/criterion.h>

/* Begins with what the configuration reserves, and there is no more. */
static inline void start_core(const struct core_config *config)
{
	cr_assert(core_init(config) == 0);
	fake_os.reserve_limit = fake_os.reserved_bytes;
}

/* All structures hold their invariants, and no page was touched that was not to be. */
static inline void finish(void)
{
	core_check();
	cr_assert(fake_os.violations == 0);
}

static inline struct core_stats stats(void)
{
	struct core_stats now;

	core_stats_read(&now);
	return now;
}

/* Pages that are written to until they are given back. */
static inline pfn_t take_pages(size_t nr_pages, enum migratetype mt)
{
	pfn_t pfn = zone_alloc(nr_pages, 0, mt, NULL);

	cr_assert(pfn != 0);
	fake_os_use(pfn, nr_pages);
	return pfn;
}

static inline void give_pages(pfn_t pfn, size_t nr_pages)
{
	fake_os_unuse(pfn, nr_pages);
	zone_free(pfn, nr_pages);
}

#endif
