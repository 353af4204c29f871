/*
 * One pageblock's bitmaps.  See pageblock.h.
 *
 * Finding n consecutive bits is done for all 512 starts at once: from the set of
 * starts of runs of m follows that of runs of up to 2m by one shift and one AND,
 * so that a search costs log2(n) passes over eight words whatever the pattern.
 */
#include "core/pageblock.h"

const uint64_t pageblock_aligned[WORD_ORDER + 1] = {
	0xffffffffffffffffu, 0x5555555555555555u, 0x1111111111111111u, 0x0101010101010101u,
	0x0001000100010001u, 0x0000000100000001u, 0x0000000000000001u,
};

/* --- 512-bit maps --------------------------------------------------------------- */

/* The part of [from, from + n) in the word of from; n >= 1. */
static inline uint64_t first_mask(unsigned from, unsigned n)
{
	unsigned bit = from % WORD_PAGES;
	unsigned left = WORD_PAGES - bit;

	return word_mask(bit, n < left ? n : left);
}

/* The pages of [from, from + n) that lie in the word of from. */
static inline unsigned first_pages(unsigned from, unsigned n)
{
	unsigned left = WORD_PAGES - from % WORD_PAGES;

	return n < left ? n : left;
}

void pageblock_bits_set(uint64_t *bits, unsigned from, unsigned n)
{
	while (n > 0) {
		unsigned here = first_pages(from, n);

		bits[from / WORD_PAGES] |= first_mask(from, n);
		from += here;
		n -= here;
	}
}

void pageblock_bits_clear(uint64_t *bits, unsigned from, unsigned n)
{
	while (n > 0) {
		unsigned here = first_pages(from, n);

		bits[from / WORD_PAGES] &= ~first_mask(from, n);
		from += here;
		n -= here;
	}
}

bool pageblock_bits_all(const uint64_t *bits, unsigned from, unsigned n)
{
	while (n > 0) {
		unsigned here = first_pages(from, n);

		if ((~bits[from / WORD_PAGES] & first_mask(from, n)) != 0)
			return false;
		from += here;
		n -= here;
	}
	return true;
}

bool pageblock_bits_none(const uint64_t *bits, unsigned from, unsigned n)
{
	while (n > 0) {
		unsigned here = first_pages(from, n);

		if ((bits[from / WORD_PAGES] & first_mask(from, n)) != 0)
			return false;
		from += here;
		n -= here;
	}
	return true;
}

unsigned pageblock_bits_count(const uint64_t *bits, unsigned from, unsigned n)
{
	unsigned count = 0;

	while (n > 0) {
		unsigned here = first_pages(from, n);

		count += word_count(bits[from / WORD_PAGES] & first_mask(from, n));
		from += here;
		n -= here;
	}
	return count;
}

unsigned pageblock_bits_next(const uint64_t *bits, unsigned from, bool set)
{
	uint64_t flip = set ? 0 : ~(uint64_t)0;

	while (from < PAGEBLOCK_PAGES) {
		uint64_t x = (bits[from / WORD_PAGES] ^ flip) >> (from % WORD_PAGES);

		if (x != 0)
			return from + (unsigned)__builtin_ctzll(x);
		from = (from / WORD_PAGES + 1) * WORD_PAGES;
	}
	return PAGE_NONE;
}

/* x &= x >> shift, over all 512 bits; whether anything is left.  Works upwards in place. */
static bool shift_and(uint64_t *x, unsigned shift)
{
	unsigned words = shift / WORD_PAGES;
	unsigned bits = shift % WORD_PAGES;
	uint64_t any = 0;

	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		uint64_t low = i + words < PAGEBLOCK_WORDS ? x[i + words] : 0;
		uint64_t high = i + words + 1 < PAGEBLOCK_WORDS ? x[i + words + 1] : 0;

		x[i] &= bits == 0 ? low : low >> bits | high << (WORD_PAGES - bits);
		any |= x[i];
	}
	return any != 0;
}

/* Runs of at most a word and of any alignment: they end in the next word at the latest. */
static unsigned find_short(const uint64_t *bits, unsigned n)
{
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		uint64_t low = bits[i];
		uint64_t high = i + 1 < PAGEBLOCK_WORDS ? bits[i + 1] : 0;

		for (unsigned have = 1; have < n && low != 0;) {
			unsigned step = n - have < have ? n - have : have;

			low &= low >> step | high << (WORD_PAGES - step);
			high &= high >> step;
			have += step;
		}
		if (low != 0)
			return i * WORD_PAGES + (unsigned)__builtin_ctzll(low);
	}
	return PAGE_NONE;
}

/*
 * The same where the orders of the block's words are known.  A run, or the larger part of one that
 * goes over the end of a word, is more than a quarter of n in a naturally aligned run: only words
 * with such a one are looked at.
 */
static unsigned find_in_words(const struct pageblock *block, unsigned n)
{
	unsigned least = log2_floor(n + 1) - 1;
	uint64_t words = block->orders & (0x0101010101010101u * ((0xffu << least) & 0x7f));

	while (words != 0) {
		unsigned i = (unsigned)__builtin_ctzll(words) / 8;
		uint64_t bits = block->free[i], fit = bits;
		unsigned have = 1;
		/* Not all of the word before, which would have been taken. */
		unsigned before = i > 0 ? (unsigned)__builtin_clzll(~block->free[i - 1]) : 0;

		if (bits == ~(uint64_t)0 || before + (unsigned)__builtin_ctzll(~bits) >= n)
			return i * WORD_PAGES - before;
		for (; 2 * have <= n; have *= 2)
			fit &= fit >> have;
		fit &= fit >> (n - have);
		if (fit != 0)
			return i * WORD_PAGES + (unsigned)__builtin_ctzll(fit);
		/* Into the next word, unless that is looked at itself. */
		words &= words - 1;
		before = (unsigned)__builtin_clzll(~bits);
		if (i + 1 < PAGEBLOCK_WORDS && (words >> (8 * (i + 1)) & 0xff) == 0 &&
		    before + (unsigned)__builtin_ctzll(~block->free[i + 1]) >= n)
			return (i + 1) * WORD_PAGES - before;
	}
	return PAGE_NONE;
}

/* Longer runs of any alignment: such a run goes over the end of a word. */
static unsigned find_long(const uint64_t *bits, unsigned n)
{
	unsigned start = 0, run = 0;

	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		uint64_t taken = ~bits[i];

		if (taken == 0) {
			run += WORD_PAGES;
		} else {
			if (run + (unsigned)__builtin_ctzll(taken) >= n)
				return start;
			run = (unsigned)__builtin_clzll(taken);
			start = (i + 1) * WORD_PAGES - run;
		}
		if (run >= n)
			return start;
	}
	return PAGE_NONE;
}

unsigned pageblock_bits_find(const uint64_t *bits, unsigned n, unsigned align_order)
{
	if (align_order == 0)
		return n <= WORD_PAGES ? find_short(bits, n) : find_long(bits, n);

	uint64_t starts[PAGEBLOCK_WORDS];
	unsigned in_word = align_order < WORD_ORDER ? align_order : WORD_ORDER;
	unsigned stride = align_order > WORD_ORDER ? 1u << (align_order - WORD_ORDER) : 1;

	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		starts[i] = bits[i];
	for (unsigned have = 1; have < n;) {
		unsigned step = n - have < have ? n - have : have;

		if (!shift_and(starts, step))
			return PAGE_NONE;
		have += step;
	}
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i += stride) {
		uint64_t x = starts[i] & pageblock_aligned[in_word];

		if (x != 0)
			return i * WORD_PAGES + (unsigned)__builtin_ctzll(x);
	}
	return PAGE_NONE;
}

unsigned pageblock_find_run(const struct pageblock *block, unsigned n)
{
	return n <= WORD_PAGES ? find_in_words(block, n) : find_long(block->free, n);
}

/* --- orders ---------------------------------------------------------------------- */

const uint64_t pageblock_lanes[WORD_ORDER + 1] = {
	0x0000000000000000u, 0x5555555555555555u, 0x7777777777777777u, 0x7f7f7f7f7f7f7f7fu,
	0x7fff7fff7fff7fffu, 0x7fffffff7fffffffu, 0x7fffffffffffffffu,
};

/* As within a word: a byte with one bit for each whole word takes its place. */
unsigned pageblock_find_words(const struct pageblock *block, unsigned order)
{
	unsigned words = pageblock_free_words(block);
	unsigned pairs = words & (words >> 1) & 0x55;
	unsigned fours = pairs & (pairs >> 2) & 0x11;
	unsigned starts = fours;

	if (order == PAGEBLOCK_ORDER)
		return 0;
	if (order <= WORD_ORDER + 1 && (pairs & ~(fours | fours << 2)) != 0)
		starts = pairs & ~(fours | fours << 2);
	if (order == WORD_ORDER && (words & ~(pairs | pairs << 1)) != 0)
		starts = words & ~(pairs | pairs << 1);
	return (unsigned)__builtin_ctz(starts) * WORD_PAGES;
}

/* --- operations on a block --------------------------------------------------------- */

/* `orders` of a wholly free block. */
#define WHOLE_ORDERS ((uint64_t)0x4040404040404040)

void pageblock_init(struct pageblock *block, pfn_t pfn, unsigned span, enum migratetype mt)
{
	*block = (struct pageblock){
		.orders = WHOLE_ORDERS,
		.pfn = pfn,
		.nr_free = (uint32_t)PAGEBLOCK_PAGES,
		.list = UINT16_MAX,
		.order = (uint8_t)PAGEBLOCK_ORDER,
		.span = (uint8_t)span,
		.apart = mt == MIGRATE_CMA ? APART_COUNTED : 0,
	};
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		block->free[i] = ~(uint64_t)0;
	/* Relaxed: the block is published later, by the span's committed end. */
	atomic_store_explicit(&block->type, (uint8_t)mt, memory_order_relaxed);
}

/* A wholly free block. */
static unsigned take_whole(struct pageblock *block)
{
	ASSERT(pageblock_whole(block));
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		block->free[i] = 0;
		block->dirty[i] = ~(uint64_t)0;
	}
	block->orders = 0;
	return block->nr_dirty;
}

/* A block of which no page is free. */
static unsigned put_whole(struct pageblock *block, bool clean)
{
	bool page_is_free = block->nr_free != 0 || block->nr_purging != 0;
	unsigned nr_dirty = 0;

	CHECK(!page_is_free);
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		block->free[i] = ~(uint64_t)0;
		if (clean)
			block->dirty[i] = 0;
		nr_dirty += word_count_part(block->dirty[i], ~(uint64_t)0, WORD_PAGES);
	}
	block->orders = WHOLE_ORDERS;
	return nr_dirty;
}

unsigned pageblock_take_words(struct pageblock *block, unsigned from, unsigned n)
{
	unsigned nr_dirty = 0;

	if (n == PAGEBLOCK_PAGES)
		return take_whole(block);
	while (n > 0) {
		unsigned here = first_pages(from, n);

		nr_dirty += pageblock_take_word(block, from / WORD_PAGES,
						word_mask(from % WORD_PAGES, here), here);
		from += here;
		n -= here;
	}
	return nr_dirty;
}

unsigned pageblock_put_words(struct pageblock *block, unsigned from, unsigned n, bool clean)
{
	unsigned nr_dirty = 0;

	if (n == PAGEBLOCK_PAGES)
		return put_whole(block, clean);
	while (n > 0) {
		unsigned here = first_pages(from, n);

		nr_dirty += pageblock_put_word(block, from / WORD_PAGES,
					       word_mask(from % WORD_PAGES, here), here, clean);
		from += here;
		n -= here;
	}
	return nr_dirty;
}

void pageblock_purge_begin(struct pageblock *block)
{
	ASSERT(block->nr_purging == 0);
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		block->purging[i] = block->free[i];
		block->free[i] = 0;
	}
	block->nr_purging = (uint16_t)block->nr_free;
	block->nr_free = 0;
	block->nr_dirty = 0;
	block->orders = 0;
	block->order = ORDER_NONE;
}

void pageblock_purge_end(struct pageblock *block, const uint64_t *done)
{
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		uint64_t back = block->purging[i];

		ASSERT((block->free[i] & back) == 0);
		if (done != NULL)
			block->dirty[i] &= ~(done[i] & back);
		block->free[i] |= back;
		block->purging[i] = 0;
		block->nr_dirty = (uint16_t)(block->nr_dirty +
					     word_count(block->dirty[i] & back));
		pageblock_update_word(block, i);
	}
	block->nr_free += block->nr_purging;
	block->nr_purging = 0;
	block->order = (uint8_t)pageblock_largest_order(block);
	if (PB_DEBUG >= 2)
		pageblock_check(block);
}

void pageblock_check(const struct pageblock *block)
{
	unsigned nr_free = 0, nr_dirty = 0, nr_purging = 0, order = ORDER_NONE;

	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		nr_free += word_count(block->free[i]);
		nr_dirty += word_count(block->free[i] & block->dirty[i]);
		nr_purging += word_count(block->purging[i]);
		CHECK((block->free[i] & block->purging[i]) == 0);
		CHECK(((block->orders >> (8 * i)) & 0xff) == word_orders(block->free[i]));
	}
	for (unsigned k = 0; k <= PAGEBLOCK_ORDER; k++)
		if (pageblock_bits_find(block->free, 1u << k, k) != PAGE_NONE)
			order = k;
	CHECK(block->nr_free == nr_free);
	CHECK(block->nr_dirty == nr_dirty);
	CHECK(block->nr_purging == nr_purging);
	CHECK(block->order == order);
	CHECK(block->pfn % PAGEBLOCK_PAGES == 0);
	CHECK(pageblock_type(block) < NR_MIGRATETYPES);
	CHECK(((block->apart & APART_COUNTED) != 0) ==
	      (pageblock_isolated(block) || pageblock_type(block) == MIGRATE_CMA));
}
