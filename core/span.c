/*
 * Spans: address space, and how it grows.
 *
 * Owns the spans, their reservation, their metadata and the maps of whole blocks.
 * A span grows upwards by chunks that double from one block to CHUNK_BLOCKS; when a
 * chunk cannot be had, exactly what is needed is tried.  Metadata is committed first and
 * given back when a later step fails, so that a failure leaves nothing behind.
 *
 * A run of whole blocks is found lowest address first, a word of the map at a time.
 * Spans are never given back.  Invariants: span_check().
 */
#include "core/span.h"

#include "core/index.h"
#include "core/zone.h"

#include <errno.h>

#define CHUNK_BLOCKS THP_CHUNK_BLOCKS /* 64 MiB */
#define FIRST_SPAN_MIN ((size_t)64 << 30)
#define FIRST_SPAN_MEMORIES 16u
/* Where address space is rationed a span takes this part of what is left. */
#define RATION_PART 4u
#define RATION_MIN ((size_t)8 << 20)
/* Nothing is ever committed here: a write past the last page of a span faults. */
#define GUARD_BYTES GRANULE_BYTES

static struct span spans[SPANS_MAX];
/* Release when a span is added: publishes its fields. */
static _Atomic unsigned nr_spans;
static _Atomic bool sparse; /* the opposite of zone_set_dense() */
static size_t chunk_blocks = 1; /* under the zone lock: size of the next chunk */

/* --- lookup ----------------------------------------------------------------------------- */

unsigned span_count(void)
{
	/* Acquire pairs with the release in span_create(). */
	return atomic_load_explicit(&nr_spans, memory_order_acquire);
}

struct span *span_at(unsigned number)
{
	return &spans[number];
}

struct span *span_of(const struct pageblock *block)
{
	return &spans[block->span];
}

/* The span whose reservation has the page; NULL: none. */
static inline struct span *span_find(pfn_t pfn)
{
	unsigned nr = span_count();

	for (unsigned i = 0; i < nr; i++)
		if (likely((pfn - spans[i].start) / PAGEBLOCK_PAGES < spans[i].nr_blocks))
			return &spans[i];
	return NULL;
}

struct pageblock *span_block(pfn_t pfn)
{
	struct span *span = span_find(pfn);
	size_t number;

	if (unlikely(span == NULL))
		return NULL;
	number = (pfn - span->start) / PAGEBLOCK_PAGES;
	return likely(number < span_committed(span)) ? &span->blocks[number] : NULL;
}

bool zone_owns(const void *addr)
{
	return span_block(pfn_of(addr)) != NULL;
}

void *zone_next_block(const void *block, enum migratetype mt)
{
	struct span *span = &spans[0];
	size_t number = 0;

	if (block != NULL) {
		span = span_find(pfn_of(block));
		CHECK(span != NULL);
		number = (pfn_of(block) - span->start) / PAGEBLOCK_PAGES + 1;
	}
	for (; span < &spans[span_count()]; span++, number = 0) {
		for (; number < span_committed(span); number++)
			if (pageblock_type(&span->blocks[number]) == mt)
				return span->base + number * PAGEBLOCK_BYTES;
	}
	return NULL;
}

void *zone_find_client(const void *addr)
{
	pfn_t pfn = pfn_of(addr);
	struct span *span = span_find(pfn);
	size_t number;

	if (span == NULL)
		return NULL;
	number = (pfn - span->start) / PAGEBLOCK_PAGES;
	return number < span_committed(span) ? span->client + number * zone.config.client_bytes
					     : NULL;
}

void *zone_client(const void *addr)
{
	pfn_t pfn = pfn_of(addr);
	struct span *span = span_find(pfn);

	CHECK(span != NULL);
	return span->client + (pfn - span->start) / PAGEBLOCK_PAGES * zone.config.client_bytes;
}

static inline size_t block_number(const struct span *span, const struct pageblock *block)
{
	return (size_t)(block - span->blocks);
}

/* --- whole blocks ------------------------------------------------------------------------- */

void span_set_whole(const struct pageblock *block, bool whole)
{
	struct span *span = span_of(block);
	size_t number = block_number(span, block);
	uint64_t bit = (uint64_t)1 << number % 64;

	if (!whole) {
		span->whole[number / 64] &= ~bit;
		return;
	}
	span->whole[number / 64] |= bit;
	if (number < span->first_whole)
		span->first_whole = number;
}

static inline bool is_whole(const struct span *span, size_t number)
{
	return (span->whole[number / 64] >> number % 64 & 1) != 0;
}

/* The first block at or after from, and before limit, whose bit is `set`; limit: none. */
static size_t next_whole(const struct span *span, size_t from, size_t limit, bool set)
{
	uint64_t flip = set ? 0 : ~(uint64_t)0;

	while (from < limit) {
		uint64_t x = (span->whole[from / 64] ^ flip) >> from % 64;

		if (x != 0) {
			from += (size_t)__builtin_ctzll(x);
			return from < limit ? from : limit;
		}
		from = (from / 64 + 1) * 64;
	}
	return limit;
}

/* The first block at or after `number` whose address is a multiple of align_blocks. */
static size_t align_number(const struct span *span, size_t number, size_t align_blocks)
{
	size_t first = span->start / PAGEBLOCK_PAGES;

	return round_up(first + number, align_blocks) - first;
}

static struct pageblock *find_whole_in(struct span *span, size_t nr_blocks, size_t align_blocks)
{
	size_t committed = span_committed(span);
	size_t from = next_whole(span, span->first_whole, committed, true);

	span->first_whole = from;
	while (from < committed) {
		size_t end;

		from = align_number(span, from, align_blocks);
		if (from >= committed || nr_blocks > committed - from)
			return NULL;
		end = next_whole(span, from, from + nr_blocks, false);
		if (end == from + nr_blocks)
			return &span->blocks[from];
		from = next_whole(span, end, committed, true);
	}
	return NULL;
}

struct pageblock *span_find_whole(size_t nr_blocks, size_t align_blocks)
{
	unsigned nr = span_count();

	for (unsigned i = 0; i < nr; i++) {
		struct pageblock *block = find_whole_in(&spans[i], nr_blocks, align_blocks);

		if (block != NULL)
			return block;
	}
	return NULL;
}

bool span_may_take(const struct pageblock *block, unsigned from, unsigned n,
		   enum migratetype mt)
{
	enum migratetype other = pageblock_type(block);

	if (pageblock_isolated(block) || !pageblock_bits_all(block->free, from, n))
		return false;
	if (other == mt)
		return true;
	return pageblock_whole(block) && mt != MIGRATE_CMA && other != MIGRATE_CMA;
}

/* Stretches of whole blocks that are looked at for a better one. */
#define STRETCH_LOOKS 32u

/*
 * `full` whole blocks, and behind them, unless tail is 0, one in use whose first pages are
 * free: the first that is resident, else the first.
 */
static struct pageblock *find_stretch(size_t full, unsigned tail, enum migratetype mt)
{
	struct pageblock *best = NULL;
	unsigned nr = span_count(), looks = 0;

	for (unsigned i = 0; i < nr; i++) {
		struct span *span = &spans[i];
		size_t committed = span_committed(span), end;
		size_t from = next_whole(span, span->first_whole, committed, true);

		span->first_whole = from;
		for (; from < committed; from = next_whole(span, end, committed, true)) {
			struct pageblock *first;

			end = next_whole(span, from, committed, false);
			if (end - from < full)
				continue;
			first = &span->blocks[tail == 0 ? from : end - full];
			if (tail == 0 || (end < committed &&
					  span_may_take(&span->blocks[end], 0, tail, mt))) {
				if (first->nr_dirty > 0)
					return first;
				if (best == NULL)
					best = first;
			}
			if (++looks == STRETCH_LOOKS)
				return best;
		}
	}
	return best;
}

struct pageblock *span_find_run(size_t nr_pages, enum migratetype mt)
{
	size_t full = nr_pages / PAGEBLOCK_PAGES;
	unsigned tail = nr_pages % PAGEBLOCK_PAGES;
	struct pageblock *block = NULL;

	if (tail != 0)
		block = find_stretch(full, tail, mt);
	return block != NULL ? block : find_stretch(full + (tail != 0), 0, mt);
}

void span_check(const struct span *span)
{
	size_t committed = span_committed(span);
	size_t words = round_up(span->nr_blocks, 64) / 64;

	for (size_t i = 0; i < committed; i++) {
		const struct pageblock *block = &span->blocks[i];
		bool whole = pageblock_whole(block) && !pageblock_isolated(block) &&
			     pageblock_type(block) != MIGRATE_CMA;

		CHECK(span_of(block) == span);
		CHECK_COUNT(block->pfn, span->start + i * PAGEBLOCK_PAGES);
		CHECK(is_whole(span, i) == whole);
		CHECK(!whole || i >= span->first_whole);
	}
	for (size_t i = committed; i < words * 64; i++)
		CHECK(!is_whole(span, i));
}

/* --- growth ---------------------------------------------------------------------------------- */

/* The part of a span's metadata array that blocks [from, to) add to that of [0, from). */
struct metadata_part {
	char *start;
	size_t nr_bytes;
};

static struct metadata_part metadata_part(char *array, size_t entry_bytes, size_t from, size_t to)
{
	size_t page = os_page_bytes();
	size_t first = round_up(from * entry_bytes, page);
	size_t end = round_up(to * entry_bytes, page);

	return (struct metadata_part){.start = array + first, .nr_bytes = end - first};
}

static int metadata_commit(struct metadata_part part)
{
	return part.nr_bytes == 0 ? 0 : os_commit(part.start, part.nr_bytes);
}

static void metadata_uncommit(struct metadata_part part)
{
	if (part.nr_bytes > 0)
		os_uncommit(part.start, part.nr_bytes);
}

/* Whether what is handed out of new blocks of the type will be filled, as far as is known. */
static bool will_be_dense(enum migratetype mt)
{
	/* Relaxed: a hint. */
	return mt != MIGRATE_UNMOVABLE || !atomic_load_explicit(&sparse, memory_order_relaxed);
}

/* Makes blocks [from, to) accessible, and their metadata first; huge: with huge pages. */
static int commit_blocks(struct span *span, size_t from, size_t to, enum migratetype mt,
			 bool *huge)
{
	char *blocks = (char *)span->blocks;
	struct metadata_part block_part =
		metadata_part(blocks, sizeof(struct pageblock), from, to);
	struct metadata_part client_part =
		metadata_part(span->client, zone.config.client_bytes, from, to);
	char *data = span->base + from * PAGEBLOCK_BYTES;
	int err;

	err = metadata_commit(block_part);
	if (err != 0)
		return err;
	err = metadata_commit(client_part);
	if (err != 0)
		goto undo_blocks;
	err = os_commit(data, (to - from) * PAGEBLOCK_BYTES);
	if (err != 0)
		goto undo_client;
	*huge = thp_grows_locked(span, to - from, will_be_dense(mt)) &&
		os_hugepage(data, (to - from) * PAGEBLOCK_BYTES, true);
	return 0;

undo_client:
	metadata_uncommit(client_part);
undo_blocks:
	metadata_uncommit(block_part);
	return err;
}

static bool span_commit(struct span *span, size_t nr_blocks, enum migratetype mt)
{
	size_t from = span_committed(span);
	size_t to = from + nr_blocks;
	bool huge = false;

	if (commit_blocks(span, from, to, mt, &huge) != 0)
		return false;
	for (size_t i = from; i < to; i++) {
		pfn_t pfn = span->start + i * PAGEBLOCK_PAGES;

		span_assert_unseen(pfn);
		pageblock_init(&span->blocks[i], pfn, (unsigned)(span - spans), mt);
	}
	/* Release pairs with span_committed(): the blocks are ready to be looked at. */
	atomic_store_explicit(&span->nr_committed, to, memory_order_release);
	zone.total_pages += nr_blocks * PAGEBLOCK_PAGES;
	zone.free_pages += nr_blocks * PAGEBLOCK_PAGES;
	zone.grown++;
	thp_grown_locked(span, from, to, huge);
	/* Downwards: the newest on a list is taken first, and that shall be the lowest. */
	for (size_t i = to; i-- > from;)
		index_update(&span->blocks[i]);
	return true;
}

bool span_grow_in_place(struct span *span, size_t nr_blocks, enum migratetype mt)
{
	size_t room = span->nr_blocks - span_committed(span);
	size_t chunk = nr_blocks > chunk_blocks ? nr_blocks : chunk_blocks;

	if (nr_blocks > room)
		return false;
	if (chunk > room)
		chunk = room;
	if (span_commit(span, chunk, mt)) {
		if (chunk_blocks < CHUNK_BLOCKS)
			chunk_blocks *= 2;
		return true;
	}
	/* At a limit: the smallest chunk that will do, and small steps from here on. */
	chunk_blocks = 1;
	return chunk > nr_blocks && span_commit(span, nr_blocks, mt);
}

/*
 * Completes the run of whole blocks at the end of a span; NULL: it cannot, and then
 * *refused is set when there was address space but no memory.
 */
static struct pageblock *grow_at_end(struct span *span, size_t nr_blocks, size_t align_blocks,
				     enum migratetype mt, bool *refused)
{
	size_t committed = span_committed(span);
	size_t start = committed;

	while (start > 0 && committed - start < nr_blocks && is_whole(span, start - 1))
		start--;
	start = align_number(span, start, align_blocks);
	if (start > span->nr_blocks || nr_blocks > span->nr_blocks - start)
		return NULL;
	if (span_grow_in_place(span, start + nr_blocks - committed, mt))
		return &span->blocks[start];
	*refused = true;
	return NULL;
}

void zone_set_dense(bool dense)
{
	/* Relaxed: a hint. */
	atomic_store_explicit(&sparse, !dense, memory_order_relaxed);
}

/* --- new spans ----------------------------------------------------------------------------------- */

/* How much address space a new span may take, at least `needed` bytes of pages. */
static size_t span_target_bytes(size_t needed)
{
	size_t limit = os_address_limit();
	size_t bytes = zone.config.reserve_bytes;

	if (bytes == 0) {
		bytes = os_memory_bytes() * FIRST_SPAN_MEMORIES;
		if (bytes < FIRST_SPAN_MIN)
			bytes = FIRST_SPAN_MIN;
	}
	if (limit != SIZE_MAX) {
		size_t used = os_address_used();
		size_t ration = (limit > used ? limit - used : 0) / RATION_PART;

		if (ration < RATION_MIN)
			ration = RATION_MIN;
		if (bytes > ration)
			bytes = ration;
	}
	return bytes > needed ? bytes : needed;
}

/* Where the parts of a span of nr_blocks are, from its start; total is what to reserve. */
struct span_layout {
	size_t client, blocks, whole, total;
};

static struct span_layout span_layout(size_t nr_blocks)
{
	struct span_layout at;

	/* Granules, so that no two parts share a page even where pages are 64 KiB. */
	at.client = nr_blocks * PAGEBLOCK_BYTES + GUARD_BYTES;
	at.blocks = at.client + round_up(nr_blocks * zone.config.client_bytes, GRANULE_BYTES);
	at.whole = at.blocks + round_up(nr_blocks * sizeof(struct pageblock), GRANULE_BYTES);
	/* Whole blocks, which the kernel aligns to blocks by itself. */
	at.total = round_up(at.whole + (nr_blocks + 63) / 64 * 8, PAGEBLOCK_BYTES);
	return at;
}

/* Reserves a span of nr_blocks and publishes it. */
static bool span_create(size_t nr_blocks)
{
	unsigned number = span_count();
	struct span_layout at = span_layout(nr_blocks);
	struct span *span = &spans[number];
	char *base = os_reserve(at.total, PAGEBLOCK_BYTES);

	if (base == NULL)
		return false;
	(void)os_hugepage(base + at.client, at.total - at.client, false);
	if (os_commit(base + at.whole, (nr_blocks + 63) / 64 * 8) != 0)
		goto undo_reserve;
	if (zone.config.span_added != NULL &&
	    zone.config.span_added(base, nr_blocks * PAGEBLOCK_BYTES) != 0)
		goto undo_reserve;

	span->start = pfn_of(base);
	span->nr_blocks = nr_blocks;
	span->base = base;
	span->client = base + at.client;
	span->blocks = (struct pageblock *)(void *)(base + at.blocks);
	span->whole = (uint64_t *)(void *)(base + at.whole);
	span->first_whole = 0;
	/* Release pairs with span_count(): all of the above can be read. */
	atomic_store_explicit(&nr_spans, number + 1, memory_order_release);
	return true;

undo_reserve:
	os_unreserve(base, at.total);
	return false;
}

/* A new span with room for needed_blocks, as large as the system allows. */
static bool span_add(size_t needed_blocks)
{
	size_t nr_blocks;

	if (span_count() == SPANS_MAX || needed_blocks > (size_t)1 << (ADDRESS_BITS - PAGEBLOCK_SHIFT))
		return false;
	nr_blocks = span_target_bytes(needed_blocks * PAGEBLOCK_BYTES) / PAGEBLOCK_BYTES;
	for (;;) {
		if (span_create(nr_blocks))
			return true;
		if (nr_blocks == needed_blocks)
			return false;
		nr_blocks /= 2;
		if (nr_blocks < needed_blocks)
			nr_blocks = needed_blocks;
	}
}

struct pageblock *span_grow(size_t nr_blocks, size_t align_blocks, enum migratetype mt)
{
	unsigned nr = span_count();
	bool refused = false;

	ASSERT(lock_held(LOCK_ZONE));
	for (unsigned i = 0; i < nr; i++) {
		struct pageblock *block =
			grow_at_end(&spans[i], nr_blocks, align_blocks, mt, &refused);

		if (block != NULL)
			return block;
	}
	/*
	 * More address space does not help where memory is refused.  A span starts at any
	 * block, so alignment may cost all but one of align_blocks.
	 */
	if (refused || !span_add(nr_blocks + align_blocks - 1))
		return NULL;
	return grow_at_end(&spans[nr], nr_blocks, align_blocks, mt, &refused);
}

int span_init(void)
{
	return span_add(1) ? 0 : -ENOMEM;
}
