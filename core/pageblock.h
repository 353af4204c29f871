/*
 * A pageblock: 512 pages, one bit a page, and what the zone knows about them.
 *
 * Everything here works on one block and knows neither lists nor zone counters,
 * so that it can be tested exhaustively.  Merging is implicit: a run is free when
 * its bits are set.  What makes an allocation cheap is `orders`, a summary with
 * one byte for each 64-page word, brought up to date only for the words touched.
 *
 * Invariants: pageblock_check().  Not guaranteed: that a page whose bit is clear is
 * really in somebody's hands; it may be in a pcplist, or being purged.
 */
#ifndef PB_CORE_PAGEBLOCK_H
#define PB_CORE_PAGEBLOCK_H

#include "core/core.h"

#define WORD_ORDER 6u
#define WORD_PAGES (1u << WORD_ORDER)
#define PAGEBLOCK_WORDS ((unsigned)PAGEBLOCK_PAGES / WORD_PAGES)
/* The order of a block without a free page. */
#define ORDER_NONE 0xffu
/* What the finders answer when there is no such run. */
#define PAGE_NONE ((unsigned)PAGEBLOCK_PAGES)

/*
 * All under the zone lock, but for type and isolated, which are written under it
 * and may be read as a hint without it.  They are bytes of their own, never bit
 * fields: a store to one cannot undo a store to the other (R7).
 *
 * orders, byte w:  .6543210   one bit at most: the largest naturally aligned free
 *                             order within word w; 0 when the word is used up
 */
struct pageblock {
	uint64_t free[PAGEBLOCK_WORDS];    /* 1: free in the zone */
	uint64_t dirty[PAGEBLOCK_WORDS];   /* 1: may be resident or not zero */
	uint64_t purging[PAGEBLOCK_WORDS]; /* 1: off free while madvise runs */
	struct pageblock *next;            /* ring of its index list */
	struct pageblock *prev;
	uint64_t orders;
	pfn_t pfn;              /* of its first page */
	uint64_t idle_since_ns; /* valid while wholly free and dirty */
	uint32_t nr_free;       /* bits set in free */
	uint16_t nr_dirty;      /* bits set in free and in dirty */
	uint16_t nr_purging;    /* bits set in purging */
	uint8_t thp;            /* enum thp: what the system is told about huge pages */
	uint8_t broken;         /* parts were given back since it was wholly free */
	uint8_t nr_seen;        /* half of nr_free, when waste.c looked last */
	uint8_t kind;           /* while partly used and UNMOVABLE; 0: none */
	uint16_t list;          /* index list it is on, or INDEX_NONE */
	uint8_t order;          /* largest naturally aligned free order, or ORDER_NONE */
	uint8_t span;           /* number of its span */
	_Atomic uint8_t type;
	_Atomic uint8_t isolated;
	uint8_t apart;     /* APART_...: what allocation and freeing must know of it */
	uint8_t nr_contig; /* contiguous allocations that have pages of it */
	uint32_t owner;    /* whose isolation it is; 0: nobody's */
};

/* Isolated or CMA: its free pages are counted apart. */
#define APART_COUNTED 1u
/* Given back by MADV_FREE: what is clean need not be zero. */
#define APART_LAZY 2u
/* Wholly free, resident, and kept so for those who cannot wait: ready.c. */
#define APART_READY 4u

/* THP_COLLAPSED: nothing, but its pages were made one. */
enum thp { THP_NONE, THP_HUGE, THP_SMALL, THP_COLLAPSED };

STATIC_ASSERT(sizeof(struct pageblock) == BLOCK_META_BYTES, "sixteen to a page, indexed by a shift");
STATIC_ASSERT(PAGEBLOCK_WORDS == 8, "orders has a byte for each word");

static inline enum migratetype pageblock_type(const struct pageblock *block)
{
	/* Relaxed: stable under the zone lock, and only a hint without it (R4). */
	return (enum migratetype)atomic_load_explicit(&block->type, memory_order_relaxed);
}

static inline bool pageblock_isolated(const struct pageblock *block)
{
	/* Relaxed: as pageblock_type(). */
	return atomic_load_explicit(&block->isolated, memory_order_relaxed) != 0;
}

static inline bool pageblock_whole(const struct pageblock *block)
{
	return block->nr_free == PAGEBLOCK_PAGES;
}

/* Whether all free pages are resident, also those that were never touched: with a huge page. */
static inline bool pageblock_all_resident(const struct pageblock *block)
{
	return block->thp == THP_HUGE && block->broken == 0 && !pageblock_whole(block);
}

/* --- 512-bit maps --------------------------------------------------------------- */

/* The bits [from, from + n) of one word; n >= 1, from + n <= 64. */
static inline uint64_t word_mask(unsigned from, unsigned n)
{
	return (~(uint64_t)0 >> (64 - n)) << from;
}

/* Bits set; in registers, because the baseline x86-64 has no instruction for it. */
static inline unsigned word_count(uint64_t x)
{
	x -= (x >> 1) & 0x5555555555555555u;
	x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
	return (unsigned)((x * 0x0101010101010101u) >> 56);
}

void pageblock_bits_set(uint64_t *bits, unsigned from, unsigned n);
void pageblock_bits_clear(uint64_t *bits, unsigned from, unsigned n);
/* Whether every bit of [from, from + n) is set; whether none is. */
bool pageblock_bits_all(const uint64_t *bits, unsigned from, unsigned n);
bool pageblock_bits_none(const uint64_t *bits, unsigned from, unsigned n);
unsigned pageblock_bits_count(const uint64_t *bits, unsigned from, unsigned n);
/* The first bit at or after from that is set, or clear; PAGE_NONE: none. */
unsigned pageblock_bits_next(const uint64_t *bits, unsigned from, bool set);
/* The lowest start, a multiple of 2^align_order, of n set bits; PAGE_NONE: none. */
unsigned pageblock_bits_find(const uint64_t *bits, unsigned n, unsigned align_order);

/* --- orders ---------------------------------------------------------------------- */

/* The bits of a word at multiples of 2^order, order <= WORD_ORDER. */
extern const uint64_t pageblock_aligned[WORD_ORDER + 1];
/* Lanes of 2^order bits, all bits set but the highest of each. */
extern const uint64_t pageblock_lanes[WORD_ORDER + 1];

/*
 * The first bits of the naturally aligned runs of 2^order set bits in a word: a lane of
 * ~x that is zero is the only kind whose highest bit stays clear when the lane's lower
 * bits are added to all ones.
 */
static inline uint64_t word_runs(uint64_t x, unsigned order)
{
	uint64_t lane = pageblock_lanes[order];
	uint64_t used = ~x;

	return ~(((used & lane) + lane) | used | lane) >> ((1u << order) - 1);
}

/* The byte of `orders` for a word.  From above: slabs and larger runs are the most frequent. */
static inline unsigned word_orders(uint64_t x)
{
	if (x == ~(uint64_t)0)
		return 1u << 6;
	if ((uint32_t)x == UINT32_MAX || x >> 32 == UINT32_MAX)
		return 1u << 5;
	if (word_runs(x, 4) != 0)
		return 1u << 4;
	if (x == 0)
		return 0;
	x &= (x >> 1) & 0x5555555555555555u;
	if (x == 0)
		return 1u << 0;
	x &= (x >> 2) & 0x1111111111111111u;
	if (x == 0)
		return 1u << 1;
	return (x & (x >> 4) & 0x0101010101010101u) == 0 ? 1u << 2 : 1u << 3;
}

/* One bit for each word that is wholly free. */
static inline unsigned pageblock_free_words(const struct pageblock *block)
{
	uint64_t lsb = (block->orders >> WORD_ORDER) & 0x0101010101010101u;

	/* Gathers bit 0 of byte i into bit 56 + i. */
	return (unsigned)((lsb * 0x0102040810204080u) >> 56);
}

/* All bits of all bytes of `orders`. */
static inline unsigned pageblock_orders_any(uint64_t orders)
{
	orders |= orders >> 32;
	orders |= orders >> 16;
	orders |= orders >> 8;
	return (unsigned)orders & 0xff;
}

/* The largest naturally aligned free order, from `orders`; ORDER_NONE: none. */
static inline unsigned pageblock_largest_order(const struct pageblock *block)
{
	unsigned any = pageblock_orders_any(block->orders);
	unsigned words;

	if (any == 0)
		return ORDER_NONE;
	if (any < 1u << WORD_ORDER)
		return log2_floor(any);
	words = pageblock_free_words(block);
	if (words == 0xff)
		return WORD_ORDER + 3;
	if ((words & 0x0f) == 0x0f || (words & 0xf0) == 0xf0)
		return WORD_ORDER + 2;
	return (words & (words >> 1) & 0x55) != 0 ? WORD_ORDER + 1 : WORD_ORDER;
}

/* The lowest run of n free pages, of any alignment, as pageblock_bits_find(); n >= 2. */
unsigned pageblock_find_run(const struct pageblock *block, unsigned n);

/* A run of 2^order >= 64 pages, as below. */
unsigned pageblock_find_words(const struct pageblock *block, unsigned order);

/* Among starts of free runs of 2^order in a word, one with no free buddy if there is one. */
static inline unsigned word_lone_run(uint64_t starts, unsigned order, unsigned largest)
{
	for (; order < largest; order++) {
		uint64_t two = starts & (starts >> (1u << order));
		/* The lower one of two buddies starts at an even multiple. */
		uint64_t pairs = two & pageblock_aligned[order + 1];
		uint64_t lone = starts & ~(pairs | pairs << (1u << order));

		if (lone != 0)
			return (unsigned)__builtin_ctzll(lone);
		starts = pairs;
	}
	return (unsigned)__builtin_ctzll(starts);
}

/*
 * A free run of 2^order pages, naturally aligned, cut out of the smallest larger run
 * that will do, as a buddy allocator would.  The block's order must be >= order.
 */
static inline unsigned pageblock_find_order(const struct pageblock *block, unsigned order)
{
	uint64_t lsb = 0x0101010101010101u;
	uint64_t fit;
	unsigned largest, word;

	ASSERT(block->order != ORDER_NONE && block->order >= order);
	if (unlikely(order >= WORD_ORDER))
		return pageblock_find_words(block, order);
	/* Among the words that have the order, the one whose largest is smallest. */
	fit = block->orders & (lsb * ((0xffu << order) & 0x7f));
	largest = (unsigned)__builtin_ctz(pageblock_orders_any(fit));
	if (unlikely(largest == WORD_ORDER))
		return pageblock_find_words(block, WORD_ORDER);
	word = (unsigned)__builtin_ctzll((fit >> largest) & lsb) / 8;
	return word * WORD_PAGES +
	       word_lone_run(word_runs(block->free[word], order), order, largest);
}

/* --- operations on a block --------------------------------------------------------- */

/* Makes a fresh block, all free and clean. */
void pageblock_init(struct pageblock *block, pfn_t pfn, unsigned span, enum migratetype mt);

/* How many bits of part, which lies in mask, which has n: mostly all or none. */
static inline unsigned word_count_part(uint64_t part, uint64_t mask, unsigned n)
{
	if (likely(part == mask))
		return n;
	return part == 0 ? 0 : word_count(part);
}

static inline void pageblock_update_word(struct pageblock *block, unsigned word)
{
	unsigned shift = word * 8;
	uint64_t now = word_orders(block->free[word]);

	block->orders = (block->orders & ~((uint64_t)0xff << shift)) | now << shift;
}

/* One word's part of pageblock_take(), without the counts. */
static inline unsigned pageblock_take_word(struct pageblock *block, unsigned word,
					   uint64_t mask, unsigned n)
{
	uint64_t dirty = block->dirty[word] & mask;

	ASSERT((~block->free[word] & mask) == 0);
	block->free[word] &= ~mask;
	block->dirty[word] |= mask;
	pageblock_update_word(block, word);
	return word_count_part(dirty, mask, n);
}

/* One word's part of pageblock_put(), without the counts. */
static inline unsigned pageblock_put_word(struct pageblock *block, unsigned word,
					  uint64_t mask, unsigned n, bool clean)
{
	bool page_is_free = (block->free[word] & mask) != 0;

	CHECK(!page_is_free);
	if (unlikely(block->nr_purging != 0)) {
		page_is_free = (block->purging[word] & mask) != 0;
		CHECK(!page_is_free);
	}
	block->free[word] |= mask;
	if (unlikely(clean))
		block->dirty[word] &= ~mask;
	pageblock_update_word(block, word);
	return word_count_part(block->dirty[word] & mask, mask, n);
}

/* Runs that cross a word. */
unsigned pageblock_take_words(struct pageblock *block, unsigned from, unsigned n);
unsigned pageblock_put_words(struct pageblock *block, unsigned from, unsigned n, bool clean);

/* Takes n free pages: no longer free, and dirty from now on.  Returns how many were dirty. */
static inline unsigned pageblock_take(struct pageblock *block, unsigned from, unsigned n)
{
	unsigned bit = from % WORD_PAGES;
	unsigned nr_dirty;

	if (likely(bit + n <= WORD_PAGES))
		nr_dirty = pageblock_take_word(block, from / WORD_PAGES, word_mask(bit, n), n);
	else
		nr_dirty = pageblock_take_words(block, from, n);
	block->nr_free -= n;
	block->nr_dirty = (uint16_t)(block->nr_dirty - nr_dirty);
	block->order = (uint8_t)pageblock_largest_order(block);
	return nr_dirty;
}

/*
 * Makes n pages free again; clean: they were never written to.  Returns how many of
 * them are dirty.  A page that is free already stops the program.
 */
static inline unsigned pageblock_put(struct pageblock *block, unsigned from, unsigned n,
				     bool clean)
{
	unsigned bit = from % WORD_PAGES;
	unsigned nr_dirty;

	if (likely(bit + n <= WORD_PAGES))
		nr_dirty = pageblock_put_word(block, from / WORD_PAGES, word_mask(bit, n), n,
					      clean);
	else
		nr_dirty = pageblock_put_words(block, from, n, clean);
	block->nr_free += n;
	block->nr_dirty = (uint16_t)(block->nr_dirty + nr_dirty);
	block->order = (uint8_t)pageblock_largest_order(block);
	return nr_dirty;
}

/* Moves all free pages to purging, so that nobody can have them. */
void pageblock_purge_begin(struct pageblock *block);
/* Makes them free again; where done has a bit set they are clean now.  done may be NULL. */
void pageblock_purge_end(struct pageblock *block, const uint64_t *done);

/* Compares every count and summary with the bitmaps; stops the program when one is wrong. */
void pageblock_check(const struct pageblock *block);

#endif
