/*
 * What the small-object caches hold: heaps, their bins, inboxes and outgoing slots, and
 * threads' page caches.
 *
 * A heap is read between two looks at its lock.  Its bins change without it, but a bin's
 * length stands in one word, so that a heap is seen at one moment, and what is not in its
 * keeping is live or on its way home, in another thread's outgoing slot.  Slots are
 * followed object by object when all heaps are at rest; of heaps at work what is on its way
 * counts as live.  Slabs that change hands between two looks would be counted twice or
 * not at all: then all heaps are looked at again.
 */
#include "tools/look.h"

#include <stdlib.h>

/* Heaps come from an arena that has no room for more. */
#define HEAPS_MAX 65536u
#define CLASSES_MAX 256u
/* Objects of an outgoing slot: there are never more, whatever the chain says. */
#define CHAIN_MAX 65536u
/* A look at all heaps is repeated so often when slabs change hands. */
#define ROUNDS 8u

/* --- classes ------------------------------------------------------------------------------ */

static int read_classes(struct snapshot *s, struct reader *r)
{
	uint64_t nr_bytes, address = reader_object(r, "class_info", &nr_bytes);
	size_t nr = r->at.nr_classes, one = r->at.sizeof_class_info;
	char *copy;

	if (address == 0 || nr > CLASSES_MAX || nr_bytes != nr * one)
		return reader_garbled(r, "no size classes");
	copy = malloc(nr_bytes);
	s->classes = calloc(nr, sizeof(s->classes[0]));
	if (copy == NULL || s->classes == NULL || !reader_read(r, address, copy, nr_bytes)) {
		free(copy);
		return reader_why(r);
	}
	s->nr_classes = nr;
	for (size_t i = 0; i < nr; i++) {
		const char *info = copy + i * one;

		s->classes[i].bytes = (uint32_t)get(info, r->at.class_info_bytes);
		s->classes[i].nr_objects = (uint32_t)get(info, r->at.class_info_nr_objects);
		s->classes[i].slab_bytes = (uint32_t)(get(info, r->at.class_info_nr_granules)
						      << r->at.granule_shift);
	}
	free(copy);
	return 0;
}

/* --- objects on their way to other heaps ----------------------------------------------------- */

struct table {
	uint64_t address; /* of the owner table, which is also the key of free objects */
	uint64_t granule; /* the last one asked for, and its class */
	unsigned cls;
};

/* The class of a granule by the owner table. */
static bool class_by_table(struct reader *r, struct table *t, uint64_t granule)
{
	char bin[128];
	uint32_t entry;

	if (r->at.sizeof_bin > sizeof(bin) || granule >> 31 != 0 ||
	    !reader_read(r, t->address + granule * 4, &entry, 4) || entry == 0 ||
	    !reader_read(r, t->address - r->at.arena_bytes + entry, bin, r->at.sizeof_bin))
		return false;
	t->cls = (unsigned)get(bin, r->at.bin_cls);
	return true;
}

/* By the slab's header, for cold slabs, which the table does not know. */
static bool class_by_slab(struct reader *r, struct table *t, uint64_t granule)
{
	const struct layout *at = &r->at;
	uint64_t nr_bytes, spans = reader_object(r, "spans", &nr_bytes);
	uint64_t pfn = granule << (at->granule_shift - at->page_shift);
	char span[128], slab[256];

	if (at->sizeof_span > sizeof(span) || at->sizeof_slab > sizeof(slab))
		return false;
	for (uint64_t i = 0; i < nr_bytes / at->sizeof_span; i++) {
		uint64_t block, of_block;

		if (!reader_read(r, spans + i * at->sizeof_span, span, at->sizeof_span))
			return false;
		block = (pfn - get(span, at->span_start)) / BLOCK_PAGES;
		if (block >= get(span, at->span_nr_committed))
			continue;
		of_block = get(span, at->span_client) + block * at->block_client_bytes +
			   at->block_client_slabs.offset;
		/* The first granule's header is the slab's; the others say how far it is. */
		for (uint64_t g = granule % BLOCK_GRANULES, delta = 1; delta != 0; g -= delta) {
			if (!reader_read(r, of_block + g * at->sizeof_slab, slab,
					 at->sizeof_slab))
				return false;
			delta = get(slab, at->slab_head_delta);
			if (delta > g)
				return false;
		}
		t->cls = (unsigned)get(slab, at->slab_cls);
		return get(slab, at->slab_heap) != 0;
	}
	return false;
}

/* False: it is in no slab. */
static bool class_of_object(struct reader *r, struct table *t, uint64_t object, unsigned *cls)
{
	uint64_t granule = object >> r->at.granule_shift;

	if (granule != t->granule) {
		if (!class_by_table(r, t, granule) && !class_by_slab(r, t, granule))
			return false;
		t->granule = granule;
	}
	*cls = t->cls;
	return t->cls < r->at.nr_classes;
}

/* Follows a chain; false: it makes no sense, somebody is at work on it. */
static bool follow_chain(struct snapshot *s, struct reader *r, struct table *t, uint64_t object,
			 uint64_t *nr_cached)
{
	for (unsigned n = 0; object != 0; n++) {
		char copy[64];
		unsigned cls;

		if (n == CHAIN_MAX || r->at.sizeof_object > sizeof(copy) ||
		    !reader_read(r, object, copy, r->at.sizeof_object) ||
		    get(copy, r->at.object_key) != t->address ||
		    !class_of_object(r, t, object, &cls) || cls >= s->nr_classes)
			return false;
		nr_cached[cls]++;
		object = get(copy, r->at.object_next);
	}
	return true;
}

/* --- heaps ------------------------------------------------------------------------------------- */

/* One look at all heaps. */
struct heap_walk {
	struct reader *r;
	struct snapshot *s;
	struct table table;
	char *heap;     /* a copy of one */
	char *kept;     /* of each, what must not change while chains are followed */
	size_t nr_kept, room;
	uint64_t *on_way; /* objects in outgoing slots, by class */
	bool one_moment; /* each heap is seen at one */
};

/* Per heap in kept: its address, its lock, its outgoing slots. */
static size_t kept_bytes(const struct reader *r)
{
	return sizeof(uint64_t) + r->at.sizeof_lock + r->at.heap_outgoing.size;
}

static bool keep_heap(struct heap_walk *w, uint64_t address)
{
	const struct layout *at = &w->r->at;
	char *to;

	if (w->nr_kept == w->room) {
		size_t room = w->room == 0 ? 32 : w->room * 2;
		char *more = realloc(w->kept, room * kept_bytes(w->r));

		if (more == NULL)
			return false;
		w->kept = more;
		w->room = room;
	}
	to = w->kept + w->nr_kept++ * kept_bytes(w->r);
	memcpy(to, &address, sizeof(address));
	memcpy(to + sizeof(address), w->heap + at->heap_lock.offset, at->sizeof_lock);
	memcpy(to + sizeof(address) + at->sizeof_lock, w->heap + at->heap_outgoing.offset,
	       at->heap_outgoing.size);
	return true;
}

/* Whether nothing of that has changed, and no lock is held. */
static bool is_at_rest(struct heap_walk *w)
{
	const struct layout *at = &w->r->at;

	for (size_t i = 0; i < w->nr_kept; i++) {
		const char *kept = w->kept + i * kept_bytes(w->r);
		uint64_t address;

		memcpy(&address, kept, sizeof(address));
		kept += sizeof(address);
		if (get(kept, at->lock_state) != at->lock_free ||
		    !reader_read(w->r, address + at->heap_lock.offset, w->heap,
				 at->sizeof_lock) ||
		    memcmp(w->heap, kept, at->sizeof_lock) != 0)
			return false;
		kept += at->sizeof_lock;
		if (!reader_read(w->r, address + at->heap_outgoing.offset, w->heap,
				 at->heap_outgoing.size) ||
		    memcmp(w->heap, kept, at->heap_outgoing.size) != 0)
			return false;
	}
	return true;
}

/* What is on its way home, of heaps at rest; false: they are not. */
static bool follow_all(struct heap_walk *w)
{
	const struct layout *at = &w->r->at;
	size_t one = at->sizeof_outgoing;

	memset(w->on_way, 0, w->s->nr_classes * sizeof(w->on_way[0]));
	if (!is_at_rest(w))
		return false;
	for (size_t i = 0; i < w->nr_kept; i++) {
		const char *slots = w->kept + i * kept_bytes(w->r) + sizeof(uint64_t) +
				    at->sizeof_lock;

		for (size_t k = 0; k + one <= at->heap_outgoing.size; k += one) {
			if (get(slots + k, at->outgoing_heap) != 0 &&
			    !follow_chain(w->s, w->r, &w->table,
					  get(slots + k, at->outgoing_head), w->on_way))
				return false;
		}
	}
	return is_at_rest(w);
}

/* nr_cached and nr_free are cut to what there can be later, by settle_classes(). */
static void add_heap(struct snapshot *s, struct reader *r, const char *heap)
{
	struct place_view *place =
		&s->places[get(heap, r->at.heap_place) % HEAP_PLACES_MAX];

	for (unsigned cls = 0; cls < s->nr_classes; cls++) {
		const char *hc =
			heap + r->at.heap_classes.offset + cls * r->at.sizeof_heap_class;
		const char *bin = heap + r->at.heap_bins.offset + cls * r->at.sizeof_bin;
		struct class_view *c = &s->classes[cls];
		int64_t length = (int64_t)get(bin, r->at.bin_max) -
				 (int32_t)get(bin, r->at.bin_room);

		uint64_t nr_slabs = get(hc, r->at.heap_class_nr_slabs);
		uint64_t nr_free = get(hc, r->at.heap_class_nr_free);

		c->nr_slabs += nr_slabs;
		c->nr_free += nr_free;
		place->slabs += nr_slabs * c->slab_bytes;
		if (nr_free < nr_slabs * c->nr_objects)
			place->live += (nr_slabs * c->nr_objects - nr_free) * c->bytes;
		c->nr_cached += get(hc, r->at.heap_class_nr_inbox);
		if (get(bin, r->at.bin_head) != 0 && length > 0)
			c->nr_cached += (uint64_t)length;
	}
	s->nr_heaps++;
	s->nr_ownerless += get(heap, r->at.heap_ownerless) != 0;
}

static void settle_classes(struct snapshot *s)
{
	for (size_t i = 0; i < s->nr_classes; i++) {
		struct class_view *c = &s->classes[i];
		uint64_t all = c->nr_slabs * c->nr_objects;

		if (c->nr_free > all)
			c->nr_free = all;
		if (c->nr_cached > all - c->nr_free)
			c->nr_cached = all - c->nr_free;
		c->nr_live = all - c->nr_free - c->nr_cached;
		s->slabs += c->nr_slabs * c->slab_bytes;
		s->slabs_free += c->nr_free * c->bytes;
		s->slabs_cached += c->nr_cached * c->bytes;
		s->live += c->nr_live * c->bytes;
	}
}

static void forget_heaps(struct heap_walk *w)
{
	struct snapshot *s = w->s;

	for (size_t i = 0; i < s->nr_classes; i++)
		s->classes[i].nr_slabs = s->classes[i].nr_free = s->classes[i].nr_cached = 0;
	s->nr_heaps = s->nr_ownerless = 0;
	w->nr_kept = 0;
	w->one_moment = true;
}

static int walk_heaps(struct heap_walk *w)
{
	struct layout *at = &w->r->at;
	uint64_t next = 0;

	forget_heaps(w);
	if (!reader_read(w->r, reader_object(w->r, "heaps", NULL), &next, sizeof(next)))
		return reader_why(w->r);
	while (next != 0) {
		enum read_result result = reader_read_locked(
			w->r, next + at->heap_lock.offset, next, w->heap, at->sizeof_heap);

		if (w->s->nr_heaps >= HEAPS_MAX || !keep_heap(w, next))
			return reader_garbled(w->r, "heaps without end");
		if (result == READ_FAILED)
			return reader_why(w->r);
		w->one_moment &= result == READ_WHOLE;
		add_heap(w->s, w->r, w->heap);
		next = get(w->heap, at->heap_next_all);
	}
	return 0;
}

/* A number the library shows; 0 when it does not. */
static uint64_t read_number(struct reader *r, const char *name)
{
	uint64_t n = 0, nr_bytes, address = reader_object(r, name, &nr_bytes);

	if (address == 0 || !reader_read(r, address, &n, nr_bytes < 8 ? nr_bytes : 8))
		return 0;
	return n;
}

/* Looks at all heaps until no slab changed hands meanwhile. */
static int take_heaps(struct heap_walk *w, bool chains)
{
	bool at_rest = false;

	for (unsigned round = 0; round < ROUNDS && !at_rest; round++) {
		uint64_t handed_over = read_number(w->r, "handed_over");
		int status = walk_heaps(w);

		if (status != 0)
			return status;
		at_rest = chains && w->one_moment && follow_all(w);
		/* Odd: one is changing hands just now. */
		if (handed_over % 2 == 0 && handed_over == read_number(w->r, "handed_over"))
			break;
		w->r->nr_torn++;
	}
	w->s->exact &= at_rest || !chains;
	for (size_t i = 0; i < w->s->nr_classes && at_rest; i++)
		w->s->classes[i].nr_cached += w->on_way[i];
	return 0;
}

/* --- page caches ----------------------------------------------------------------------------------- */

static int walk_pcps(struct snapshot *s, struct reader *r)
{
	uint64_t next = 0, pcps = reader_object(r, "pcps", NULL);
	size_t room = 0;
	char *copy = malloc(r->at.sizeof_pcp);
	int status = 0;

	if (copy == NULL || pcps == 0 || !reader_read(r, pcps, &next, sizeof(next)))
		status = reader_why(r);
	while (next != 0 && status == 0) {
		uint64_t nr_pages;

		if (s->nr_pcps == room) {
			struct pcp_view *more;

			room = room == 0 ? 64 : room * 2;
			more = room > HEAPS_MAX ? NULL : realloc(s->pcps, room * sizeof(*more));
			if (more == NULL) {
				status = reader_garbled(r, "page caches without end");
				break;
			}
			s->pcps = more;
		}
		if (!reader_read(r, next, copy, r->at.sizeof_pcp)) {
			status = reader_why(r);
			break;
		}
		nr_pages = get(copy, r->at.pcp_nr_pages);
		s->pcps[s->nr_pcps++] = (struct pcp_view){
			.nr_pages = nr_pages,
			.high = get(copy, r->at.pcp_high) + get(copy, r->at.pcp_high_saved),
			.refills = get(copy, r->at.pcp_refills),
		};
		s->cached += nr_pages;
		next = get(copy, r->at.pcp_next);
	}
	free(copy);
	return status;
}

int look_at_heaps(struct snapshot *s, struct reader *r, bool chains)
{
	struct heap_walk w = { .r = r, .s = s, .table.granule = UINT64_MAX };
	uint64_t address = reader_object(r, "arena_table", NULL);
	int status = read_classes(s, r);

	if (status != 0)
		return status;
	if (r->at.heap_bins.size < s->nr_classes * r->at.sizeof_bin ||
	    r->at.heap_classes.size < s->nr_classes * r->at.sizeof_heap_class)
		return reader_garbled(r, "heaps without classes");
	w.heap = malloc(r->at.sizeof_heap);
	w.on_way = malloc(s->nr_classes * sizeof(w.on_way[0]));
	if (w.heap == NULL || w.on_way == NULL || address == 0 ||
	    !reader_read(r, address, &w.table.address, sizeof(w.table.address)))
		status = reader_why(r);
	if (status == 0)
		status = take_heaps(&w, chains);
	free(w.heap);
	free(w.kept);
	free(w.on_way);
	if (status != 0)
		return status;
	settle_classes(s);
	s->pcp_drains = read_number(r, "pcp_drains");
	s->pcps_disabled = read_number(r, "pcp_disabled") != 0;
	return walk_pcps(s, r);
}
