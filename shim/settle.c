/* Settling free objects; see settle.h. */
#include "shim/settle.h"

#include "shim/diag.h"
#include "shim/limits.h"
#include "shim/slabs.h"

/* Unlocks first: a SIGABRT handler of the program may allocate. */
static COLD _Noreturn void fatal_in_chain(struct heap *h, enum diagnostic what,
					  const struct object *o, size_t nr_bytes)
{
	lock_release(&h->lock, LOCK_HEAP);
	diag_fatal(what, "free", o, nr_bytes, o);
}

/* Sets the object's bit in its slab, which is the heap's; settled() is still to come. */
static void put_object(struct heap *h, struct slab *s, struct object *o)
{
	/* Written to after it was freed, or linked to by one that was. */
	if (unlikely(o->key != arena_key()))
		fatal_in_chain(h, DIAG_CORRUPT, o, 0);
	if (unlikely(!slab_put(s, o)))
		fatal_in_chain(h, DIAG_DOUBLE_FREE, o, class_info[s->cls].bytes);
	h->classes[s->cls].nr_free++;
}

/* After objects have been put into a slab: it goes, or to the list it belongs on. */
static void settled(struct heap *h, struct slab *s)
{
	if (slabs_is_spare(h, s))
		slabs_release(h, s);
	else
		slabs_update(&h->classes[s->cls], s);
}

/* False when the object's slab belongs to another heap by now. */
bool settle_object(struct heap *h, struct object *o)
{
	struct slab *s = slab_of(o);

	if (unlikely(slab_heap(s) != h))
		return false;
	put_object(h, s, o);
	settled(h, s);
	return true;
}

/*
 * Settles a chain; returns the chain of those that belong elsewhere.  Neighbours in a chain
 * often lie in one granule: the slab is looked up, and put where it belongs, once for them.
 */
struct object *settle_chain(struct heap *h, struct object *o)
{
	struct object *strays = NULL, *next;
	struct slab *s = NULL; /* of the granule, when it is the heap's */
	uintptr_t granule = 0;

	for (; o != NULL; o = next) {
		if ((uintptr_t)o >> GRANULE_SHIFT != granule) {
			if (s != NULL)
				settled(h, s);
			/* A link that leads out of the spans: somebody wrote to a free object.
			 */
			if (unlikely(!zone_owns(o)))
				fatal_in_chain(h, DIAG_CORRUPT, o, 0);
			granule = (uintptr_t)o >> GRANULE_SHIFT;
			s = slab_of(o);
			if (unlikely(slab_heap(s) != h))
				s = NULL;
		}
		next = o->next;
		if (likely(s != NULL)) {
			put_object(h, s, o);
			continue;
		}
		o->next = strays;
		strays = o;
	}
	if (s != NULL)
		settled(h, s);
	return strays;
}

struct object *settle_inbox(struct heap *h, unsigned cls)
{
	struct heap_class *hc = &h->classes[cls];
	struct object *chain = hc->inbox;

	hc->inbox = NULL;
	hc->nr_inbox = 0;
	h->has_inbox[cls / 64] &= ~((uint64_t)1 << cls % 64);
	return settle_chain(h, chain);
}

/* Takes what belongs to cordoned slabs out of a bin. */
static struct object *cut_cordoned(struct heap *h, struct bin *b)
{
	struct object **link = &b->head, *cut = NULL, *o;

	while ((o = *link) != NULL) {
		if (unlikely(!zone_owns(o) || o->key != arena_key()))
			fatal_in_chain(h, DIAG_CORRUPT, o, 0);
		if ((slab_flags(slab_of(o)) & SLAB_CORDONED) == 0) {
			link = &o->next;
			continue;
		}
		*link = o->next;
		o->next = cut;
		cut = o;
		b->room++;
	}
	return cut;
}

struct object *settle_cordoned(struct heap *h)
{
	struct object *strays = NULL;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (!slabs_any_cordoned(cls))
			continue;
		strays = settle_join(settle_chain(h, cut_cordoned(h, &h->bins[cls])), strays);
		strays = settle_join(settle_inbox(h, cls), strays);
	}
	return strays;
}

/* Objects that no longer belonged to the heap they were sent to go to the one they do. */
void settle_strays(struct object *o)
{
	while (o != NULL) {
		struct object *next = o->next;
		bool settled;

		do {
			struct heap *owner = slab_heap(slab_of(o));

			if (unlikely(owner == NULL))
				diag_fatal(DIAG_CORRUPT, "free", o, 0, o);
			lock_acquire(&owner->lock, LOCK_HEAP);
			settled = settle_object(owner, o);
			lock_release(&owner->lock, LOCK_HEAP);
		} while (!settled);
		o = next;
	}
}

struct object *settle_join(struct object *a, struct object *b)
{
	struct object *last = a;

	if (a == NULL)
		return b;
	while (last->next != NULL)
		last = last->next;
	last->next = b;
	return a;
}

void settle_set_length(struct bin *b, uint32_t length)
{
	if (length >= b->max)
		b->max = (uint16_t)(length < UINT16_MAX ? length + 1 : UINT16_MAX);
	b->room = (int32_t)(b->max - length);
	if (unlikely(b->room < 1))
		b->room = 1;
}

struct object *settle_cut_bin(struct bin *b, unsigned keep)
{
	struct object *o = b->head, *rest;
	unsigned n = 1;

	if (keep == 0 || o == NULL) {
		b->head = NULL;
		b->room = b->max;
		return o;
	}
	for (; n < keep && o->next != NULL; n++)
		o = o->next;
	rest = o->next;
	o->next = NULL;
	settle_set_length(b, n);
	return rest;
}

static void settle_give(struct heap *h, struct object *chain)
{
	struct object *strays;

	lock_acquire(&h->lock, LOCK_HEAP);
	h->nr_slow++;
	strays = settle_chain(h, chain);
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
	work_tick();
}

NOINLINE void settle_bin(struct heap *h, struct bin *b)
{
	uint32_t max = limits_bin(b->cls);

	if (b->ran_dry && b->max < max) {
		uint32_t length = b->max; /* the room is used up */

		b->ran_dry = false;
		b->max = (uint16_t)(b->max + limits_batch(b->cls) < max
					    ? b->max + limits_batch(b->cls)
					    : max);
		settle_set_length(b, length);
		return;
	}
	if (b->max > max)
		b->max = (uint16_t)max;
	settle_give(h, settle_cut_bin(b, b->max / 2u));
}
