/* Making a suspicion of a double free certain; see suspect.h. */
#include "shim/suspect.h"

#include "shim/heap.h"
#include "shim/slab.h"

#define CHAIN_MAX (1u << 16)

/*
 * Whether o is on a chain that another thread may be changing.  Every step is
 * checked before it is followed: it must be an object of the class (or of any, for
 * NR_CLASSES) with the key still in place, and slabs stay mapped whatever happens.
 */
static bool chain_has(struct object *chain, const struct object *o, unsigned cls)
{
	for (unsigned n = 0; chain != NULL && n < CHAIN_MAX; n++) {
		if (chain == o)
			return true;
		if (!zone_owns(chain))
			return false;

		struct slab *s = slab_of(chain);

		if (slab_heap(s) == NULL || (cls != NR_CLASSES && s->cls != cls) ||
		    (uintptr_t)chain % ALIGN_MIN != 0)
			return false;

		const volatile struct object *o_seen = chain;
		struct object *next = o_seen->next;

		if (o_seen->key != arena_key())
			return false;
		chain = next;
	}
	return false;
}

static bool is_on_a_chain(struct heap *owner, struct slab *s, const struct object *o)
{
	struct bin *b = slab_bin(s, owner);

	if (chain_has(b->head, o, b->cls))
		return true;
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		for (unsigned i = 0; i < NR_OUTGOING; i++) {
			if (h->outgoing[i].heap == owner &&
			    chain_has(h->outgoing[i].head, o, NR_CLASSES))
				return true;
		}
	}
	return false;
}

/*
 * The object's second word holds the key.  It is free already if its slab or an inbox
 * says so, which is exact, or if it is found on a thread's chain; that look at other
 * threads' chains is repeated, so that no change under way can fool it.
 */
COLD bool suspect_is_freed(struct slab *s, const void *p)
{
	struct heap *owner = slab_heap(s);
	const struct object *o = p;
	bool found;

	if (owner == NULL)
		return true;

	lock_acquire(&owner->lock, LOCK_HEAP);
	found = slab_is_free(s, o) || chain_has(owner->classes[s->cls].inbox, o, s->cls);
	lock_release(&owner->lock, LOCK_HEAP);
	if (!found) {
		found = true;
		for (unsigned look = 0; look < 3 && found; look++)
			found = is_on_a_chain(owner, s, o);
	}
	return found;
}
