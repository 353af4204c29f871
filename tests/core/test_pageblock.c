/*
 * The bitmaps of a pageblock, compared with loops over single bits.
 */
#include "core/pageblock.h"
#include "tests/support/dies.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <string.h>

#define PAGES ((unsigned)PAGEBLOCK_PAGES)

static bool bit(const uint64_t *bits, unsigned i)
{
	return (bits[i / 64] >> i % 64 & 1) != 0;
}

static bool all_set(const uint64_t *bits, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		if (!bit(bits, i))
			return false;
	return true;
}

/* Bitmaps of very different kinds: from nearly empty to nearly full, in runs or scattered. */
static void random_bits(struct random *random, uint64_t *bits)
{
	unsigned kind = (unsigned)random_below(random, 4);

	memset(bits, kind & 1 ? 0xff : 0, 64);
	for (unsigned i = (unsigned)random_below(random, 80); i-- > 0;) {
		unsigned from = (unsigned)random_below(random, PAGES);
		unsigned n = kind & 2 ? 1 : (unsigned)random_size(random, 8);

		if (n > PAGES - from)
			n = PAGES - from;
		for (unsigned k = from; k < from + n; k++)
			bits[k / 64] ^= (uint64_t)1 << k % 64;
	}
}

Test(pageblock, ranges_exhaustively)
{
	unsigned examined = 0;

	for (unsigned from = 0; from < PAGES; from++) {
		for (unsigned n = 1; n <= PAGES - from; n++) {
			uint64_t set[8] = {0};
			uint64_t clear[8];

			memset(clear, 0xff, sizeof(clear));
			pageblock_bits_set(set, from, n);
			pageblock_bits_clear(clear, from, n);
			for (unsigned w = 0; w < 8; w++)
				cr_assert(set[w] == ~clear[w]);
			cr_assert(pageblock_bits_count(set, 0, PAGES) == n);
			cr_assert(pageblock_bits_next(set, 0, true) == from);
			cr_assert(pageblock_bits_next(set, from, false) ==
				  (from + n < PAGES ? from + n : PAGE_NONE));
			cr_assert(pageblock_bits_all(set, from, n));
			cr_assert(pageblock_bits_none(clear, from, n));
			cr_assert(from == 0 || !pageblock_bits_all(set, from - 1, n));
			cr_assert(from == 0 || !pageblock_bits_none(clear, from - 1, n));
			cr_assert(pageblock_bits_find(set, n, 0) == from);
			cr_assert(pageblock_bits_find(set, n + 1, 0) == PAGE_NONE || n == PAGES);
			examined++;
		}
	}
	cr_assert(examined == PAGES * (PAGES + 1) / 2);
}

static unsigned naive_find(const uint64_t *bits, unsigned n, unsigned align_order)
{
	for (unsigned i = 0; i + n <= PAGES; i += 1u << align_order)
		if (all_set(bits, i, n))
			return i;
	return PAGE_NONE;
}

Test(pageblock, find_any_run)
{
	struct random random;
	unsigned found = 0, none = 0;

	random_seed(&random, 1);
	for (unsigned round = 0; round < 20000; round++) {
		uint64_t bits[8];
		unsigned n = (unsigned)random_size(&random, 9);
		unsigned align_order = (unsigned)random_below(&random, 10);
		unsigned got;

		random_bits(&random, bits);
		got = pageblock_bits_find(bits, n, align_order);
		cr_assert(got == naive_find(bits, n, align_order));
		found += got != PAGE_NONE;
		none += got == PAGE_NONE;
	}
	cr_assert(found > 1000 && none > 1000);
}

static void load(struct pageblock *block, const uint64_t *bits)
{
	pageblock_init(block, 512, 0, MIGRATE_MOVABLE);
	for (unsigned i = 0; i < PAGES; i++)
		if (!bit(bits, i))
			(void)pageblock_take(block, i, 1);
}

Test(pageblock, find_run_in_a_block)
{
	struct random random;
	unsigned found = 0, none = 0;

	random_seed(&random, 2);
	for (unsigned round = 0; round < 4000; round++) {
		struct pageblock block;
		uint64_t bits[8];

		random_bits(&random, bits);
		load(&block, bits);
		for (unsigned n = 2; n <= PAGES; n += 1 + n / 16) {
			unsigned got = pageblock_find_run(&block, n);

			cr_assert(got == naive_find(bits, n, 0));
			found += got != PAGE_NONE;
			none += got == PAGE_NONE;
		}
	}
	cr_assert(found > 10000 && none > 10000);
}

/* The smallest naturally aligned maximal run of at least the order, as a buddy tree has it. */
static unsigned naive_best_order(const uint64_t *bits, unsigned order)
{
	for (unsigned k = order; k <= PAGEBLOCK_ORDER; k++)
		for (unsigned i = 0; i < PAGES; i += 1u << k) {
			unsigned buddy = i ^ 1u << k;

			if (all_set(bits, i, 1u << k) &&
			    (k == PAGEBLOCK_ORDER || !all_set(bits, buddy, 1u << k)))
				return k;
		}
	return ORDER_NONE;
}

/* The order of the maximal aligned run that a page belongs to. */
static unsigned naive_order_at(const uint64_t *bits, unsigned page)
{
	unsigned k = 0;

	while (k < PAGEBLOCK_ORDER && all_set(bits, page & ~((2u << k) - 1), 2u << k))
		k++;
	return k;
}

Test(pageblock, orders)
{
	struct random random;
	unsigned seen[PAGEBLOCK_ORDER + 1] = {0};

	random_seed(&random, 2);
	for (unsigned round = 0; round < 5000; round++) {
		struct pageblock block;
		uint64_t bits[8];

		random_bits(&random, bits);
		load(&block, bits);
		pageblock_check(&block);
		for (unsigned k = 0; k <= PAGEBLOCK_ORDER; k++) {
			unsigned page;

			if (naive_best_order(bits, k) == ORDER_NONE) {
				cr_assert(block.order == ORDER_NONE || block.order < k);
				continue;
			}
			cr_assert(block.order >= k);
			page = pageblock_find_order(&block, k);
			cr_assert(page % (1u << k) == 0 && all_set(bits, page, 1u << k));
			/* Within the word chosen nothing smaller would have done. */
			if (block.order == k)
				cr_assert(naive_order_at(bits, page) == k);
			seen[k]++;
		}
	}
	for (unsigned k = 0; k <= PAGEBLOCK_ORDER; k++)
		cr_assert(seen[k] > 0, "order %u", k);
}

Test(pageblock, find_order_cuts_the_smallest_run)
{
	struct pageblock block;
	unsigned wrong = 0;

	/* One lone run of each order and one twice as large: the lone one is taken. */
	for (unsigned k = 0; k < PAGEBLOCK_ORDER - 1; k++) {
		uint64_t bits[8] = {0};

		if ((4u << k) >= PAGES)
			continue;
		pageblock_bits_set(bits, 0, 2u << k);
		pageblock_bits_set(bits, 4u << k, 1u << k);
		load(&block, bits);
		wrong += pageblock_find_order(&block, k) != 4u << k;
	}
	cr_assert(wrong == 0);
}

Test(pageblock, single_word_orders_exhaustively)
{
	/* All unions of aligned runs of one word, as 16 bits a lane of 4. */
	for (unsigned pattern = 0; pattern < 65536; pattern++) {
		uint64_t x = 0;
		unsigned best = 0;

		for (unsigned i = 0; i < 16; i++)
			if (pattern >> i & 1)
				x |= (uint64_t)0xf << 4 * i;
		for (unsigned k = 0; k <= 6; k++)
			for (unsigned i = 0; i < 64; i += 1u << k)
				if ((x & word_mask(i, 1u << k)) == word_mask(i, 1u << k))
					best = 1u << k;
		cr_assert(word_orders(x) == best);
		for (unsigned k = 0; k <= 6; k++)
			for (unsigned i = 0; i < 64; i++) {
				bool is_run = i % (1u << k) == 0 &&
					      (x & word_mask(i, 1u << k)) == word_mask(i, 1u << k);
				cr_assert((word_runs(x, k) >> i & 1) == is_run);
			}
	}
	cr_assert(word_orders(0x0000000000000002u) == 1u << 0);
	cr_assert(word_orders(0x0000000000000006u) == 1u << 0);
	cr_assert(word_orders(0x000000000000000cu) == 1u << 1);
	cr_assert(word_orders(0x00000000000001e0u) == 1u << 1);
}

Test(pageblock, take_put_and_dirty)
{
	struct random random;
	struct pageblock block;
	uint8_t is_free[PAGES], dirty[PAGES];

	random_seed(&random, 3);
	pageblock_init(&block, 1024, 0, MIGRATE_UNMOVABLE);
	memset(is_free, 1, sizeof(is_free));
	memset(dirty, 0, sizeof(dirty));
	for (unsigned round = 0; round < 50000; round++) {
		unsigned from = (unsigned)random_below(&random, PAGES);
		unsigned n = 0, nr_dirty = 0, got;
		bool take = is_free[from];
		bool clean = random_below(&random, 4) == 0;
		unsigned most = (unsigned)random_size(&random, 9);

		while (from + n < PAGES && n < most && is_free[from + n] == take) {
			nr_dirty += dirty[from + n];
			is_free[from + n] = !take;
			dirty[from + n] = take || (dirty[from + n] && !clean);
			n++;
		}
		if (take) {
			got = pageblock_take(&block, from, n);
		} else {
			got = pageblock_put(&block, from, n, clean);
			nr_dirty = clean ? 0 : nr_dirty;
		}
		cr_assert(got == nr_dirty);
		if (round % 64 == 0)
			pageblock_check(&block);
	}
	for (unsigned i = 0; i < PAGES; i++) {
		cr_assert(bit(block.free, i) == is_free[i]);
		cr_assert(bit(block.dirty, i) == dirty[i]);
	}
}

Test(pageblock, purging_takes_all_and_gives_back)
{
	struct pageblock block;
	uint64_t done[8] = {0};

	pageblock_init(&block, 512, 0, MIGRATE_MOVABLE);
	(void)pageblock_take(&block, 0, 300);
	(void)pageblock_put(&block, 10, 100, false);
	pageblock_purge_begin(&block);
	pageblock_check(&block);
	cr_assert(block.nr_free == 0 && block.nr_purging == 312 && block.order == ORDER_NONE);
	/* A free in the meantime. */
	(void)pageblock_put(&block, 200, 10, false);
	pageblock_check(&block);
	pageblock_bits_set(done, 10, 50);
	pageblock_purge_end(&block, done);
	pageblock_check(&block);
	cr_assert(block.nr_free == 322 && block.nr_purging == 0);
	cr_assert(block.nr_dirty == 60);
}

static void free_twice(void)
{
	struct pageblock block;

	pageblock_init(&block, 512, 0, MIGRATE_MOVABLE);
	(void)pageblock_take(&block, 60, 10);
	(void)pageblock_put(&block, 60, 9, false);
	(void)pageblock_put(&block, 68, 2, false);
}

static void free_while_purging(void)
{
	struct pageblock block;

	pageblock_init(&block, 512, 0, MIGRATE_MOVABLE);
	(void)pageblock_take(&block, 0, 64);
	(void)pageblock_put(&block, 0, 32, false);
	pageblock_purge_begin(&block);
	(void)pageblock_put(&block, 31, 2, false);
}

Test(pageblock, double_free_stops_the_program)
{
	cr_assert(dies_with(free_twice, "check failed: !page_is_free"));
	cr_assert(dies_with(free_while_purging, "check failed: !page_is_free"));
}
