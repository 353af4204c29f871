/*
 * Kinds of blocks: kept apart while there is room, lent when there is none, gone when a
 * block is empty.
 */
#include "core/index.h"
#include "tests/core/on_fake_os.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>

#define NR_BLOCKS 16u
#define SLAB_ORDER 4u
#define SLABS (PAGEBLOCK_PAGES >> SLAB_ORDER)

static struct pcp pcps[4];

static struct core_config config = {
	.client_bytes = PAGE_BYTES,
	.span_added = fake_os_data,
	.reserve_bytes = NR_BLOCKS * PAGEBLOCK_BYTES,
	.decay_ns = 1000000,
	.thp_from_bytes = SIZE_MAX,
};

static void start(void)
{
	start_core(&config);
	for (unsigned i = 0; i < 4; i++) {
		pcp_init(&pcps[i]);
		pcps[i].kind = (uint8_t)i;
	}
	/* What is taken and given back is seen at once. */
	pcp_disable();
}

static void finish_own(void)
{
	pcp_enable();
	finish();
}

static pfn_t take(unsigned kind)
{
	pfn_t pfn = pcp_alloc(&pcps[kind], SLAB_ORDER, MIGRATE_UNMOVABLE, NULL);

	if (pfn != 0)
		fake_os_use(pfn, 1u << SLAB_ORDER);
	return pfn;
}

static void give(unsigned kind, pfn_t pfn)
{
	fake_os_unuse(pfn, 1u << SLAB_ORDER);
	pcp_free(&pcps[kind], pfn, SLAB_ORDER);
}

static unsigned kind_of(pfn_t pfn)
{
	return span_block(pfn)->kind;
}

Test(kind, blocks_are_of_one_kind, .init = start, .fini = finish_own)
{
	pfn_t runs[4][SLABS + 1];

	for (unsigned i = 0; i <= SLABS; i++)
		for (unsigned kind = 0; kind < 4; kind++)
			runs[kind][i] = take(kind);
	for (unsigned i = 0; i <= SLABS; i++)
		for (unsigned kind = 0; kind < 4; kind++)
			cr_assert(kind_of(runs[kind][i]) == kind, "%u of kind %u is in %u", i, kind,
				  kind_of(runs[kind][i]));
	for (unsigned i = 0; i <= SLABS; i++)
		for (unsigned kind = 0; kind < 4; kind++)
			give(kind, runs[kind][i]);
}

/* A wrong guess costs a block until it is empty. */
Test(kind, an_empty_block_has_no_kind, .init = start, .fini = finish_own)
{
	pfn_t a = take(2), b = take(2), c;

	cr_assert(kind_of(a) == 2 && span_block(a) == span_block(b));
	give(2, a);
	cr_assert(kind_of(b) == 2);
	give(2, b);
	cr_assert(kind_of(b) == 0);
	/* The same block, resident as it is, serves the next kind. */
	c = take(3);
	cr_assert(span_block(c) == span_block(a) && kind_of(c) == 3);
	give(3, c);
}

/* R10: where all blocks are taken, a kind takes what there is in others', and so does what
 * has no kind; nobody's block changes sides for it. */
Test(kind, lent_when_there_is_no_room, .init = start, .fini = finish_own)
{
	pfn_t runs[NR_BLOCKS * SLABS];
	unsigned nr = 0, first_of_others = 0;
	pfn_t one = take(1), other = take(2), moved;

	while ((runs[nr] = take(0)) != 0)
		nr++;
	for (unsigned i = 0; i < nr; i++)
		first_of_others += kind_of(runs[i]) != 0;
	cr_assert(first_of_others == 2 * (SLABS - 1), "%u runs lent to what has no kind",
		  first_of_others);
	cr_assert(nr == NR_BLOCKS * SLABS - 2, "all is used: %u", nr);
	give(0, runs[0]);
	moved = take(3);
	cr_assert(moved == runs[0] && kind_of(moved) == 0, "a kind without a block is served");
	give(3, moved);
	cr_assert(kind_of(one) == 1 && kind_of(other) == 2);
	for (unsigned i = 1; i < nr; i++)
		give(0, runs[i]);
	give(1, one);
	give(2, other);
}

Test(kind, other_types_are_served_from_kinds_at_last, .init = start, .fini = finish_own)
{
	pfn_t runs[NR_BLOCKS];
	pfn_t page;

	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		runs[i] = zone_alloc(PAGEBLOCK_PAGES, 0, MIGRATE_MOVABLE, NULL);
		cr_assert(runs[i] != 0);
	}
	zone_free(runs[3], PAGEBLOCK_PAGES);
	runs[3] = take(2);
	page = zone_alloc(1, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(span_block(page) == span_block(runs[3]) && kind_of(page) == 2);
	zone_free(page, 1);
	give(2, runs[3]);
	for (unsigned i = 0; i < NR_BLOCKS; i++)
		if (i != 3)
			zone_free(runs[i], PAGEBLOCK_PAGES);
}

/* Random takes and gives of all kinds, with everything compared now and then. */
Test(kind, random_operations, .init = start, .fini = finish_own)
{
	struct random random;
	pfn_t runs[200] = {0};
	unsigned kinds[200];

	random_seed(&random, 7);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned k = (unsigned)random_below(&random, 200);

		if (runs[k] != 0)
			give(kinds[k], runs[k]);
		kinds[k] = (unsigned)random_below(&random, 4);
		runs[k] = random_below(&random, 3) == 0 ? 0 : take(kinds[k]);
		if (i % 500 == 0)
			core_check();
	}
	for (unsigned k = 0; k < 200; k++)
		if (runs[k] != 0)
			give(kinds[k], runs[k]);
	core_check();
}
