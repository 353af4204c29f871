/*
 * Spans and their growth, with a failure forced at each step.
 */
#include "tests/core/on_fake_os.h"

#include <criterion/criterion.h>

#define MIB ((size_t)1 << 20)

static struct core_config config = {
	.client_bytes = PAGE_BYTES,
	.span_added = fake_os_data,
	.reserve_bytes = 256 * MIB,
	.decay_ns = 1000,
	.thp_from_bytes = SIZE_MAX,
};

static pfn_t alloc_blocks(size_t nr_blocks)
{
	return zone_alloc(nr_blocks * PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL);
}

Test(span, nothing_is_committed_before_it_is_needed, .fini = finish)
{
	cr_assert(core_init(&config) == 0);
	cr_assert(fake_os.committed_bytes == 0 && stats().total_pages == 0);
	cr_assert(stats().nr_spans == 1);
}

Test(span, chunks_double_to_64_mib, .fini = finish)
{
	static const size_t chunks[] = {2, 4, 8, 16, 32, 64, 64, 64};
	size_t committed = 0;

	config.reserve_bytes = 512 * MIB;
	cr_assert(core_init(&config) == 0);
	for (unsigned i = 0; i < sizeof(chunks) / sizeof(*chunks); i++) {
		while (fake_os.committed_bytes == committed)
			cr_assert(alloc_blocks(1) != 0);
		cr_assert(fake_os.committed_bytes - committed == chunks[i] * MIB, "chunk %u", i);
		committed = fake_os.committed_bytes;
	}
	cr_assert(stats().grown == sizeof(chunks) / sizeof(*chunks));
}

Test(span, exactly_what_is_needed_at_a_limit, .fini = finish)
{
	cr_assert(core_init(&config) == 0);
	fake_os.commit_limit = 100 * MIB;
	for (unsigned i = 0; i < 50; i++)
		cr_assert(alloc_blocks(1) != 0, "block %u", i);
	cr_assert(alloc_blocks(1) == 0);
	cr_assert(fake_os.committed_bytes == 100 * MIB);
	/* And no span was made in vain. */
	cr_assert(stats().nr_spans == 1);
	fake_os.commit_limit = SIZE_MAX;
	fake_os.now_ns += 1000000000;
	cr_assert(alloc_blocks(1) != 0);
}

Test(span, the_free_end_is_used, .fini = finish)
{
	pfn_t first, second;

	cr_assert(core_init(&config) == 0);
	first = alloc_blocks(3);
	zone_free(first + 512, 1024);
	second = alloc_blocks(10);
	cr_assert(second == first + 512);
	cr_assert(fake_os.committed_bytes == 11 * 2 * MIB);
}

Test(span, another_span_when_one_is_used_up, .fini = finish)
{
	pfn_t run;

	config.reserve_bytes = 16 * MIB;
	cr_assert(core_init(&config) == 0);
	for (unsigned i = 0; i < 24; i++)
		cr_assert(alloc_blocks(1) != 0);
	cr_assert(stats().nr_spans == 3);
	/* Larger than a span would be: the span is made to fit. */
	run = alloc_blocks(100);
	cr_assert(run != 0 && stats().nr_spans == 4);
	cr_assert(zone_owns(pfn_to_addr(run + 100 * 512 - 1)));
	core_check();
	/* And one for an alignment that none of them may have by chance. */
	cr_assert(zone_alloc(512, 16, MIGRATE_MOVABLE, NULL) % 65536 == 0);
}

Test(span, never_more_than_spans_max, .fini = finish)
{
	config.reserve_bytes = 2 * MIB;
	cr_assert(core_init(&config) == 0);
	for (unsigned i = 0; i < SPANS_MAX; i++)
		cr_assert(alloc_blocks(1) != 0);
	cr_assert(alloc_blocks(1) == 0);
	cr_assert(stats().nr_spans == SPANS_MAX);
}

Test(span, halved_until_it_fits, .fini = finish)
{
	config.reserve_bytes = 1024 * MIB;
	fake_os.reserve_limit = 100 * MIB;
	cr_assert(core_init(&config) == 0);
	cr_assert(fake_os.nr_reserves == 5 && span_at(0)->nr_blocks == 32);
}

Test(span, default_size, .fini = finish)
{
	config.reserve_bytes = 0;
	fake_os.memory_bytes = 8192 * MIB;
	cr_assert(core_init(&config) == 0);
	cr_assert(span_at(0)->nr_blocks * PAGEBLOCK_BYTES == 128 * 1024 * MIB);
}

Test(span, rationed_address_space, .fini = finish)
{
	unsigned nr_blocks = 0;

	config.reserve_bytes = 0;
	fake_os.address_limit = 1000 * MIB;
	fake_os.address_used = 200 * MIB;
	fake_os.reserve_limit = 800 * MIB;
	cr_assert(core_init(&config) == 0);
	cr_assert(span_at(0)->nr_blocks == 100);
	while (alloc_blocks(1) != 0)
		nr_blocks++;
	/* Nearly all of the limit can be used in the end. */
	cr_assert(nr_blocks > 380, "%u blocks", nr_blocks);
	cr_assert(stats().nr_spans > 3);
}

Test(span, huge_pages_from_a_size_on, .fini = finish)
{
	config.thp_from_bytes = 10 * MIB;
	cr_assert(core_init(&config) == 0);
	for (unsigned i = 0; i < 7; i++)
		fake_os_use(alloc_blocks(1), 512);
	cr_assert(fake_os.committed_bytes == 14 * MIB && fake_os.nr_hugepage_on == 0);
	fake_os_use(alloc_blocks(1), 512);
	cr_assert(fake_os.nr_hugepage_on == 1);
}

/* Who hardly touches what he asks for does not get more of it than he touches. */
Test(span, no_huge_pages_where_little_is_used, .fini = finish)
{
	config.thp_from_bytes = 10 * MIB;
	cr_assert(core_init(&config) == 0);
	for (unsigned i = 0; i < 20; i++)
		fake_os_touch(alloc_blocks(1), 400);
	cr_assert(fake_os.committed_bytes > 30 * MIB && fake_os.nr_hugepage_on == 0);
}

/* core_init: reserve, commit of the map, the callback. */
Test(span, init_fails_at_each_step)
{
	config.reserve_bytes = 2 * MIB;
	for (unsigned step = 1; step <= 3; step++) {
		fake_os.fail_at = step;
		cr_assert(core_init(&config) != 0, "step %u", step);
		cr_assert(fake_os.fail_at == 0);
		cr_assert(fake_os.reserved_bytes == 0 && span_count() == 0);
		fake_os.fail_at = 0;
	}
	cr_assert(core_init(&config) == 0);
	core_check();
}

/* A chunk: blocks' metadata, the client's, the pages.  All or nothing. */
Test(span, growth_fails_at_each_step, .fini = finish)
{
	unsigned failed = 0;

	cr_assert(core_init(&config) == 0);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned step = 1; step <= 3; step++) {
			struct core_stats before = stats();
			size_t committed = fake_os.committed_bytes;
			unsigned uncommits = fake_os.nr_uncommits;
			size_t nr_blocks = 16;

			/* Exactly what is needed, so that there is no second try. */
			fake_os.fail_at = step;
			if (alloc_blocks(nr_blocks) == 0) {
				failed++;
				cr_assert(stats().total_pages == before.total_pages);
				cr_assert(stats().grown == before.grown);
				cr_assert(fake_os.committed_bytes == committed);
				cr_assert(fake_os.nr_uncommits == uncommits + step - 1);
			}
			fake_os.fail_at = 0;
			core_check();
		}
		cr_assert(alloc_blocks(16) != 0);
	}
	cr_assert(failed == 15);
}

/* A large chunk that fails at any step leads to a small one. */
Test(span, a_refused_chunk_is_tried_smaller, .fini = finish)
{
	unsigned refused = 0;

	cr_assert(core_init(&config) == 0);
	for (unsigned round = 0; round < 6; round++) {
		unsigned step = 1 + round % 3;
		uint64_t grown = stats().grown + 3;
		size_t committed;

		/* A failure makes the next chunk small: first let it double again. */
		while (stats().grown < grown || stats().free_pages > 0)
			cr_assert(alloc_blocks(1) != 0);
		committed = fake_os.committed_bytes;
		fake_os.fail_at = step;
		cr_assert(alloc_blocks(1) != 0);
		/* Metadata of blocks comes by the page: not every chunk needs more of it. */
		if (fake_os.fail_at == 0)
			cr_assert(fake_os.committed_bytes == committed + PAGEBLOCK_BYTES);
		refused += fake_os.fail_at == 0;
		fake_os.fail_at = 0;
		core_check();
	}
	cr_assert(refused >= 4, "%u refused", refused);
}

/* A second span: reserve, commit of the map, callback; then its first chunk. */
Test(span, second_span_fails_at_each_step, .fini = finish)
{
	config.reserve_bytes = 4 * MIB;
	cr_assert(core_init(&config) == 0);
	cr_assert(alloc_blocks(2) != 0);
	for (unsigned step = 1; step <= 3; step++) {
		size_t reserved = fake_os.reserved_bytes;

		fake_os.fail_at = step;
		cr_assert(alloc_blocks(2) == 0, "step %u", step);
		fake_os.fail_at = 0;
		cr_assert(stats().nr_spans == 1 && fake_os.reserved_bytes == reserved);
		core_check();
	}
	fake_os.fail_at = 4;
	cr_assert(alloc_blocks(2) == 0);
	cr_assert(stats().nr_spans == 2 && stats().total_pages == 1024);
	fake_os.fail_at = 0;
	cr_assert(alloc_blocks(2) != 0);
	cr_assert(stats().nr_spans == 2);
}

/* At a limit falling back is tried before the system is asked again, for a while. */
Test(span, a_refusal_is_remembered, .fini = finish)
{
	pfn_t base;
	unsigned calls;

	cr_assert(core_init(&config) == 0);
	fake_os.commit_limit = 8 * MIB;
	base = alloc_blocks(4);
	for (unsigned b = 0; b < 4; b++)
		zone_free(base + b * 512, 64);
	cr_assert(zone_alloc(1, 0, MIGRATE_UNMOVABLE, NULL) != 0);
	calls = fake_os.nr_fallible;
	for (unsigned i = 0; i < 100; i++)
		cr_assert(zone_alloc(1, 0, MIGRATE_UNMOVABLE, NULL) != 0);
	cr_assert(fake_os.nr_fallible == calls);
	fake_os.now_ns += 1000000000;
	cr_assert(zone_alloc(1, 0, MIGRATE_UNMOVABLE, NULL) != 0);
	cr_assert(fake_os.nr_fallible > calls);
}
