/* Frees of objects of other heaps; see remote.h. */
#include "shim/remote.h"

#include "shim/limits.h"
#include "shim/settle.h"
#include "shim/slab.h"

#define OUTGOING_BYTES_MAX 16384u
/* What an object counts besides its bytes: bounds how many are delivered at once. */
#define OUTGOING_EXTRA 64

/*
 * The class of an object that has come home, by what the table says of it; NR_CLASSES: this
 * is not its home, or its slab is cold, and what comes for that is settled as strays are.
 * The bin itself, which the heap's thread writes to all the time, is not looked at.
 */
static unsigned class_at_home(const struct heap *h, const struct object *o)
{
	/* Relaxed: a stale answer is one of the past owners, who finds a stray. */
	size_t entry = atomic_load_explicit(arena_entry(o), memory_order_relaxed);
	size_t offset = entry - (size_t)((const char *)h->bins - arena_base());

	return offset < sizeof(h->bins) ? (unsigned)(offset / sizeof(struct bin)) : NR_CLASSES;
}

/*
 * Objects come home, into the inboxes of their classes; the chain of those that do not.
 * *too_long: an inbox is longer than it may be.
 */
static struct object *receive(struct heap *h, struct object *o, bool *too_long)
{
	struct object *strays = NULL, *next;

	for (; o != NULL; o = next) {
		unsigned cls = class_at_home(h, o);
		struct heap_class *hc = &h->classes[cls];

		next = o->next;
		if (unlikely(cls == NR_CLASSES)) {
			o->next = strays;
			strays = o;
			continue;
		}
		o->next = hc->inbox;
		if (hc->inbox == NULL) {
			hc->inbox_tail = o;
			hc->inbox_most = 2 * limits_bin(cls);
			h->has_inbox[cls / 64] |= (uint64_t)1 << cls % 64;
		}
		hc->inbox = o;
		if (unlikely(++hc->nr_inbox > hc->inbox_most))
			*too_long = true;
	}
	return strays;
}

/* When nobody takes what comes it is freed for real, so that a thread that only frees makes
 * nothing grow. */
static COLD struct object *settle_long_inboxes(struct heap *h)
{
	struct object *strays = NULL;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (h->classes[cls].nr_inbox > h->classes[cls].inbox_most)
			strays = settle_join(settle_inbox(h, cls), strays);
	}
	return strays;
}

static void deliver(struct outgoing *slot)
{
	struct heap *h = slot->heap;
	struct object *strays, *o;
	bool too_long = false;

	/* Under the lock an object is in the slot or in the inbox, never in both: a fork
	 * takes this lock too. */
	lock_acquire(&h->lock, LOCK_HEAP);
	o = slot->head;
	*slot = (struct outgoing){ .heap = NULL };
	strays = h->ownerless ? settle_chain(h, o) : receive(h, o, &too_long);
	if (unlikely(too_long))
		strays = settle_join(settle_long_inboxes(h), strays);
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
}

/* The slot for a heap, one of two places; makes room when both are taken by others. */
static struct outgoing *outgoing_slot(struct heap *h, struct heap *to)
{
	size_t i = (uintptr_t)to / HEAP_STRIDE % NR_OUTGOING;
	struct outgoing *first = &h->outgoing[i], *second = &h->outgoing[i ^ 1];

	if (likely(first->heap == to))
		return first;
	if (second->heap == to)
		return second;
	if (first->heap != NULL && second->heap != NULL)
		deliver(first->room < second->room ? first : second);
	if (first->heap != NULL)
		first = second;
	first->heap = to;
	first->room = (int32_t)limits_moved(OUTGOING_BYTES_MAX);
	return first;
}

void remote_free(struct heap *h, struct heap *to, size_t nr_bytes, struct object *o)
{
	struct outgoing *out = outgoing_slot(h, to);

	o->next = out->head;
	o->key = arena_key();
	/* A fork may copy the slot between any two stores: see remote_mend_slots(). */
	atomic_signal_fence(memory_order_release);
	out->head = o;
	out->room -= (int32_t)nr_bytes + OUTGOING_EXTRA;
	if (out->room <= 0) {
		deliver(out);
		work_tick();
	}
}

void remote_deliver_all(struct heap *h)
{
	for (unsigned i = 0; i < NR_OUTGOING; i++) {
		if (h->outgoing[i].heap != NULL)
			deliver(&h->outgoing[i]);
	}
}

/*
 * What a thread that is gone wrote without a lock may have been copied between any two
 * stores.  The chain is whole at every moment, because an object is linked before it
 * becomes the head; a slot without one is none.
 */
void remote_mend_slots(struct heap *h)
{
	for (unsigned i = 0; i < NR_OUTGOING; i++) {
		if (h->outgoing[i].heap == NULL || h->outgoing[i].head == NULL)
			h->outgoing[i] = (struct outgoing){ .heap = NULL };
	}
}
