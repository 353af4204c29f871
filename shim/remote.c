/* Frees of objects of other heaps; see remote.h. */
#include "shim/remote.h"

#include "shim/limits.h"
#include "shim/settle.h"
#include "shim/slab.h"

#define OUTGOING_BYTES_MAX 65536u
/* What an object counts besides its bytes: bounds how many are delivered at once. */
#define OUTGOING_EXTRA 64

/* The bin that owns the object by now, as the table says; the null bin for a cold slab. */
static struct bin *bin_of(const struct object *o)
{
	/* Relaxed: a stale answer is one of the past owners, who finds a stray. */
	return (struct bin *)(void *)(arena_base() +
				      atomic_load_explicit(arena_entry(o),
							   memory_order_relaxed));
}

/*
 * One object comes home; false: this is not its home.  When nobody takes what comes, it
 * is freed for real, so that a thread that only frees makes nothing grow.
 */
static bool receive(struct heap *h, struct object *o, struct object **strays)
{
	struct bin *b = bin_of(o);
	struct heap_class *hc = &h->classes[b->cls];

	/* What comes for a cold slab is settled as strays are. */
	if (unlikely(heap_of_bin(b) != h))
		return false;
	if (h->ownerless)
		return settle_object(h, o);
	o->next = hc->inbox;
	if (hc->inbox == NULL) {
		hc->inbox_tail = o;
		h->has_inbox[b->cls / 64] |= (uint64_t)1 << b->cls % 64;
	}
	hc->inbox = o;
	if (unlikely(++hc->nr_inbox > 2 * limits_bin(b->cls)))
		*strays = settle_join(settle_inbox(h, b->cls), *strays);
	return true;
}

static void deliver(struct outgoing *slot)
{
	struct heap *h = slot->heap;
	struct object *strays = NULL, *o;

	/* Under the lock an object is in the slot or in the inbox, never in both: a fork
	 * takes this lock too. */
	lock_acquire(&h->lock, LOCK_HEAP);
	o = slot->head;
	*slot = (struct outgoing){ .heap = NULL };
	while (o != NULL) {
		struct object *next = o->next;

		if (unlikely(!receive(h, o, &strays))) {
			o->next = strays;
			strays = o;
		}
		o = next;
	}
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
