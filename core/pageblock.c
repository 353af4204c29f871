/*
 * One pageblock's bitmaps.  See pageblock.h.
 *
 * Finding n consecutive bits is done for all 512 starts at once: from the set of
 * starts of runs of m follows that of runs of up to 2m by one shift and one AND,
 * so that a search costs log2(n) passes over eight words whatever the pattern.
 */
#include "core/pageblock.h"

/* Bits at multiples of 2^order, order <= WORD_ORDER. */
static const uint64_t aligned_bits[WORD_ORDER + 1] = {
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

unsigned pageblock_bits_find(const uint64_t *bits, unsigned n, unsigned align_order)
{
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
		uint64_t x = starts[i] & aligned_bits[in_word];

		if (x != 0)
			return i * WORD_PAGES + (unsigned)__builtin_ctzll(x);
	}
	return PAGE_NONE;
}

/* --- orders ---------------------------------------------------------------------- */

static inline void orders_update(struct pageblock *block, unsigned word)
{
	unsigned shift = word * 8;
	uint64_t now = word_orders(block->free[word]);

	block->orders = (block->orders & ~((uint64_t)0xff << shift)) | now << shift;
}

/* The start of a run of 2^order in one word whose largest order is `largest`. */
static inline unsigned find_in_word(uint64_t x, unsigned order, unsigned largest)
{
	unsigned i;

	for (i = 0; i < order; i++)
		x &= (x >> (1u << i)) & aligned_bits[i + 1];
	/* x has the starts of all free runs of order i; those without a free buddy go first. */
	for (; i < largest; i++) {
		uint64_t pairs = x & (x >> (1u << i)) & aligned_bits[i + 1];
		uint64_t lone = x & ~(pairs | pairs << (1u << i));

		if (lone != 0)
			return (unsigned)__builtin_ctzll(lone);
		x = pairs;
	}
	return (unsigned)__builtin_ctzll(x);
}

/* The same among whole words: a byte with one bit for each takes the place of the word. */
static unsigned find_words(unsigned words, unsigned order)
{
	unsigned pairs = words & (words >> 1) & 0x55;
	unsigned fours = pairs & (pairs >> 2) & 0x11;
	unsigned lone = 0;

	switch (order - WORD_ORDER) {
	case 0:
		lone = words & ~(pairs | pairs << 1);
		if (lone == 0)
			lone = pairs & ~(fours | fours << 2);
		break;
	case 1:
		lone = pairs & ~(fours | fours << 2);
		break;
	default:
		break;
	}
	if (lone == 0)
		lone = fours;
	return (unsigned)__builtin_ctz(lone) * WORD_PAGES;
}

unsigned pageblock_find_order(const struct pageblock *block, unsigned order)
{
	uint64_t lsb = 0x0101010101010101u;
	uint64_t fit;
	unsigned largest, word;

	ASSERT(block->order != ORDER_NONE && block->order >= order);
	if (order > WORD_ORDER)
		return order == PAGEBLOCK_ORDER
			       ? 0
			       : find_words(pageblock_free_words(block), order);
	/* Among the words that have the order, the one whose largest is smallest. */
	fit = block->orders & (lsb * ((0xffu << order) & 0x7f));
	largest = (unsigned)__builtin_ctz(pageblock_orders_any(fit));
	if (largest == WORD_ORDER) {
		unsigned start = find_words(pageblock_free_words(block), WORD_ORDER);

		/* The lowest run of a whole word is its first pages. */
		return start;
	}
	word = (unsigned)__builtin_ctzll((fit >> largest) & lsb) / 8;
	return word * WORD_PAGES + find_in_word(block->free[word], order, largest);
}

/* --- operations on a block --------------------------------------------------------- */

void pageblock_init(struct pageblock *block, pfn_t pfn, unsigned span, enum migratetype mt)
{
	*block = (struct pageblock){
		.orders = 0x4040404040404040u,
		.pfn = pfn,
		.nr_free = (uint32_t)PAGEBLOCK_PAGES,
		.list = UINT16_MAX,
		.order = (uint8_t)PAGEBLOCK_ORDER,
		.span = (uint8_t)span,
	};
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++)
		block->free[i] = ~(uint64_t)0;
	/* Relaxed: the block is published later, by the span's committed end. */
	atomic_store_explicit(&block->type, (uint8_t)mt, memory_order_relaxed);
}

/* How many bits of x, a part of mask which has n: mostly all or none. */
static inline unsigned count_part(uint64_t x, uint64_t mask, unsigned n)
{
	if (x == mask)
		return n;
	return x == 0 ? 0 : word_count(x);
}

static inline unsigned take_word(struct pageblock *block, unsigned word, uint64_t mask,
				 unsigned n)
{
	uint64_t dirty = block->dirty[word] & mask;

	ASSERT((~block->free[word] & mask) == 0);
	block->free[word] &= ~mask;
	block->dirty[word] |= mask;
	orders_update(block, word);
	return count_part(dirty, mask, n);
}

unsigned pageblock_take(struct pageblock *block, unsigned from, unsigned n)
{
	unsigned nr_dirty = 0;

	block->nr_free -= n;
	while (n > 0) {
		unsigned here = first_pages(from, n);

		nr_dirty += take_word(block, from / WORD_PAGES,
				      word_mask(from % WORD_PAGES, here), here);
		from += here;
		n -= here;
	}
	block->nr_dirty -= nr_dirty;
	block->order = (uint8_t)pageblock_largest_order(block);
	if (PB_DEBUG >= 2)
		pageblock_check(block);
	return nr_dirty;
}

static inline unsigned put_word(struct pageblock *block, unsigned word, uint64_t mask,
				unsigned n, bool clean)
{
	bool page_is_free = (block->free[word] & mask) != 0;

	CHECK(!page_is_free);
	if (unlikely(block->nr_purging != 0)) {
		page_is_free = (block->purging[word] & mask) != 0;
		CHECK(!page_is_free);
	}
	block->free[word] |= mask;
	if (clean)
		block->dirty[word] &= ~mask;
	orders_update(block, word);
	return count_part(block->dirty[word] & mask, mask, n);
}

unsigned pageblock_put(struct pageblock *block, unsigned from, unsigned n, bool clean)
{
	unsigned nr_dirty = 0;

	block->nr_free += n;
	while (n > 0) {
		unsigned here = first_pages(from, n);

		nr_dirty += put_word(block, from / WORD_PAGES,
				     word_mask(from % WORD_PAGES, here), here, clean);
		from += here;
		n -= here;
	}
	block->nr_dirty += nr_dirty;
	block->order = (uint8_t)pageblock_largest_order(block);
	if (PB_DEBUG >= 2)
		pageblock_check(block);
	return nr_dirty;
}

void pageblock_purge_begin(struct pageblock *block)
{
	ASSERT(block->nr_purging == 0);
	for (unsigned i = 0; i < PAGEBLOCK_WORDS; i++) {
		block->purging[i] = block->free[i];
		block->free[i] = 0;
	}
	block->nr_purging = block->nr_free;
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
		block->nr_dirty += word_count(block->dirty[i] & back);
		orders_update(block, i);
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
}
