/*
 * The slow paths of malloc and free; see slow.h.  Medium objects come here always and are
 * served first; small ones when the bin is empty or full, or is not the thread's.
 */
#include "shim/slow.h"

#include "shim/diag.h"
#include "shim/heap.h"
#include "shim/large.h"
#include "shim/limits.h"
#include "shim/linger.h"
#include "shim/remote.h"
#include "shim/sample.h"
#include "shim/settle.h"
#include "shim/sites.h"
#include "shim/slabs.h"
#include "shim/suspect.h"

#include <errno.h>

/* Objects of a class that have come home and are worth a touch to join them to its bin. */
#define INBOX_MUCH 64u
/* A batch of a place is at most 1 / this of what the class has there, and of a batch elsewhere:
 * what it holds is asked for more seldom, and is no more in the cache by then. */
#define PLACE_BATCH_FRACTION 16u
#define PLACE_BATCH_PART 2u
/* Objects that a site's batch may lack. */
#define BATCH_VARIES 8u

/* --- malloc ------------------------------------------------------------------------- */

/*
 * What has come home goes into the bins while the lock is held, that of other classes too
 * where the bin is empty or it is much: the last object of a chain need be touched only to
 * join it to another.  Whether b has objects now.
 */
static bool refill_from_inboxes(struct heap *h, const struct bin *b)
{
	for (unsigned i = 0; i < sizeof(h->has_inbox) / sizeof(h->has_inbox[0]); i++) {
		uint64_t bits = h->has_inbox[i] & ~h->old_inbox[i];

		for (; bits != 0; bits &= bits - 1) {
			unsigned cls = i * 64 + (unsigned)__builtin_ctzll(bits);
			struct heap_class *hc = &h->classes[cls];
			struct bin *to = &h->bins[cls];
			uint32_t length = (uint32_t)(to->max - to->room) + hc->nr_inbox;

			if (to->head != NULL && hc->nr_inbox < INBOX_MUCH)
				continue;
			if (to->head != NULL)
				hc->inbox_tail->next = to->head;
			/* Linked before it is the head: a fork may copy the chain in between.
			 */
			atomic_signal_fence(memory_order_release);
			to->head = hc->inbox;
			settle_set_length(to, length);
			hc->inbox = NULL;
			hc->nr_inbox = 0;
			h->has_inbox[i] &= ~(bits & -bits);
		}
	}
	return b->head != NULL;
}

/* In a place of its own a class begins small: half of a batch lies idle in its bin. */
static unsigned batch_most(const struct heap *h, struct heap_class *hc, unsigned cls)
{
	uint32_t most = limits_batch(cls), first = limits_first(cls), part;

	if (likely(h->place == PLACE_ANY))
		return most;
	most /= PLACE_BATCH_PART;
	part = slabs_count(hc) * class_info[cls].nr_objects / PLACE_BATCH_FRACTION;
	part = part < most ? part : most;
	return part > first ? part : first;
}

/*
 * A batch, for sites a little less, now more and now less: sites that ask in turns would else
 * find the bin empty at the same one's turn each time.
 */
static unsigned batch_of(const struct heap *h, unsigned batch, bool sited)
{
	return !sited || batch < 4 * BATCH_VARIES ? batch
						  : batch - (h->nr_slow * 0x9E3779B9u >> 29);
}
STATIC_ASSERT(BATCH_VARIES == 1 << (32 - 29), "the highest bits of the product");

static unsigned refill_from_slabs(struct heap *h, struct bin *b, struct heap_class *hc,
				  bool may_make, bool sited)
{
	struct object *head = NULL, **link = &head, *tail;
	unsigned taken = 0, most;
	unsigned batch = hc->batch != 0 ? hc->batch : limits_first(b->cls);
	unsigned want = batch_of(h, batch, sited);

	while (taken < want) {
		struct slab *s = slabs_fullest(hc);

		if (s == NULL && (taken > 0 || !may_make || (s = slabs_new(h, b->cls)) == NULL))
			break;
		/* A batch is not worth a page fault. */
		if (unlikely(s->list == LIST_PURGED) && taken > 0)
			break;

		unsigned n = slab_take(s, want - taken, link, &tail);

		hc->nr_free -= n;
		taken += n;
		link = &tail->next;
		slabs_update(hc, s);
	}
	if (taken == 0)
		return 0;
	b->head = head;
	settle_set_length(b, taken);
	most = batch_most(h, hc, b->cls);
	hc->batch = (uint16_t)(batch * 2 < most ? batch * 2 : most);
	return taken;
}

/*
 * In the child of a fork: what came home before it lies in any order on the parent's pages,
 * each of which would be copied for a few objects.  From the bitmaps neighbours are taken.
 */
static COLD struct object *settle_old_inbox(struct heap *h, unsigned cls)
{
	h->old_inbox[cls / 64] &= ~((uint64_t)1 << cls % 64);
	return settle_inbox(h, cls);
}

/* For a caller, which may be NULL. */
static NOINLINE struct object *refill(struct heap *h, struct bin *b,
				      struct sites_caller *caller)
{
	struct heap_class *hc = &h->classes[b->cls];
	struct object *strays = NULL;
	unsigned taken = 0;

	b->ran_dry = true;
	lock_acquire(&h->lock, LOCK_HEAP);
	h->nr_slow++;
	if (unlikely((h->old_inbox[b->cls / 64] >> b->cls % 64 & 1) != 0))
		strays = settle_old_inbox(h, b->cls);
	if (!refill_from_inboxes(h, b))
		taken = refill_from_slabs(h, b, hc, false, caller != NULL);
	lock_release(&h->lock, LOCK_HEAP);
	if (unlikely(strays != NULL))
		settle_strays(strays);
	if (b->head == NULL) {
		heap_adopt_slab(h, b->cls);
		lock_acquire(&h->lock, LOCK_HEAP);
		taken = refill_from_slabs(h, b, hc, true, caller != NULL);
		lock_release(&h->lock, LOCK_HEAP);
		work_tick();
	}
	if (caller != NULL && taken > 0)
		sites_note(caller, b->cls, taken * class_info[b->cls].bytes);
	return b->head;
}

static inline void *pop(struct bin *b, struct object *o)
{
	b->head = o->next;
	b->room++;
	/* As in fast_malloc(): a fork may copy both in between. */
	atomic_signal_fence(memory_order_release);
	o->key = 0;
	return o;
}

static COLD void *malloc_again(struct heap *h, size_t size)
{
	heap_drain_all();
	purge_all();
	if (size > MEDIUM_MAX) {
		void *p = large_alloc(size, 0, NULL);

		return p != NULL ? p : large_alloc_compacting(size);
	}

	struct object *o = refill(h, &h->bins[class_of(size)], NULL);

	return o == NULL ? NULL : pop(&h->bins[class_of(size)], o);
}

/* Whether the thread is to come by: because others ask it, or as it falls into a trap.  Then the
 * size only seemed to have no bin, or it is time. */
static COLD bool comes_by(const struct heap *h, size_t size)
{
	if (heap_is_asked(h))
		return true;
	if ((size > SMALL_MAX || h->counted || h->bins[class_of(size)].head == NULL) &&
	    !linger_is_due(h))
		return false;
	heap_answer();
	return true;
}

static NOINLINE void *malloc_any(size_t size, unsigned place, struct sites_caller *caller)
{
	/* Large blocks, and who was asked to come by: see linger.h. */
	bool ticks = size > MEDIUM_MAX ||
		     (unlikely(heap_requests(heap_now[place]) != 0) &&
		      comes_by(heap_now[place], size));
	struct heap *h = heap_enter_at(place);
	void *p = NULL;
	bool sampled;

	if (unlikely(h == NULL)) {
		errno = ENOMEM;
		return NULL;
	}
	sampled = size <= PTRDIFF_MAX && sample_count(h, size);
	if (size > MEDIUM_MAX) {
		p = large_alloc(size, 0, NULL);
	} else {
		struct bin *b = &h->bins[class_of(size)];
		struct object *o = b->head != NULL ? b->head : refill(h, b, caller);

		if (caller != NULL && unlikely(caller->watch))
			p = sites_watch(caller, size);
		if (likely(p == NULL && o != NULL))
			p = pop(b, o);
	}
	if (unlikely(p == NULL)) {
		p = size > PTRDIFF_MAX ? NULL : malloc_again(h, size);
		if (p == NULL)
			errno = ENOMEM;
	}
	heap_leave(h);
	if (unlikely(sampled) && p != NULL)
		sample_take(p, size);
	if (ticks)
		work_tick();
	return p;
}

/*
 * What the thread has at hand: medium objects, and small ones while all mallocs are counted
 * (else their bin is empty, or somebody else's word), or are placed here.  NULL: nothing, or
 * there is more to be done.
 */
static inline void *take_at_hand(struct heap *h, unsigned cls, size_t size)
{
	struct bin *b = &h->bins[cls];
	struct object *o = b->head;

	if (unlikely(o == NULL || heap_requests(h) != 0 || h->sample_left < (int64_t)size))
		return NULL;
	h->sample_left -= (int64_t)size;
	return pop(b, o);
}

void *slow_malloc(size_t size)
{
	struct heap *h = heap_current;
	void *p = NULL;

	if (size <= SMALL_MAX ? h->counted : likely(size <= MEDIUM_MAX))
		p = take_at_hand(h, class_of(size), size);
	return likely(p != NULL) ? p : malloc_any(size, PLACE_ANY, NULL);
}

void *slow_malloc_at(size_t size, unsigned place, struct sites_caller *caller)
{
	void *p = size <= MEDIUM_MAX ? take_at_hand(heap_now[place], class_of(size), size) : NULL;

	return likely(p != NULL) ? p : malloc_any(size, place, caller);
}

/* --- free --------------------------------------------------------------------------- */

static inline void push(struct heap *h, struct bin *b, struct object *o, uintptr_t key)
{
	o->next = b->head;
	o->key = key;
	/* Linked before it is the head: a fork may copy the chain in between. */
	atomic_signal_fence(memory_order_release);
	b->head = o;
	if (unlikely(--b->room <= 0))
		settle_bin(h, b);
}

static void free_object(struct slab *s, struct heap *owner, struct object *o)
{
	struct heap *h = heap_enter();

	if (unlikely(o->key == arena_key()) && suspect_is_freed(s, o))
		diag_fatal(DIAG_DOUBLE_FREE, "free", o, class_info[s->cls].bytes, o);
	if (unlikely((slab_flags(s) & SLAB_SAMPLED) != 0))
		sample_forget(s, o);
	if (unlikely((slab_flags(s) & SLAB_WATCHED) != 0))
		sites_died(o, class_info[s->cls].bytes);
	if (heap_is_asked(owner) && heap_is_mine(owner))
		heap_answer();
	if (h == NULL || (slab_flags(s) & (SLAB_SETTLES | SLAB_WATCHED)) != 0) {
		o->next = NULL;
		o->key = arena_key();
		settle_strays(o);
	} else if (heap_is_mine(owner)) {
		push(owner, slab_bin(s, owner), o, arena_key());
	} else {
		remote_free(h, owner, class_info[s->cls].bytes, o);
	}
	if (h != NULL)
		heap_leave(h);
}

static NOINLINE void free_any(void *p)
{
	struct block_client *client;
	struct heap *owner;
	struct slab *s;

	if (p == NULL)
		return;
	client = zone_find_client(p);
	if (unlikely(client == NULL))
		diag_fatal(DIAG_FOREIGN, "free", p, 0, NULL);
	s = slab_in(client, p);
	owner = slab_heap(s);

	bool ticks = owner == NULL || heap_is_asked(heap_current);

	if (owner == NULL) {
		large_free(p);
	} else {
		slab_check_start(s, p, "free");
		free_object(s, owner, p);
	}
	if (ticks)
		work_tick();
}

/*
 * What the table alone can say is enough for the thread's own objects that the fast
 * path did not take (medium ones, or the bin is full) and for other heaps' objects.
 * Cold slabs have no entry.
 */
void slow_free(void *p)
{
	char *table = arena_table_now();
	/* Relaxed: as in fast_free(). */
	uint32_t entry = atomic_load_explicit(arena_entry_in(table, p), memory_order_relaxed);
	struct bin *b = (struct bin *)(void *)(table + entry - ARENA_BYTES);
	struct heap *h = heap_current, *owner = heap_of_bin(b);
	const struct class_info *ci;
	struct object *o = p;
	bool is_mine;

	if (unlikely(entry == 0 || h == &heap_null)) {
		free_any(p);
		return;
	}
	ci = &class_info[heap_bin_class(b)];
	if (unlikely(o->key == (uintptr_t)table || !class_is_start64(ci, class_offset(ci, p)))) {
		free_any(p);
		return;
	}
	is_mine = heap_is_mine(owner);
	if (unlikely(heap_is_asked(is_mine ? owner : h)))
		free_any(p);
	else if (is_mine)
		push(owner, b, o, (uintptr_t)table);
	else
		remote_free(h, owner, ci->bytes, o);
}
