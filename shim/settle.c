/* Settling free objects; see settle.h. */
#include "shim/settle.h"

#include "shim/diag.h"
#include "shim/limits.h"
#include "shim/slabs.h"

#include <limits.h>

/* Unlocks first: a SIGABRT handler of the program may allocate. */
static COLD _Noreturn void fatal_in_chain(struct heap *h, enum diagnostic what,
					  const struct object *o, size_t nr_bytes)
{
	lock_release(&h->lock, LOCK_HEAP);
	diag_fatal(what, "free", o, nr_bytes, o);
}

/* What is wrong with the object that settling stopped at, in a slab of the heap's. */
static COLD _Noreturn void fatal_unsettled(struct heap *h, const struct slab *s,
					   const struct object *o)
{
	if (o->key != arena_key())
		fatal_in_chain(h, DIAG_CORRUPT, o, 0);
	fatal_in_chain(h, DIAG_DOUBLE_FREE, o, class_info[s->cls].bytes);
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
	/* Written to after it was freed, or linked to by one that was. */
	if (unlikely(o->key != arena_key() || !slab_put(s, o)))
		fatal_unsettled(h, s, o);
	h->classes[s->cls].nr_free++;
	settled(h, s);
	return true;
}

/*
 * Settles a chain's first objects, at most `most` > 0; returns the chain of those that belong
 * elsewhere, and *chain becomes the rest.  Neighbours in a chain often lie in one slab: it is
 * looked up, and put where it belongs, once for them.
 */
static struct object *settle_first(struct heap *h, struct object **chain, unsigned most)
{
	struct object *strays = NULL, *o = *chain;

	while (o != NULL) {
		struct block_client *client = zone_find_client(o);
		struct slab *s;

		/* A link that leads out of the spans: somebody wrote to a free object. */
		if (unlikely(client == NULL))
			fatal_in_chain(h, DIAG_CORRUPT, o, 0);
		if (most == 0)
			break;
		s = slab_in(client, o);
		if (likely(slab_heap(s) == h)) {
			unsigned nr = slab_put_chain(s, &o, most);

			most -= nr;
			/* It ends at another slab's, or there is something wrong. */
			if (unlikely(most > 0 && slab_has(s, o)))
				fatal_unsettled(h, s, o);
			h->classes[s->cls].nr_free += nr;
			settled(h, s);
		} else {
			struct object *next = o->next;

			o->next = strays;
			strays = o;
			o = next;
			most--;
		}
	}
	*chain = o;
	return strays;
}

struct object *settle_chain(struct heap *h, struct object *o)
{
	return settle_first(h, &o, UINT_MAX);
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

struct object *settle_empty_bin(struct bin *b)
{
	struct object *all = b->head;

	b->head = NULL;
	b->room = b->max;
	return all;
}

/* The newest of a bin's objects, which are at hand, go: no other is looked at. */
static void settle_newest(struct heap *h, struct bin *b, uint32_t length, uint32_t nr)
{
	struct object *o, *strays;

	/* Under the lock, so that a fork finds each object in one place. */
	lock_acquire(&h->lock, LOCK_HEAP);
	h->nr_slow++;
	o = settle_empty_bin(b);
	strays = settle_first(h, &o, nr);
	b->head = o;
	settle_set_length(b, o != NULL ? length - nr : 0);
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
	work_tick();
}

NOINLINE void settle_bin(struct heap *h, struct bin *b)
{
	uint32_t length = b->max; /* the room is used up */
	uint32_t most = limits_bin(b->cls), batch = limits_batch(b->cls);

	if (b->ran_dry && b->max < most) {
		b->ran_dry = false;
		b->max = (uint16_t)(b->max + batch < most ? b->max + batch : most);
		settle_set_length(b, length);
		return;
	}
	if (b->max > most)
		b->max = (uint16_t)most;
	if (batch > b->max / 2u)
		batch = (b->max + 1u) / 2u;
	settle_newest(h, b, length, length - b->max + batch);
}
