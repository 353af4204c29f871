/*
 * The naive model.  See oracle.h.
 */
#include "tests/support/oracle.h"

#include "core/index.h"
#include "core/span.h"
#include "core/zone.h"
#include "tests/support/fake_os.h"

#include <stdio.h>
#include <string.h>

#define BLOCK ((unsigned)PAGEBLOCK_PAGES)

static void wrong(struct oracle *oracle, const char *what)
{
	if (oracle->wrong == NULL) {
		oracle->wrong = what;
		fprintf(stderr, "oracle: %s\n", what);
	}
}

#define EXPECT(cond)                                                                           \
	do {                                                                                   \
		if (!(cond))                                                                   \
			wrong(oracle, #cond);                                                  \
	} while (0)

void oracle_init(struct oracle *oracle, pfn_t base, unsigned max_blocks, struct pcp *pcp)
{
	memset(oracle, 0, sizeof(*oracle));
	oracle->base = base;
	oracle->max_blocks = max_blocks;
	oracle->pcp = pcp;
}

/* --- looking at the bytes ------------------------------------------------------------------ */

static bool all_free(const struct oracle *oracle, unsigned page, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (oracle->page[page + i] != ORACLE_FREE)
			return false;
	return true;
}

static void look(struct oracle *oracle, unsigned block)
{
	unsigned first = block * BLOCK;

	if (!oracle->stale[block])
		return;
	oracle->stale[block] = false;
	oracle->nr_free[block] = 0;
	oracle->nr_dirty[block] = 0;
	oracle->order[block] = -1;
	for (unsigned i = 0; i < BLOCK; i++) {
		if (oracle->page[first + i] == ORACLE_FREE) {
			oracle->nr_free[block]++;
			oracle->nr_dirty[block] +=
				fake_os_touched(oracle->base + first + i) ? 1 : 0;
		}
	}
	for (int k = (int)PAGEBLOCK_ORDER; k >= 0 && oracle->order[block] < 0; k--)
		for (unsigned i = 0; i < BLOCK; i += 1u << k)
			if (all_free(oracle, first + i, 1u << k)) {
				oracle->order[block] = k;
				break;
			}
}

static void look_all(struct oracle *oracle)
{
	for (unsigned b = 0; b < oracle->nr_blocks; b++)
		look(oracle, b);
}

static void mark(struct oracle *oracle, pfn_t pfn, size_t n, enum oracle_page from,
		 enum oracle_page to)
{
	unsigned first = (unsigned)(pfn - oracle->base);

	if (pfn < oracle->base || first + n > oracle->nr_blocks * BLOCK) {
		wrong(oracle, "a run outside of the committed blocks");
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		EXPECT(oracle->page[first + i] == from);
		oracle->page[first + i] = (uint8_t)to;
		oracle->stale[(first + i) / BLOCK] = true;
	}
}

static void mark_cached_run(struct oracle *oracle, uint64_t run, size_t n, enum oracle_page from,
			    enum oracle_page to)
{
	mark(oracle, run >> 1, n, from, to);
	if (to != ORACLE_CACHED || oracle->wrong != NULL)
		return;
	/* A cache keeps one bit for a run: when part of it is dirty, all of it becomes so. */
	if ((run & 1) == 0)
		fake_os_touch(run >> 1, n);
	EXPECT((run & 1) == 0 || fake_os_zero(run >> 1, n));
}

/* Marks what the pcp's slots say that it caches, from one state to another. */
static void mark_cached(struct oracle *oracle, enum oracle_page from, enum oracle_page to)
{
	const struct pcp *pcp = oracle->pcp;

	for (unsigned list = 0; pcp != NULL && list < PCP_LISTS; list++)
		for (unsigned slot = pcp->head[list]; slot != 0; slot = pcp->older[slot])
			mark_cached_run(oracle, pcp->run[slot], (size_t)1 << list / PCP_TYPES,
					from, to);
}

/* Blocks that the real one has more than the model: all free. */
static unsigned follow_growth(struct oracle *oracle, enum migratetype mt)
{
	struct core_stats stats;
	unsigned before = oracle->nr_blocks;

	core_stats_read(&stats);
	EXPECT(stats.nr_blocks >= before && stats.nr_blocks <= oracle->max_blocks);
	if (oracle->wrong != NULL)
		return 0;
	for (; oracle->nr_blocks < stats.nr_blocks; oracle->nr_blocks++) {
		oracle->type[oracle->nr_blocks] = (uint8_t)mt;
		oracle->stale[oracle->nr_blocks] = true;
	}
	return oracle->nr_blocks - before;
}

/* --- what must happen ------------------------------------------------------------------------ */

enum kind { OWN, CLAIM_DIRTY, OWN_CLEAN, CLAIM_CLEAN, GROW, CLAIM_HALF, STEAL, NO_ROOM };

#define NO_KEY 99u

/* The place of a block in the order "fullest first, whole ones last, resident before clean". */
static unsigned key_of(const struct oracle *oracle, unsigned block)
{
	if (oracle->nr_free[block] == BLOCK)
		return oracle->nr_dirty[block] > 0 ? 15 : 16;
	return oracle->nr_free[block] / 32;
}

static bool serves(const struct oracle *oracle, unsigned block, unsigned order)
{
	return !oracle->isolated[block] && oracle->order[block] >= (int)order;
}

/* The smallest key among blocks of the type that can serve the order. */
static unsigned best_key(const struct oracle *oracle, enum migratetype mt, unsigned order)
{
	unsigned best = NO_KEY;

	for (unsigned b = 0; b < oracle->nr_blocks; b++)
		if (oracle->type[b] == mt && serves(oracle, b, order) && key_of(oracle, b) < best)
			best = key_of(oracle, b);
	return best;
}

static bool other_whole(const struct oracle *oracle, enum migratetype mt, bool dirty)
{
	for (unsigned b = 0; b < oracle->nr_blocks; b++)
		if (oracle->type[b] != mt && oracle->type[b] != MIGRATE_CMA &&
		    !oracle->isolated[b] && oracle->nr_free[b] == BLOCK &&
		    (oracle->nr_dirty[b] > 0) == dirty)
			return true;
	return false;
}

static bool can_grow(const struct oracle *oracle, unsigned nr_blocks)
{
	return oracle->nr_blocks + nr_blocks <= oracle->max_blocks;
}

/* Whether a block of another type can serve; half: and is at least half free. */
static bool other_serves(const struct oracle *oracle, enum migratetype mt, unsigned order,
			 bool half)
{
	for (unsigned b = 0; b < oracle->nr_blocks; b++) {
		if (oracle->type[b] == mt || !serves(oracle, b, order))
			continue;
		if (oracle->type[b] == MIGRATE_CMA && (half || mt == MIGRATE_UNMOVABLE))
			continue;
		if (!half || oracle->nr_free[b] >= BLOCK / 2)
			return true;
	}
	return false;
}

static enum kind expected(struct oracle *oracle, enum migratetype mt, unsigned order,
			  unsigned *key)
{
	look_all(oracle);
	*key = best_key(oracle, mt, order);
	if (*key < 16 || (mt == MIGRATE_CMA && *key == 16))
		return OWN;
	if (mt == MIGRATE_CMA)
		return NO_ROOM;
	if (other_whole(oracle, mt, true))
		return CLAIM_DIRTY;
	if (*key == 16)
		return OWN_CLEAN;
	if (other_whole(oracle, mt, false))
		return CLAIM_CLEAN;
	if (can_grow(oracle, 1))
		return GROW;
	if (other_serves(oracle, mt, order, true))
		return CLAIM_HALF;
	return other_serves(oracle, mt, order, false) ? STEAL : NO_ROOM;
}

/* --- allocation ---------------------------------------------------------------------------------- */

static struct core_stats read_stats(void)
{
	struct core_stats stats;

	core_stats_read(&stats);
	return stats;
}

/* What the model cannot predict it follows, but for what must never happen. */
static void follow_types(struct oracle *oracle)
{
	for (unsigned b = 0; b < oracle->nr_blocks; b++) {
		enum migratetype mt = pageblock_type(span_block(oracle->base + b * BLOCK));

		if (oracle->type[b] == mt)
			continue;
		EXPECT(oracle->type[b] != MIGRATE_CMA && mt != MIGRATE_CMA);
		oracle->type[b] = (uint8_t)mt;
	}
	oracle->claims = read_stats().claims;
	oracle->steals = read_stats().steals;
	oracle->grown = read_stats().grown;
}

/* Follows a change of type that the model expects. */
static void follow_claim(struct oracle *oracle, unsigned block, enum migratetype mt)
{
	EXPECT(!oracle->isolated[block]);
	if (oracle->type[block] == mt)
		return;
	EXPECT(oracle->type[block] != MIGRATE_CMA && mt != MIGRATE_CMA);
	oracle->type[block] = (uint8_t)mt;
	oracle->claims++;
}

static void compare_kind(struct oracle *oracle, enum kind kind, unsigned key, unsigned block,
			 enum migratetype mt, unsigned grew)
{
	unsigned other_key = key_of(oracle, block);
	unsigned nr_free = oracle->nr_free[block];
	bool same_type = oracle->type[block] == mt;

	EXPECT(!oracle->isolated[block]);
	EXPECT((kind == GROW) == (grew > 0) || oracle->may_refuse);
	switch (kind) {
	case OWN:
	case OWN_CLEAN:
		EXPECT(same_type && other_key == key);
		break;
	case CLAIM_DIRTY:
	case CLAIM_CLEAN:
		EXPECT(!same_type && nr_free == BLOCK);
		EXPECT((oracle->nr_dirty[block] > 0) == (kind == CLAIM_DIRTY));
		follow_claim(oracle, block, mt);
		break;
	case GROW:
		if (grew == 0 && oracle->may_refuse && !same_type) {
			/* Refused: claimed or stolen, as the real one's type says. */
			if (pageblock_type(span_block(oracle->base + block * BLOCK)) == mt)
				follow_claim(oracle, block, mt);
			else
				oracle->steals++;
			break;
		}
		EXPECT(same_type && nr_free == BLOCK);
		break;
	case CLAIM_HALF:
		EXPECT(!same_type && nr_free >= BLOCK / 2);
		follow_claim(oracle, block, mt);
		break;
	case STEAL:
		EXPECT(!same_type);
		oracle->steals++;
		break;
	case NO_ROOM:
	default:
		wrong(oracle, "a run where the model has no room");
		break;
	}
}

static void compare_run(struct oracle *oracle, pfn_t pfn, size_t nr_pages, unsigned align_order,
			bool zeroed)
{
	EXPECT((pfn & (((pfn_t)1 << align_order) - 1)) == 0);
	EXPECT(zeroed == fake_os_zero(pfn, nr_pages));
	mark(oracle, pfn, nr_pages, ORACLE_FREE, ORACLE_TAKEN);
	if (oracle->wrong == NULL)
		fake_os_use(pfn, nr_pages);
}

/* What the real one did. */
struct outcome {
	pfn_t pfn;
	bool zeroed;
	bool drained; /* it gave back what the pcp had, and tried again */
	unsigned grew;
};

static struct outcome real_alloc(struct oracle *oracle, size_t nr_pages, unsigned align_order,
				 enum migratetype mt)
{
	struct outcome out = {.pfn = 0};
	uint64_t cached = read_stats().pcp_pages;

	mark_cached(oracle, ORACLE_CACHED, ORACLE_FREE);
	out.pfn = zone_alloc(nr_pages, align_order, mt, &out.zeroed);
	out.drained = cached > 0 && read_stats().pcp_pages == 0;
	mark_cached(oracle, ORACLE_FREE, ORACLE_CACHED);
	out.grew = follow_growth(oracle, mt);
	oracle->grown += out.grew > 0;
	return out;
}

/*
 * A run that is no power of two may also come from a block that is no emptier and has room for
 * it all the same, though not for the next power of two.
 */
static bool is_tight(const struct oracle *oracle, const struct outcome *out, size_t nr_pages,
		     unsigned align_order, enum migratetype mt, unsigned key)
{
	unsigned block = (unsigned)(out->pfn - oracle->base) / BLOCK;
	unsigned order = log2_ceil(nr_pages);

	return align_order == 0 && nr_pages < (size_t)1 << order && out->grew == 0 &&
	       oracle->type[block] == mt && !oracle->isolated[block] &&
	       oracle->nr_free[block] < BLOCK && key_of(oracle, block) <= key &&
	       oracle->order[block] + 1 >= (int)order;
}

static pfn_t alloc_in_block(struct oracle *oracle, size_t nr_pages, unsigned align_order,
			    enum migratetype mt)
{
	unsigned order = log2_ceil(nr_pages);
	struct outcome out;
	enum kind kind;
	unsigned key;

	if (order < align_order)
		order = align_order;
	kind = expected(oracle, mt, order, &key);
	out = real_alloc(oracle, nr_pages, align_order, mt);
	EXPECT(!out.drained || kind == NO_ROOM || oracle->may_refuse);
	if (out.drained)
		kind = expected(oracle, mt, order, &key);
	if (out.pfn == 0) {
		EXPECT(kind == NO_ROOM || (kind == GROW && oracle->may_refuse &&
					   !other_serves(oracle, mt, order, false)));
		return 0;
	}
	look_all(oracle);
	if (out.drained && oracle->may_refuse)
		follow_types(oracle);
	else if (oracle->wrong == NULL && !is_tight(oracle, &out, nr_pages, align_order, mt, key))
		compare_kind(oracle, kind, key, (unsigned)(out.pfn - oracle->base) / BLOCK, mt,
			     out.grew);
	compare_run(oracle, out.pfn, nr_pages, align_order, out.zeroed);
	return out.pfn;
}

/* Whether nr_blocks from first on are whole and can be had. */
static bool whole_run(const struct oracle *oracle, unsigned first, unsigned nr_blocks)
{
	for (unsigned b = first; b < first + nr_blocks; b++)
		if (oracle->nr_free[b] != BLOCK || oracle->isolated[b] ||
		    oracle->type[b] == MIGRATE_CMA)
			return false;
	return true;
}

static bool aligned_block(const struct oracle *oracle, unsigned block, unsigned align_order)
{
	return ((oracle->base + block * BLOCK) & (((pfn_t)1 << align_order) - 1)) == 0;
}

/* The lowest whole run; blocks not yet committed are whole if beyond is set. */
static unsigned lowest_run(struct oracle *oracle, unsigned nr_blocks, unsigned align_order,
			   bool beyond)
{
	unsigned end = beyond ? oracle->max_blocks : oracle->nr_blocks;

	look_all(oracle);
	for (unsigned b = 0; b + nr_blocks <= end; b++) {
		unsigned there = b + nr_blocks <= oracle->nr_blocks ? nr_blocks
				 : b >= oracle->nr_blocks	    ? 0
								    : oracle->nr_blocks - b;

		if (aligned_block(oracle, b, align_order) && whole_run(oracle, b, there))
			return b;
	}
	return ORACLE_BLOCKS;
}

static bool is_whole(struct oracle *oracle, unsigned block)
{
	return whole_run(oracle, block, 1);
}

/* Whether a run of `full` blocks and a tail, or 0, may begin with the block: at the start of a
 * stretch of whole ones, or so that the tail lies in the block in use behind it. */
static bool may_begin(struct oracle *oracle, unsigned block, unsigned full, unsigned tail,
		      enum migratetype mt)
{
	unsigned end = block + full;

	if (end > oracle->nr_blocks || !whole_run(oracle, block, full))
		return false;
	if (tail == 0)
		return block == 0 || !is_whole(oracle, block - 1);
	return end < oracle->nr_blocks && !is_whole(oracle, end) && !oracle->isolated[end] &&
	       oracle->type[end] == mt && all_free(oracle, end * BLOCK, tail);
}

static unsigned first_run(struct oracle *oracle, unsigned full, unsigned tail,
			  enum migratetype mt)
{
	unsigned first = ORACLE_BLOCKS;

	for (unsigned b = 0; b < oracle->nr_blocks; b++) {
		if (!may_begin(oracle, b, full, tail, mt))
			continue;
		if (oracle->nr_dirty[b] > 0)
			return b;
		if (first == ORACLE_BLOCKS)
			first = b;
	}
	return first;
}

/* Where a run of more than a block goes among the blocks there are. */
static unsigned best_run(struct oracle *oracle, size_t nr_pages, unsigned align_order,
			 enum migratetype mt)
{
	unsigned full = (unsigned)(nr_pages / BLOCK), tail = (unsigned)(nr_pages % BLOCK);
	unsigned found = ORACLE_BLOCKS;

	if (align_order > PAGEBLOCK_ORDER)
		return lowest_run(oracle, full + (tail != 0), align_order, false);
	look_all(oracle);
	if (tail != 0)
		found = first_run(oracle, full, tail, mt);
	return found != ORACLE_BLOCKS ? found : first_run(oracle, full + (tail != 0), 0, mt);
}

static pfn_t alloc_blocks(struct oracle *oracle, size_t nr_pages, unsigned align_order,
			  enum migratetype mt)
{
	unsigned nr_blocks = (unsigned)(nr_pages + BLOCK - 1) / BLOCK;
	unsigned best = best_run(oracle, nr_pages, align_order, mt);
	unsigned beyond = lowest_run(oracle, nr_blocks, align_order, true);
	struct outcome out = real_alloc(oracle, nr_pages, align_order, mt);

	EXPECT(!out.drained || beyond == ORACLE_BLOCKS || mt == MIGRATE_CMA ||
	       oracle->may_refuse);
	if (out.drained && out.grew == 0) {
		best = best_run(oracle, nr_pages, align_order, mt);
		beyond = lowest_run(oracle, nr_blocks, align_order, true);
	}
	if (out.pfn == 0) {
		EXPECT(beyond == ORACLE_BLOCKS || mt == MIGRATE_CMA ||
		       (best == ORACLE_BLOCKS && oracle->may_refuse));
		return 0;
	}
	EXPECT(mt != MIGRATE_CMA);
	EXPECT((best == ORACLE_BLOCKS) == (out.grew > 0));
	if (best == ORACLE_BLOCKS)
		best = beyond;
	EXPECT(out.pfn == oracle->base + (pfn_t)best * BLOCK);
	if (oracle->wrong != NULL)
		return 0;
	for (unsigned b = best; b < best + nr_blocks; b++)
		follow_claim(oracle, b, mt);
	compare_run(oracle, out.pfn, nr_pages, align_order, out.zeroed);
	return out.pfn;
}

pfn_t oracle_alloc(struct oracle *oracle, size_t nr_pages, unsigned align_order,
		   enum migratetype mt)
{
	if (nr_pages > BLOCK || align_order > PAGEBLOCK_ORDER)
		return alloc_blocks(oracle, nr_pages, align_order, mt);
	return alloc_in_block(oracle, nr_pages, align_order, mt);
}

/* --- freeing, extending --------------------------------------------------------------------------- */

void oracle_free(struct oracle *oracle, pfn_t pfn, size_t nr_pages)
{
	fake_os_unuse(pfn, nr_pages);
	mark(oracle, pfn, nr_pages, ORACLE_TAKEN, ORACLE_FREE);
	zone_free(pfn, nr_pages);
}

void oracle_free_clean(struct oracle *oracle, pfn_t pfn, size_t nr_pages)
{
	fake_os_clean(pfn, nr_pages);
	zone_mark_clean(pfn, nr_pages);
	oracle_free(oracle, pfn, nr_pages);
}

static bool can_extend(struct oracle *oracle, pfn_t at, pfn_t end, enum migratetype mt)
{
	look_all(oracle);
	for (; at < end; at++) {
		unsigned page = (unsigned)(at - oracle->base);
		unsigned block = page / BLOCK;

		if (block >= oracle->max_blocks)
			return false;
		if (block >= oracle->nr_blocks)
			return mt != MIGRATE_CMA &&
			       end <= oracle->base + oracle->max_blocks * (pfn_t)BLOCK;
		if (oracle->page[page] != ORACLE_FREE || oracle->isolated[block])
			return false;
		if (oracle->type[block] != mt &&
		    (oracle->nr_free[block] != BLOCK || mt == MIGRATE_CMA ||
		     oracle->type[block] == MIGRATE_CMA))
			return false;
	}
	return true;
}

bool oracle_extend(struct oracle *oracle, pfn_t pfn, size_t nr_pages, size_t new_nr_pages)
{
	pfn_t at = pfn + nr_pages;
	pfn_t end = pfn + new_nr_pages;
	enum migratetype mt = (enum migratetype)oracle->type[(at - 1 - oracle->base) / BLOCK];
	bool can = can_extend(oracle, at, end, mt);
	bool grows = end > oracle->base + oracle->nr_blocks * (pfn_t)BLOCK;
	bool zeroed = false;
	bool done = zone_extend(pfn, nr_pages, new_nr_pages, &zeroed);
	unsigned grew = follow_growth(oracle, mt);

	oracle->grown += grew > 0;
	EXPECT(done == can || (can && grows && oracle->may_refuse));
	EXPECT(!done || grows == (grew > 0));
	if (!done || oracle->wrong != NULL)
		return false;
	for (unsigned b = (unsigned)(at - oracle->base) / BLOCK;
	     at < end && b <= (unsigned)(end - 1 - oracle->base) / BLOCK; b++)
		follow_claim(oracle, b, mt);
	compare_run(oracle, at, new_nr_pages - nr_pages, 0, zeroed);
	return true;
}

/* --- pcplists ------------------------------------------------------------------------------------------ */

pfn_t oracle_pcp_alloc(struct oracle *oracle, unsigned order, enum migratetype mt)
{
	bool zeroed = false;
	pfn_t pfn;

	mark_cached(oracle, ORACLE_CACHED, ORACLE_FREE);
	pfn = pcp_alloc(oracle->pcp, order, mt, &zeroed);
	(void)follow_growth(oracle, mt);
	if (pfn != 0)
		compare_run(oracle, pfn, (size_t)1 << order, order, zeroed);
	else
		EXPECT(!can_grow(oracle, 1) || oracle->may_refuse);
	mark_cached(oracle, ORACLE_FREE, ORACLE_CACHED);
	follow_types(oracle);
	return pfn;
}

void oracle_pcp_free(struct oracle *oracle, pfn_t pfn, unsigned order)
{
	fake_os_unuse(pfn, (size_t)1 << order);
	mark_cached(oracle, ORACLE_CACHED, ORACLE_FREE);
	mark(oracle, pfn, (size_t)1 << order, ORACLE_TAKEN, ORACLE_FREE);
	pcp_free(oracle->pcp, pfn, order);
	mark_cached(oracle, ORACLE_FREE, ORACLE_CACHED);
}

void oracle_pcp_drain(struct oracle *oracle)
{
	mark_cached(oracle, ORACLE_CACHED, ORACLE_FREE);
	pcp_drain(oracle->pcp);
	mark_cached(oracle, ORACLE_FREE, ORACLE_CACHED);
	EXPECT(read_stats().pcp_pages == 0);
}

/* --- giving back ------------------------------------------------------------------------------------------ */

static unsigned free_and_dirty(struct oracle *oracle)
{
	unsigned n = 0;

	for (unsigned b = 0; b < oracle->nr_blocks; b++) {
		oracle->stale[b] = true;
		look(oracle, b);
		n += oracle->nr_dirty[b];
	}
	return n;
}

void oracle_purge_all(struct oracle *oracle)
{
	unsigned before = free_and_dirty(oracle);
	size_t bytes = purge_all();
	unsigned after = free_and_dirty(oracle);

	EXPECT(bytes == (before - after) * PAGE_BYTES);
	EXPECT(after == 0 || oracle->may_refuse);
}

void oracle_purge_tick(struct oracle *oracle)
{
	uint64_t purged = read_stats().purged_pages;
	unsigned before = free_and_dirty(oracle);

	work_tick();
	EXPECT(read_stats().purged_pages - purged == before - free_and_dirty(oracle));
}

/* --- hooks --------------------------------------------------------------------------------------------------- */

void oracle_set_isolated(struct oracle *oracle, unsigned block, bool isolated)
{
	if (block >= oracle->nr_blocks)
		return;
	zone_lock();
	zone_set_isolated_locked(span_block(oracle->base + block * BLOCK), isolated);
	zone_unlock();
	oracle->isolated[block] = isolated;
}

void oracle_make_cma(struct oracle *oracle, unsigned block)
{
	if (block >= oracle->nr_blocks || oracle->type[block] == MIGRATE_CMA)
		return;
	look(oracle, block);
	if (oracle->nr_free[block] != BLOCK || oracle->nr_dirty[block] != 0)
		return;
	zone_lock();
	zone_set_type_locked(span_block(oracle->base + block * BLOCK), MIGRATE_CMA);
	zone_unlock();
	oracle->type[block] = MIGRATE_CMA;
	oracle->claims++;
}

/* --- all of it ------------------------------------------------------------------------------------------------ */

void oracle_compare(struct oracle *oracle)
{
	struct core_stats stats = read_stats();
	uint64_t free_pages = 0, isolated_free = 0, dirty = 0, cached = 0, taken = 0;

	for (unsigned b = 0; b < oracle->nr_blocks; b++) {
		oracle->stale[b] = true;
		look(oracle, b);
		dirty += oracle->nr_dirty[b];
		*(oracle->isolated[b] ? &isolated_free : &free_pages) += oracle->nr_free[b];
		EXPECT(pageblock_type(span_block(oracle->base + b * BLOCK)) == oracle->type[b]);
	}
	for (unsigned i = 0; i < oracle->nr_blocks * BLOCK; i++) {
		cached += oracle->page[i] == ORACLE_CACHED;
		taken += oracle->page[i] == ORACLE_TAKEN;
	}
	EXPECT(stats.total_pages == (uint64_t)oracle->nr_blocks * BLOCK);
	EXPECT(stats.free_pages == free_pages);
	EXPECT(stats.isolated_free_pages == isolated_free);
	EXPECT(stats.dirty_free_pages == dirty);
	EXPECT(stats.pcp_pages == cached);
	EXPECT(stats.allocated_pages == taken);
	EXPECT(stats.purging_pages == 0);
	EXPECT(stats.claims == oracle->claims);
	EXPECT(stats.steals == oracle->steals);
	EXPECT(stats.grown == oracle->grown);
	EXPECT(fake_os.violations == 0);
}
