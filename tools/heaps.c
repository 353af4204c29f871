/*
 * What the small-object caches hold: heaps, their bins, inboxes and outgoing slots, and
 * threads' page caches.
 *
 * A heap is read between two looks at its lock.  Its bins change without it, but a bin's
 * length stands in one word.
 */
#include "tools/look.h"

#include <stdlib.h>

/* Heaps come from an arena that has no room for more. */
#define HEAPS_MAX 65536u
#define CLASSES_MAX 256u
/* Objects of an outgoing slot: there are never more, whatever the chain says. */
#define CHAIN_MAX 4096u

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

/* The class of an object, by the owner table; false: it is in no slab. */
static bool class_of_object(struct reader *r, struct table *t, uint64_t object, unsigned *cls)
{
	uint64_t granule = object >> r->at.granule_shift;
	char bin[128];
	uint32_t entry;

	if (granule != t->granule) {
		if (r->at.sizeof_bin > sizeof(bin) || granule >> 31 != 0 ||
		    !reader_read(r, t->address + granule * 4, &entry, 4) || entry == 0 ||
		    !reader_read(r, t->address - r->at.arena_bytes + entry, bin,
				 r->at.sizeof_bin))
			return false;
		t->granule = granule;
		t->cls = (unsigned)get(bin, r->at.bin_cls);
	}
	*cls = t->cls;
	return t->cls < r->at.nr_classes;
}

/* Follows a chain as far as it makes sense. */
static void follow_chain(struct snapshot *s, struct reader *r, struct table *t, uint64_t object)
{
	for (unsigned n = 0; n < CHAIN_MAX && object != 0; n++) {
		char copy[64];
		unsigned cls;

		if (r->at.sizeof_object > sizeof(copy) ||
		    !reader_read(r, object, copy, r->at.sizeof_object) ||
		    get(copy, r->at.object_key) != t->address ||
		    !class_of_object(r, t, object, &cls)) {
			r->nr_torn++;
			return;
		}
		s->classes[cls].nr_cached++;
		object = get(copy, r->at.object_next);
	}
}

static void add_outgoing(struct snapshot *s, struct reader *r, struct table *t,
			 const char *heap)
{
	size_t one = r->at.sizeof_outgoing;

	for (size_t i = 0; i + one <= r->at.heap_outgoing.size; i += one) {
		const char *slot = heap + r->at.heap_outgoing.offset + i;

		if (get(slot, r->at.outgoing_heap) != 0)
			follow_chain(s, r, t, get(slot, r->at.outgoing_head));
	}
}

/* --- heaps ------------------------------------------------------------------------------------- */

/* nr_cached and nr_free are cut to what there can be later, by settle_classes(). */
static void add_heap(struct snapshot *s, struct reader *r, const char *heap)
{
	for (unsigned cls = 0; cls < s->nr_classes; cls++) {
		const char *hc =
			heap + r->at.heap_classes.offset + cls * r->at.sizeof_heap_class;
		const char *bin = heap + r->at.heap_bins.offset + cls * r->at.sizeof_bin;
		struct class_view *c = &s->classes[cls];
		int64_t length = (int64_t)get(bin, r->at.bin_max) -
				 (int32_t)get(bin, r->at.bin_room);

		c->nr_slabs += get(hc, r->at.heap_class_nr_slabs);
		c->nr_free += get(hc, r->at.heap_class_nr_free);
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

static int walk_heaps(struct snapshot *s, struct reader *r, struct table *t, char *heap)
{
	struct layout *at = &r->at;
	uint64_t next = 0;

	if (at->heap_bins.size < s->nr_classes * at->sizeof_bin ||
	    at->heap_classes.size < s->nr_classes * at->sizeof_heap_class)
		return reader_garbled(r, "heaps without classes");
	if (!reader_read(r, reader_object(r, "heaps", NULL), &next, sizeof(next)))
		return reader_why(r);
	while (next != 0) {
		if (s->nr_heaps >= HEAPS_MAX)
			return reader_garbled(r, "heaps without end");
		switch (reader_read_locked(r, next + at->heap_lock.offset, next, heap,
					   at->sizeof_heap)) {
		case READ_FAILED:
			return reader_why(r);
		case READ_TORN:
			s->exact = false;
			break;
		case READ_WHOLE:
			break;
		}
		add_heap(s, r, heap);
		add_outgoing(s, r, t, heap);
		next = get(heap, at->heap_next_all);
	}
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

/* A number the library shows; 0 when it does not. */
static uint64_t read_number(struct reader *r, const char *name)
{
	uint64_t n = 0, nr_bytes, address = reader_object(r, name, &nr_bytes);

	if (address == 0 || !reader_read(r, address, &n, nr_bytes < 8 ? nr_bytes : 8))
		return 0;
	return n;
}

int look_at_heaps(struct snapshot *s, struct reader *r)
{
	struct table table = { .granule = UINT64_MAX };
	uint64_t address = reader_object(r, "arena_table", NULL);
	char *heap = malloc(r->at.sizeof_heap);
	int status = read_classes(s, r);

	if (status == 0 && (heap == NULL || address == 0 ||
			    !reader_read(r, address, &table.address, sizeof(table.address))))
		status = reader_why(r);
	if (status == 0)
		status = walk_heaps(s, r, &table, heap);
	free(heap);
	if (status != 0)
		return status;
	settle_classes(s);
	s->pcp_drains = read_number(r, "pcp_drains");
	s->pcps_disabled = read_number(r, "pcp_disabled") != 0;
	return walk_pcps(s, r);
}
