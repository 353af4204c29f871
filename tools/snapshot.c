/* See snapshot.h: the blocks and the zone's counters here, caches in heaps.c, what is
 * resident in resident.c. */
#include "tools/snapshot.h"

#include "tools/look.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BLOCKS 64u
#define BLOCK_TRIES 64u
/* A look at everything is repeated so often for the sake of one moment. */
#define ROUNDS 4u
#define SPANS_MAX_SEEN 4096u
#define BLOCKS_MAX_SEEN ((uint64_t)1 << 26) /* 2^47 bytes */

const char *const type_labels[NR_TYPES] = {
#define MIGRATETYPE(name, label, f1, f2) label,
#include "core/migratetype.def"
#undef MIGRATETYPE
};

/* --- one block ------------------------------------------------------------------------- */

static unsigned count_bits(const uint64_t *words)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BLOCK_WORDS; i++)
		n += (unsigned)__builtin_popcountll(words[i]);
	return n;
}

static void copy_bits(uint64_t *to, const char *copy, struct place place)
{
	memcpy(to, copy + place.offset, BLOCK_WORDS * sizeof(*to));
}

/* Whether a copy of a block is of one moment, as far as it can tell by itself. */
static bool is_whole(const struct reader *r, const char *copy)
{
	uint64_t free[BLOCK_WORDS], dirty[BLOCK_WORDS], purging[BLOCK_WORDS];
	bool overlap = false;

	copy_bits(free, copy, r->at.pageblock_free);
	copy_bits(dirty, copy, r->at.pageblock_dirty);
	copy_bits(purging, copy, r->at.pageblock_purging);
	for (unsigned i = 0; i < BLOCK_WORDS; i++) {
		overlap |= (free[i] & purging[i]) != 0;
		dirty[i] &= free[i];
	}
	return !overlap && get(copy, r->at.pageblock_nr_free) == count_bits(free) &&
	       get(copy, r->at.pageblock_nr_dirty) == count_bits(dirty) &&
	       get(copy, r->at.pageblock_nr_purging) == count_bits(purging);
}

/* False: no block is like this. Counts come from the maps, so that they cannot disagree. */
static bool view_block(const struct reader *r, const char *copy, uint64_t pfn,
		       struct block_view *b)
{
	uint64_t purging[BLOCK_WORDS], free_dirty[BLOCK_WORDS];
	uint64_t type = get(copy, r->at.pageblock_type);
	uint64_t isolated = get(copy, r->at.pageblock_isolated);

	if (get(copy, r->at.pageblock_pfn) != pfn || type >= NR_TYPES || isolated > 1)
		return false;
	memset(b, 0, sizeof(*b));
	copy_bits(b->free, copy, r->at.pageblock_free);
	copy_bits(b->dirty, copy, r->at.pageblock_dirty);
	copy_bits(purging, copy, r->at.pageblock_purging);
	for (unsigned i = 0; i < BLOCK_WORDS; i++) {
		purging[i] &= ~b->free[i];
		free_dirty[i] = b->dirty[i] & b->free[i];
	}
	b->address = pfn << r->at.page_shift;
	b->type = (uint8_t)type;
	b->state = isolated == 0 ? BLOCK_OPEN
		   : get(copy, r->at.pageblock_owner) == r->at.isolate_offline ? BLOCK_OFFLINE
									       : BLOCK_ISOLATED;
	b->nr_free = (uint16_t)count_bits(b->free);
	b->nr_purging = (uint16_t)count_bits(purging);
	b->nr_dirty = (uint16_t)count_bits(free_dirty);
	b->idle_since_ns = get(copy, r->at.pageblock_idle_since_ns);
	return true;
}

/* --- spans ------------------------------------------------------------------------------- */

struct walk {
	struct reader *r;
	struct snapshot *s;
	uint64_t zone; /* addresses */
	uint64_t lock;
	size_t room;   /* blocks there is memory for */
	bool one_moment;
};

/* Reads single blocks again that were written to meanwhile. */
static int mend_block(struct walk *w, uint64_t from, char *copy)
{
	for (unsigned try = 0; try < BLOCK_TRIES && !is_whole(w->r, copy); try++) {
		w->r->nr_torn++;
		if (!reader_read(w->r, from, copy, w->r->at.sizeof_pageblock))
			return reader_why(w->r);
	}
	return 0;
}

static int walk_chunk(struct walk *w, uint64_t from, uint64_t pfn, unsigned nr)
{
	size_t block_bytes = w->r->at.sizeof_pageblock;
	char *copy = malloc(nr * block_bytes);
	enum read_result result;
	int status = 0;

	if (copy == NULL)
		return reader_garbled(w->r, "more blocks than there is memory for");
	result = reader_read_locked(w->r, w->lock, from, copy, nr * block_bytes);
	if (result == READ_FAILED)
		status = reader_why(w->r);
	w->one_moment &= result == READ_WHOLE;
	for (unsigned i = 0; i < nr && status == 0; i++) {
		if (result == READ_TORN)
			status = mend_block(w, from + i * block_bytes, copy + i * block_bytes);
		if (status == 0 && !view_block(w->r, copy + i * block_bytes,
					       pfn + (uint64_t)i * BLOCK_PAGES,
					       &w->s->blocks[w->s->nr_blocks++]))
			status = reader_garbled(w->r, "a pageblock that is none");
	}
	free(copy);
	return status;
}

static bool make_room(struct walk *w, size_t nr)
{
	struct block_view *more;
	size_t room = w->room;

	while (room < w->s->nr_blocks + nr)
		room = room == 0 ? 256 : room * 2;
	if (room == w->room)
		return true;
	more = realloc(w->s->blocks, room * sizeof(*more));
	if (more == NULL)
		return false;
	w->s->blocks = more;
	w->room = room;
	return true;
}

static int walk_span(struct walk *w, const char *copy)
{
	struct layout *at = &w->r->at;
	uint64_t nr = get(copy, at->span_nr_committed);
	uint64_t from = get(copy, at->span_blocks), pfn = get(copy, at->span_start);
	int status = 0;

	if (nr > get(copy, at->span_nr_blocks) || nr > BLOCKS_MAX_SEEN)
		return reader_garbled(w->r, "a span that is larger than itself");
	for (uint64_t i = 0; i < nr && status == 0; i += CHUNK_BLOCKS) {
		unsigned n = nr - i < CHUNK_BLOCKS ? (unsigned)(nr - i) : CHUNK_BLOCKS;

		if (!make_room(w, n))
			return reader_garbled(w->r, "more blocks than there is memory for");
		status = walk_chunk(w, from + i * at->sizeof_pageblock, pfn + i * BLOCK_PAGES, n);
	}
	return status;
}

static int walk_spans(struct walk *w)
{
	size_t span_bytes = w->r->at.sizeof_span;
	uint64_t nr_bytes, address = reader_object(w->r, "spans", &nr_bytes);
	char *copy;
	int status = 0;

	if (address == 0 || nr_bytes / span_bytes > SPANS_MAX_SEEN)
		return reader_garbled(w->r, "no spans");
	copy = malloc(nr_bytes);
	if (copy == NULL || !reader_read(w->r, address, copy, nr_bytes)) {
		free(copy);
		return reader_why(w->r);
	}
	w->s->nr_blocks = 0;
	w->s->nr_spans = 0;
	for (uint64_t i = 0; i < nr_bytes / span_bytes && status == 0; i++) {
		/* Spans are added one after the other: the first empty one ends them. */
		if (get(copy + i * span_bytes, w->r->at.span_nr_blocks) == 0)
			break;
		w->s->nr_spans++;
		status = walk_span(w, copy + i * span_bytes);
	}
	free(copy);
	return status;
}

/* --- sums ---------------------------------------------------------------------------------- */

/* Free runs by order, the largest there are, of one block. */
static void count_runs(const uint64_t *free, uint64_t *runs)
{
	bool is[BLOCK_PAGES];
	unsigned nr[NR_ORDERS] = { 0 };

	for (unsigned i = 0; i < BLOCK_PAGES; i++)
		is[i] = (free[i / 64] >> i % 64 & 1) != 0;
	for (unsigned order = 0; order < NR_ORDERS - 1; order++) {
		for (unsigned i = 0; i < BLOCK_PAGES; i += 1u << order) {
			if (order > 0)
				is[i] = is[i] && is[i + (1u << (order - 1))];
			nr[order] += is[i];
		}
	}
	/* Two that make a larger one are not counted themselves. */
	for (unsigned order = 0; order < NR_ORDERS - 1; order++)
		runs[order] += nr[order] - 2 * nr[order + 1];
}

/* The same of whole blocks: a pair that is aligned and alike is one run of the next order. */
static void merge_whole(struct snapshot *s)
{
	for (size_t i = 0; i + 1 < s->nr_blocks; i++) {
		const struct block_view *a = &s->blocks[i], *b = a + 1;

		if (a->nr_free != BLOCK_PAGES || b->nr_free != BLOCK_PAGES ||
		    a->address % (2 * BLOCK_BYTES) != 0 ||
		    b->address != a->address + BLOCK_BYTES || a->state != b->state ||
		    a->state == BLOCK_OFFLINE || (a->state == BLOCK_OPEN && a->type != b->type))
			continue;
		uint64_t *runs = a->state == BLOCK_OPEN ? s->runs[a->type] : s->isolated_runs;

		runs[NR_ORDERS - 2] -= 2;
		runs[NR_ORDERS - 1]++;
		i++;
	}
}

static void add_block(struct snapshot *s, const struct block_view *b)
{
	bool cma = strcmp(type_labels[b->type], "CMA") == 0;

	s->total += BLOCK_PAGES;
	s->purging += b->nr_purging;
	s->dirty += b->nr_dirty;
	s->blocks_of[b->type]++;
	s->cma += cma ? BLOCK_PAGES : 0;
	if (b->state == BLOCK_OFFLINE) {
		s->nr_offline++;
		s->offline += BLOCK_PAGES;
	} else if (b->state == BLOCK_ISOLATED) {
		s->nr_isolated++;
		s->isolated += b->nr_free;
		count_runs(b->free, s->isolated_runs);
	} else {
		s->free += b->nr_free;
		s->cma_free += cma ? b->nr_free : 0;
		s->nr_whole += b->nr_free == BLOCK_PAGES;
		count_runs(b->free, s->runs[b->type]);
	}
}

/* Once the caches are known too. */
static void add_up(struct snapshot *s)
{
	uint64_t taken;

	for (size_t i = 0; i < s->nr_blocks; i++)
		add_block(s, &s->blocks[i]);
	merge_whole(s);
	taken = s->total - s->free - s->isolated - s->purging - s->offline;
	if (s->cached > taken)
		s->cached = taken;
	s->allocated = taken - s->cached;
}

/* --- the zone -------------------------------------------------------------------------------- */

static void copy_pairs(uint64_t to[NR_TYPES][NR_TYPES], const char *copy, struct place place)
{
	if (place.size == sizeof(uint64_t) * NR_TYPES * NR_TYPES)
		memcpy(to, copy + place.offset, place.size);
}

static int read_zone(struct walk *w, char *copy)
{
	struct layout *at = &w->r->at;
	struct snapshot *s = w->s;
	enum read_result result =
		reader_read_locked(w->r, w->lock, w->zone, copy, at->sizeof_zone);

	if (result == READ_FAILED)
		return reader_why(w->r);
	w->one_moment &= result == READ_WHOLE;
#define X(name) s->name = get(copy, at->zone_##name);
	ZONE_COUNTERS(X)
#undef X
	copy_pairs(s->claims_of, copy, at->zone_claims_of);
	copy_pairs(s->steals_of, copy, at->zone_steals_of);
	return 0;
}

/* Of one moment, the blocks and the counters say the same, or they are damaged. */
static int compare(struct reader *r, const struct snapshot *s, const char *copy)
{
	if (get(copy, r->at.zone_total_pages) != s->total)
		return reader_garbled(r, "another number of pages than it counts");
	if (get(copy, r->at.zone_free_pages) != s->free ||
	    get(copy, r->at.zone_isolated_free_pages) != s->isolated ||
	    get(copy, r->at.zone_purging_pages) != s->purging ||
	    get(copy, r->at.zone_offline_pages) != s->offline)
		return reader_garbled(r, "other free pages than it counts");
	return 0;
}

/* Everything under the zone's lock, several times if need be. */
static int take_zone(struct walk *w, char *copy)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		char first[LOCK_BYTES_MAX];
		size_t lock_bytes = w->r->at.sizeof_lock;
		int status;

		w->one_moment = true;
		status = read_zone(w, copy);
		if (status != 0)
			return status;
		memcpy(first, copy + w->r->at.zone_lock.offset, lock_bytes);
		status = walk_spans(w);
		if (status == 0)
			status = read_zone(w, copy);
		if (status != 0)
			return status;
		w->one_moment &=
			memcmp(first, copy + w->r->at.zone_lock.offset, lock_bytes) == 0;
		if (w->one_moment)
			break;
	}
	return 0;
}

int snapshot_take(struct snapshot *s, struct reader *r, unsigned what)
{
	struct walk w = { .r = r, .s = s, .zone = reader_object(r, "zone", NULL) };
	char *copy = malloc(r->at.sizeof_zone);
	int status;

	memset(s, 0, sizeof(*s));
	w.lock = w.zone + r->at.zone_lock.offset;
	if (copy == NULL || w.zone == 0) {
		free(copy);
		return reader_garbled(r, "no zone");
	}
	status = take_zone(&w, copy);
	s->exact = w.one_moment;
	if (status == 0)
		status = look_at_heaps(s, r, (what & LOOK_CHAINS) != 0);
	if (status == 0) {
		add_up(s);
		if (s->exact)
			status = compare(r, s, copy);
	}
	if (status == 0 && (what & LOOK_CLIENTS) != 0)
		status = look_at_clients(s, r);
	if (status == 0)
		look_at_resident(s, r, (what & LOOK_RESIDENT) != 0);
	s->slabs = s->slabs < s->allocated * PAGE_SIZE_BYTES ? s->slabs
							     : s->allocated * PAGE_SIZE_BYTES;
	s->large = s->allocated * PAGE_SIZE_BYTES - s->slabs;
	s->live += s->large;
	free(copy);
	if (status != 0)
		snapshot_free(s);
	return status;
}

void snapshot_free(struct snapshot *s)
{
	free(s->blocks);
	free(s->classes);
	free(s->pcps);
	s->blocks = NULL;
	s->classes = NULL;
	s->pcps = NULL;
}

/* --- derived --------------------------------------------------------------------------------- */

uint64_t snapshot_runs(const struct snapshot *s, unsigned order)
{
	uint64_t nr = 0;

	for (unsigned type = 0; type < NR_TYPES; type++)
		nr += s->runs[type][order];
	return nr;
}

int snapshot_fragmentation_index(const struct snapshot *s, unsigned order)
{
	uint64_t nr = 0, suitable = 0;

	for (unsigned k = 0; k < NR_ORDERS; k++) {
		nr += snapshot_runs(s, k);
		suitable += k >= order ? snapshot_runs(s, k) : 0;
	}
	if (nr == 0)
		return 0;
	if (suitable > 0)
		return -1000;
	return 1000 - (int)((1000 + s->free * 1000 / ((uint64_t)1 << order)) / nr);
}

int snapshot_unusable_index(const struct snapshot *s, unsigned order)
{
	uint64_t usable = 0;

	/* The kernel's answer where nothing is free. */
	if (s->free == 0)
		return 1000;
	for (unsigned k = order; k < NR_ORDERS; k++)
		usable += snapshot_runs(s, k) << k;
	return (int)((s->free - usable) * 1000 / s->free);
}

const char *human_bytes(char buffer[24], uint64_t nr_bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	double n = (double)nr_bytes / 1024;
	unsigned unit = 0;

	if (nr_bytes < 1024) {
		snprintf(buffer, 24, "%u B", (unsigned)nr_bytes);
		return buffer;
	}
	while (n >= 999.95 && unit < 3) {
		n /= 1024;
		unit++;
	}
	snprintf(buffer, 24, "%.1f %s", n, units[unit]);
	return buffer;
}
