/*
 * Heaps: refilling and settling bins, frees of other threads' objects, and what
 * happens to heaps as threads come and go.  Layout and invariants are in heap.h.
 *
 * A chain is a NULL-terminated list of free objects, each with the key in its second
 * word.  `room` is what the fast path counts; where a length matters it is walked.
 */
#include "shim/heap.h"

#include "shim/diag.h"
#include "shim/large.h"
#include "shim/shim.h"
#include "shim/slab.h"

#include <errno.h>
#include <string.h>

/*
 * Limits by bytes, so that a cache costs the same whatever the class; halved for each
 * doubling of the threads from twice CACHE_FULL_THREADS on, so that many do not hold
 * many times as much.
 */
#define BIN_BYTES_MAX 131072u
#define BATCH_BYTES_MAX 16384u
#define BATCH_BYTES_FIRST 1024u
#define BIN_OBJECTS_MAX 4096u
#define BATCH_OBJECTS_MAX 128u
#define OUTGOING_BYTES_MAX 65536u
#define OUTGOING_OBJECTS_MAX 256u
#define CACHE_FULL_THREADS 4u
/* Heaps left by their threads that keep their caches for the next thread. */
#define NR_WARM_OWNERLESS 4u
/* Ownerless heaps a refill looks at, of each kind, for a slab to adopt. */
#define ADOPT_LOOKS_MAX 64u
/* The same for heaps with threads. */
#define BORROW_LOOKS_MAX 16u
/* Slabs of a class, all full, from which on a new one is thought to be filled too. */
#define DENSE_SLABS 16u

struct heap heap_null;
__thread struct heap *heap_current = &heap_null;

/* What the thread has been through. */
enum thread_state { THREAD_NEW, THREAD_STARTED, THREAD_EXITING };
static __thread enum thread_state thread_state;

static struct lock heaps_lock;
/* Stacks, under heaps_lock: [1] with their caches as the thread left them, [0] without. */
static struct heap *ownerless[2];
static unsigned nr_warm;               /* in ownerless[1] */
static _Atomic uint32_t nr_ownerless;  /* written under heaps_lock, read as a hint */
static struct heap *_Atomic all_heaps; /* grows only; release/acquire publishes the heap */
static _Atomic uint32_t nr_heaps;

#define AT_LEAST_ONE(n) ((n) < 1 ? 1 : (n))
#define AT_MOST(n, max) ((n) > (max) ? (max) : (n))
#define OBJECTS(b, nr_bytes, max) AT_LEAST_ONE(AT_MOST((nr_bytes) / (b), max))

/* How long a class's bins and batches may get; a batch is also a step of growth. */
static const struct {
	uint16_t bin, batch, first;
} most[NR_CLASSES] = {
#define CLASS(b, o)                                                                            \
	{ OBJECTS(b, BIN_BYTES_MAX, BIN_OBJECTS_MAX),                                          \
	  OBJECTS(b, BATCH_BYTES_MAX, BATCH_OBJECTS_MAX),                                      \
	  OBJECTS(b, BATCH_BYTES_FIRST, BATCH_OBJECTS_MAX) },
#include "shim/classes.def"
#undef CLASS
};

/* By how many halvings the limits are less. Relaxed: a policy. */
static _Atomic uint8_t cache_shift;

static uint32_t shifted(uint32_t objects)
{
	uint32_t n = objects >> atomic_load_explicit(&cache_shift, memory_order_relaxed);

	return n < 1 ? 1 : n;
}

static uint32_t bin_max(unsigned cls)
{
	return shifted(most[cls].bin);
}

static uint32_t batch_max(unsigned cls)
{
	return shifted(most[cls].batch);
}

static bool many_threads(void)
{
	return atomic_load_explicit(&cache_shift, memory_order_relaxed) > 0;
}

/* Under the heaps lock, when the number of heaps with threads has changed. */
static void set_cache_shift(void)
{
	uint32_t nr = atomic_load_explicit(&nr_heaps, memory_order_relaxed) -
		      atomic_load_explicit(&nr_ownerless, memory_order_relaxed);
	uint8_t shift =
		nr <= CACHE_FULL_THREADS ? 0 : (uint8_t)log2_ceil(nr / CACHE_FULL_THREADS);

	atomic_store_explicit(&cache_shift, shift, memory_order_relaxed);
}

/* --- making, taking and leaving heaps ------------------------------------------ */

static void heap_setup(struct heap *h)
{
	unsigned cls = 0;

	for (size_t size = 0; size <= SMALL_MAX; size++) {
		if (size > class_info[cls].bytes)
			cls++;
		h->bin_of_size[size] = (uint8_t)(cls * 4);
	}
	for (cls = 0; cls < NR_CLASSES; cls++) {
		struct bin *b = &h->bins[cls];

		b->magic = class_info[cls].magic;
		b->limit = class_info[cls].limit;
		b->cls = (uint8_t)cls;
		b->max = (uint16_t)(most[cls].first * 2u);
		b->room = b->max;
		h->classes[cls].batch = most[cls].first;
	}
	pcp_init(&h->pcp);
}

static void heap_set_owner(struct heap *h, uintptr_t tp)
{
	/* Relaxed: see fast_free(). Medium bins are never anybody's on the fast path. */
	for (unsigned cls = 0; cls < NR_SMALL_CLASSES; cls++)
		atomic_store_explicit(&h->bins[cls].owner, tp, memory_order_relaxed);
}

static struct heap *heap_make_locked(void)
{
	struct heap *h = arena_new_heap();

	if (h == NULL)
		return NULL;
	heap_setup(h);
	h->next_all = atomic_load_explicit(&all_heaps, memory_order_relaxed);
	/* Release: pairs with first_heap(). */
	atomic_store_explicit(&all_heaps, h, memory_order_release);
	atomic_fetch_add_explicit(&nr_heaps, 1, memory_order_relaxed);
	return h;
}

static struct heap *first_heap(void)
{
	/* Acquire: pairs with heap_make_locked(). */
	return atomic_load_explicit(&all_heaps, memory_order_acquire);
}

static void push_ownerless_locked(struct heap *h, bool warm)
{
	h->next_ownerless = ownerless[warm];
	ownerless[warm] = h;
	nr_warm += warm;
	atomic_fetch_add_explicit(&nr_ownerless, 1, memory_order_relaxed);
}

static struct heap *pop_ownerless_locked(void)
{
	bool warm = ownerless[1] != NULL;
	struct heap *h = ownerless[warm];

	if (h != NULL) {
		ownerless[warm] = h->next_ownerless;
		nr_warm -= warm;
		atomic_fetch_sub_explicit(&nr_ownerless, 1, memory_order_relaxed);
	}
	return h;
}

static COLD struct heap *heap_attach(void)
{
	shim_init();
	lock_acquire(&heaps_lock, LOCK_HEAPS);

	struct heap *h = pop_ownerless_locked();

	if (h == NULL)
		h = heap_make_locked();
	if (h != NULL) {
		lock_acquire(&h->lock, LOCK_HEAP);
		h->ownerless = false;
		heap_set_owner(h, thread_pointer());
		lock_release(&h->lock, LOCK_HEAP);
		heap_current = h;
		set_cache_shift();
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	if (h != NULL && thread_state == THREAD_NEW) {
		thread_state = THREAD_STARTED;
		shim_thread_started();
	}
	return h;
}

static inline struct heap *heap_enter(void)
{
	return likely(heap_current != &heap_null) ? heap_current : heap_attach();
}

static void heap_settle_all(struct heap *h);

/* A few heaps stay as they are for the next threads, the others keep nothing. */
static COLD void heap_detach(struct heap *h)
{
	bool warm;

	heap_current = &heap_null;
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	warm = nr_warm < NR_WARM_OWNERLESS;
	if (!warm) {
		lock_release(&heaps_lock, LOCK_HEAPS);
		heap_settle_all(h);
		lock_acquire(&heaps_lock, LOCK_HEAPS);
	}
	lock_acquire(&h->lock, LOCK_HEAP);
	h->ownerless = true;
	heap_set_owner(h, 0);
	lock_release(&h->lock, LOCK_HEAP);
	push_ownerless_locked(h, warm);
	set_cache_shift();
	lock_release(&heaps_lock, LOCK_HEAPS);
}

/* Ends an operation that began with heap_enter(). */
static inline void heap_leave(struct heap *h)
{
	if (unlikely(thread_state == THREAD_EXITING) && heap_current == h)
		heap_detach(h);
}

/* --- slabs of a heap (heap lock held) ------------------------------------------- */

static void list_remove(struct heap_class *hc, struct slab *s)
{
	if (s->list == NO_LIST)
		return;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		hc->lists[s->list] = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	s->list = NO_LIST;
}

/* Puts the slab where its fullness says; no free object: on no list. */
static void list_update(struct heap_class *hc, struct slab *s)
{
	unsigned list = s->nr_free == 0 ? NO_LIST : slab_fullness(s);

	if (list == s->list)
		return;
	list_remove(hc, s);
	if (list == NO_LIST)
		return;
	s->list = (uint8_t)list;
	s->prev = NULL;
	s->next = hc->lists[list];
	if (s->next != NULL)
		s->next->prev = s;
	hc->lists[list] = s;
}

static uint32_t class_nr_slabs(struct heap_class *hc)
{
	/* Relaxed: exact under the heap's lock, else a hint. */
	return atomic_load_explicit(&hc->nr_slabs, memory_order_relaxed);
}

static void class_add_slabs(struct heap_class *hc, int n)
{
	/* Relaxed: as above; only under the lock, so no addition is lost. */
	atomic_store_explicit(&hc->nr_slabs, class_nr_slabs(hc) + (uint32_t)n,
			      memory_order_relaxed);
}

static void slab_joins(struct heap *h, struct slab *s)
{
	struct heap_class *hc = &h->classes[s->cls];

	h->nr_slabs++;
	class_add_slabs(hc, 1);
	hc->nr_free += s->nr_free;
	list_update(hc, s);
}

static void slab_leaves(struct heap *h, struct slab *s)
{
	struct heap_class *hc = &h->classes[s->cls];

	h->nr_slabs--;
	class_add_slabs(hc, -1);
	hc->nr_free -= s->nr_free;
	list_remove(hc, s);
}

static void slab_release(struct heap *h, struct slab *s)
{
	pfn_t pfn = pfn_of(s->start);

	slab_leaves(h, s);
	slab_set_heap(s, NULL);
	if (h->ownerless)
		zone_free(pfn, (size_t)1 << class_info[s->cls].order);
	else
		pcp_free(&h->pcp, pfn, class_info[s->cls].order);
}

/* An empty small slab stays when it is all the class has to refill from. */
static bool slab_is_spare(const struct heap *h, const struct slab *s)
{
	if (s->nr_free != s->nr_objects)
		return false;
	return h->ownerless || s->cls >= NR_SMALL_CLASSES || many_threads() ||
	       h->classes[s->cls].nr_free > s->nr_objects;
}

/* Unlocks first: a SIGABRT handler of the program may allocate. */
static COLD _Noreturn void fatal_in_chain(struct heap *h, enum diagnostic what,
					  const struct object *o, size_t nr_bytes)
{
	lock_release(&h->lock, LOCK_HEAP);
	diag_fatal(what, "free", o, nr_bytes, o);
}

/* False when the object's slab belongs to another heap by now. */
MUST_CHECK static bool settle_object(struct heap *h, struct object *o)
{
	struct slab *s = slab_of(o);

	/* Written to after it was freed, or linked to by one that was. */
	if (unlikely(o->key != arena_key()))
		fatal_in_chain(h, DIAG_CORRUPT, o, 0);
	if (unlikely(slab_heap(s) != h))
		return false;
	if (unlikely(!slab_put(s, o)))
		fatal_in_chain(h, DIAG_DOUBLE_FREE, o, class_info[s->cls].bytes);
	h->classes[s->cls].nr_free++;
	if (slab_is_spare(h, s))
		slab_release(h, s);
	else
		list_update(&h->classes[s->cls], s);
	return true;
}

/* Settles a chain; returns the chain of those that belong elsewhere. */
static struct object *settle_chain(struct heap *h, struct object *o)
{
	struct object *strays = NULL;

	while (o != NULL) {
		/* A link that leads out of the spans: somebody wrote to a free object. */
		if (unlikely(!zone_owns(o)))
			fatal_in_chain(h, DIAG_CORRUPT, o, 0);

		struct object *next = o->next;

		if (!settle_object(h, o)) {
			o->next = strays;
			strays = o;
		}
		o = next;
	}
	return strays;
}

static struct object *settle_inbox(struct heap *h, unsigned cls)
{
	struct heap_class *hc = &h->classes[cls];
	struct object *chain = hc->inbox;

	hc->inbox = NULL;
	hc->nr_inbox = 0;
	return settle_chain(h, chain);
}

/* Objects that no longer belonged to the heap they were sent to go to the one they do. */
static void settle_strays(struct object *o)
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

static struct slab *fullest_slab(struct heap_class *hc)
{
	for (unsigned list = 0; list < NR_FULLNESS; list++) {
		if (hc->lists[list] != NULL)
			return hc->lists[list];
	}
	return NULL;
}

/*
 * Tells the zone whether new memory will be filled, as the last requests suggest: a slab
 * after many full ones of its class will be, the first of a class in one more heap not.
 */
static void note_density(struct heap_class *hc)
{
	static _Atomic int score;
	/* Relaxed: a hint, and so is a lost update. */
	int was = atomic_load_explicit(&score, memory_order_relaxed);
	int is = class_nr_slabs(hc) >= DENSE_SLABS ? was + 1 : was - 1;

	if (is > 16 || is < -16)
		return;
	atomic_store_explicit(&score, is, memory_order_relaxed);
	if ((is >= 0) != (was >= 0))
		zone_set_dense(is >= 0);
}

static struct slab *new_slab(struct heap *h, unsigned cls)
{
	note_density(&h->classes[cls]);

	pfn_t pfn = pcp_alloc(&h->pcp, class_info[cls].order, MIGRATE_UNMOVABLE, NULL);

	if (pfn == 0)
		return NULL;

	struct slab *s = slab_create(pfn_to_addr(pfn), cls, h);

	slab_joins(h, s);
	return s;
}

/* --- chains ----------------------------------------------------------------------- */

/* All of a before all of b. */
static struct object *chain_join(struct object *a, struct object *b)
{
	struct object *last = a;

	if (a == NULL)
		return b;
	while (last->next != NULL)
		last = last->next;
	last->next = b;
	return a;
}

/* What the fast path counts down from, for a bin of this length. */
static int32_t room_left(const struct bin *b, uint32_t length)
{
	return length < b->max ? (int32_t)(b->max - length) : 1;
}

/* Cuts the chain of a bin after its newest `keep` objects; returns the rest. */
static struct object *cut_bin(struct bin *b, unsigned keep)
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
	b->room = room_left(b, n);
	return rest;
}

/* --- refill ---------------------------------------------------------------------- */

static bool refill_from_inbox(struct bin *b, struct heap_class *hc)
{
	if (hc->inbox == NULL)
		return false;
	b->head = hc->inbox;
	b->room = room_left(b, hc->nr_inbox);
	hc->inbox = NULL;
	hc->nr_inbox = 0;
	return true;
}

static bool refill_from_slabs(struct heap *h, struct bin *b, struct heap_class *hc,
			      bool may_make)
{
	struct object *head = NULL, **link = &head, *tail;
	unsigned taken = 0, want = hc->batch;

	while (taken < want) {
		struct slab *s = fullest_slab(hc);

		if (s == NULL && (taken > 0 || !may_make || (s = new_slab(h, b->cls)) == NULL))
			break;

		unsigned n = slab_take(s, want - taken, link, &tail);

		hc->nr_free -= n;
		taken += n;
		link = &tail->next;
		list_update(hc, s);
	}
	if (taken == 0)
		return false;
	b->head = head;
	b->room = room_left(b, taken);
	want = batch_max(b->cls);
	hc->batch = (uint16_t)(hc->batch * 2u < want ? hc->batch * 2u : want);
	return true;
}

/* The emptiest slab of the class that is at least as empty as list `from`. */
static struct slab *emptiest_slab(struct heap_class *hc, unsigned from)
{
	for (unsigned list = NR_FULLNESS; list-- > from;) {
		if (hc->lists[list] != NULL)
			return hc->lists[list];
	}
	return NULL;
}

/*
 * Moves a slab to another heap, with both locked.  Two heap locks at once are safe under
 * the heaps lock, because whoever else holds one waits for no second.  Objects of the
 * slab that are on chains of its old heap become strays there.
 */
static bool hand_over(struct heap *from, struct heap *to, unsigned cls, unsigned list)
{
	struct slab *s = emptiest_slab(&from->classes[cls], list);

	if (s == NULL)
		return false;
	lock_acquire(&to->lock, LOCK_HEAP);
	slab_leaves(from, s);
	slab_set_heap(s, to);
	slab_joins(to, s);
	lock_release(&to->lock, LOCK_HEAP);
	return true;
}

static bool adopt_from(struct heap *h, struct heap *o, unsigned cls, struct object **strays)
{
	bool adopted;

	if (class_nr_slabs(&o->classes[cls]) == 0)
		return false;
	lock_acquire(&o->lock, LOCK_HEAP);
	*strays = chain_join(settle_chain(o, cut_bin(&o->bins[cls], 0)), *strays);
	*strays = chain_join(settle_inbox(o, cls), *strays);
	adopted = hand_over(o, h, cls, 0);
	lock_release(&o->lock, LOCK_HEAP);
	return adopted;
}

/* From a heap with a thread: only a slab that is half empty or more. */
static bool borrow_from(struct heap *h, struct heap *o, unsigned cls, struct object **strays)
{
	bool adopted;

	if (class_nr_slabs(&o->classes[cls]) == 0)
		return false;
	lock_acquire(&o->lock, LOCK_HEAP);
	*strays = chain_join(settle_inbox(o, cls), *strays);
	adopted = hand_over(o, h, cls, NR_FULLNESS / 2);
	lock_release(&o->lock, LOCK_HEAP);
	return adopted;
}

/*
 * Before a heap asks for pages: a slab with free objects from a heap that has no thread
 * and, where there are so many threads that a slab of each class for each of them is
 * much, from one that has.
 */
static COLD void adopt_slab(struct heap *h, unsigned cls)
{
	static struct heap *next_look; /* under heaps_lock */
	struct object *strays = NULL;
	bool adopted = false;

	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (unsigned warm = 0; warm < 2 && !adopted; warm++) {
		struct heap *o = ownerless[warm];

		for (unsigned looks = 0; o != NULL && !adopted && looks < ADOPT_LOOKS_MAX;
		     looks++) {
			adopted = adopt_from(h, o, cls, &strays);
			o = o->next_ownerless;
		}
	}
	for (unsigned looks = 0; many_threads() && !adopted && looks < BORROW_LOOKS_MAX;
	     looks++) {
		struct heap *o = next_look != NULL ? next_look : first_heap();

		if (o != h && !o->ownerless)
			adopted = borrow_from(h, o, cls, &strays);
		next_look = o->next_all;
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	settle_strays(strays);
}

static NOINLINE struct object *refill(struct heap *h, struct bin *b)
{
	struct heap_class *hc = &h->classes[b->cls];
	bool filled;

	b->ran_dry = true;
	lock_acquire(&h->lock, LOCK_HEAP);
	filled = refill_from_inbox(b, hc) || refill_from_slabs(h, b, hc, false);
	lock_release(&h->lock, LOCK_HEAP);
	if (!filled) {
		/* Relaxed: a hint. */
		if (atomic_load_explicit(&nr_ownerless, memory_order_relaxed) != 0 ||
		    many_threads())
			adopt_slab(h, b->cls);
		lock_acquire(&h->lock, LOCK_HEAP);
		filled = refill_from_slabs(h, b, hc, true);
		lock_release(&h->lock, LOCK_HEAP);
		purge_tick();
	}
	return filled ? b->head : NULL;
}

static inline void *pop(struct bin *b, struct object *o)
{
	b->head = o->next;
	b->room++;
	o->key = 0;
	return o;
}

static COLD void *heap_malloc_again(struct heap *h, size_t size)
{
	heap_drain_all();
	purge_all();
	if (size > MEDIUM_MAX)
		return large_alloc(size, 0, NULL);

	struct object *o = refill(h, &h->bins[class_of(size)]);

	return o == NULL ? NULL : pop(&h->bins[class_of(size)], o);
}

static NOINLINE void *malloc_any(size_t size)
{
	struct heap *h = heap_enter();
	void *p = NULL;

	if (unlikely(h == NULL)) {
		errno = ENOMEM;
		return NULL;
	}
	if (size > MEDIUM_MAX) {
		p = large_alloc(size, 0, NULL);
		purge_tick();
	} else {
		struct bin *b = &h->bins[class_of(size)];
		struct object *o = b->head != NULL ? b->head : refill(h, b);

		if (likely(o != NULL))
			p = pop(b, o);
	}
	if (unlikely(p == NULL)) {
		p = size > PTRDIFF_MAX ? NULL : heap_malloc_again(h, size);
		if (p == NULL)
			errno = ENOMEM;
	}
	heap_leave(h);
	return p;
}

/* Medium objects that the thread has at hand first. */
void *heap_malloc(size_t size)
{
	if (likely(size <= MEDIUM_MAX)) {
		struct bin *b = &heap_current->bins[class_of(size)];
		struct object *o = b->head;

		if (likely(o != NULL))
			return pop(b, o);
	}
	return malloc_any(size);
}

/* --- settle ------------------------------------------------------------------------ */

static void give_to_slabs(struct heap *h, struct object *chain)
{
	struct object *strays;

	lock_acquire(&h->lock, LOCK_HEAP);
	strays = settle_chain(h, chain);
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
	purge_tick();
}

static NOINLINE void settle_bin(struct heap *h, struct bin *b)
{
	uint32_t max = bin_max(b->cls);

	if (b->ran_dry && b->max < max) {
		uint32_t length = b->max; /* the room is used up */

		b->ran_dry = false;
		b->max =
			(uint16_t)(b->max + batch_max(b->cls) < max ? b->max + batch_max(b->cls)
								    : max);
		b->room = room_left(b, length);
		return;
	}
	if (b->max > max)
		b->max = (uint16_t)max;
	give_to_slabs(h, cut_bin(b, b->max / 2u));
}

/* --- frees of other heaps' objects ----------------------------------------------- */

/* The bin that owns the object by now, as the table says. */
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

	if (unlikely(heap_of_bin(b) != h))
		return false;
	if (h->ownerless)
		return settle_object(h, o);
	o->next = hc->inbox;
	hc->inbox = o;
	if (unlikely(++hc->nr_inbox > 2 * bin_max(b->cls)))
		*strays = chain_join(settle_inbox(h, b->cls), *strays);
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
		deliver(first->nr > second->nr ? first : second);
	if (first->heap != NULL)
		first = second;
	first->heap = to;
	return first;
}

static void free_remote(struct heap *h, struct heap *to, size_t nr_bytes, struct object *o)
{
	struct outgoing *out = outgoing_slot(h, to);

	o->next = out->head;
	o->key = arena_key();
	/* A fork may copy the slot between any two stores: see mend_slots(). */
	atomic_signal_fence(memory_order_release);
	out->head = o;
	out->nr_bytes += (uint32_t)nr_bytes;
	if (++out->nr >= OUTGOING_OBJECTS_MAX || out->nr_bytes >= shifted(OUTGOING_BYTES_MAX)) {
		deliver(out);
		purge_tick();
	}
}

static void deliver_all(struct heap *h)
{
	for (unsigned i = 0; i < NR_OUTGOING; i++) {
		if (h->outgoing[i].heap != NULL)
			deliver(&h->outgoing[i]);
	}
}

/* --- is it really a double free? --------------------------------------------------- */

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
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
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
COLD bool heap_is_freed(struct slab *s, const void *p)
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

/* --- free ------------------------------------------------------------------------------ */

static inline void push(struct heap *h, struct bin *b, struct object *o)
{
	o->next = b->head;
	o->key = arena_key();
	/* Linked before it is the head: a fork may copy the chain in between. */
	atomic_signal_fence(memory_order_release);
	b->head = o;
	if (unlikely(--b->room <= 0))
		settle_bin(h, b);
}

static void free_object(struct slab *s, struct heap *owner, struct object *o)
{
	struct heap *h = heap_enter();

	if (unlikely(o->key == arena_key()) && heap_is_freed(s, o))
		diag_fatal(DIAG_DOUBLE_FREE, "free", o, class_info[s->cls].bytes, o);
	if (owner == h) {
		push(h, slab_bin(s, h), o);
	} else if (likely(h != NULL)) {
		free_remote(h, owner, class_info[s->cls].bytes, o);
	} else {
		o->next = NULL;
		o->key = arena_key();
		settle_strays(o);
	}
	if (h != NULL)
		heap_leave(h);
}

static NOINLINE void free_any(void *p)
{
	if (p == NULL)
		return;
	if (unlikely(!zone_owns(p)))
		diag_fatal(DIAG_FOREIGN, "free", p, 0, NULL);

	struct slab *s = slab_of(p);
	struct heap *owner = slab_heap(s);

	if (owner == NULL) {
		large_free(p);
		purge_tick();
		return;
	}
	slab_check_start(s, p, "free");
	free_object(s, owner, p);
}

/*
 * What the table alone can say is enough for the thread's own objects that the fast
 * path did not take (medium ones, or the bin is full) and for other heaps' objects.
 */
void heap_free(void *p)
{
	/* Relaxed: as in fast_free(). */
	uint32_t entry = atomic_load_explicit(arena_entry(p), memory_order_relaxed);
	struct bin *b = (struct bin *)(void *)(arena_base() + entry);
	const struct class_info *ci = &class_info[b->cls];
	struct heap *h = heap_current;
	struct object *o = p;

	if (unlikely(entry == 0 || h == &heap_null || o->key == arena_key() ||
		     !class_is_start64(ci, class_offset(ci, p)))) {
		free_any(p);
		return;
	}
	if (heap_of_bin(b) == h)
		push(h, b, o);
	else
		free_remote(h, heap_of_bin(b), ci->bytes, o);
}

/* --- threads, draining -------------------------------------------------------------------- */

/* Everything the heap caches goes to its slabs and the zone. Only its thread may call it,
 * or whoever holds its lock and the heaps lock when it is ownerless. */
static struct object *settle_locked(struct heap *h)
{
	struct object *strays = NULL;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		strays = chain_join(settle_chain(h, cut_bin(&h->bins[cls], 0)), strays);
		strays = chain_join(settle_inbox(h, cls), strays);
		for (unsigned list = 0; list < NR_FULLNESS; list++) {
			for (struct slab *s = h->classes[cls].lists[list], *next; s != NULL;
			     s = next) {
				next = s->next;
				if (s->nr_free == s->nr_objects)
					slab_release(h, s);
			}
		}
	}
	return strays;
}

static void heap_settle_all(struct heap *h)
{
	struct object *strays;

	deliver_all(h);
	lock_acquire(&h->lock, LOCK_HEAP);
	strays = settle_locked(h);
	lock_release(&h->lock, LOCK_HEAP);
	pcp_drain(&h->pcp);
	settle_strays(strays);
}

void heap_thread_exit(void)
{
	struct heap *h = heap_current;

	thread_state = THREAD_EXITING;
	if (h == &heap_null)
		return;
	deliver_all(h);
	heap_detach(h);
}

/* Under the heaps lock nobody takes an ownerless heap: all of it can be settled. */
static void drain_ownerless(void)
{
	struct object *strays = NULL;

	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
		if (!h->ownerless)
			continue;
		deliver_all(h);
		lock_acquire(&h->lock, LOCK_HEAP);
		strays = chain_join(settle_locked(h), strays);
		lock_release(&h->lock, LOCK_HEAP);
		pcp_drain(&h->pcp);
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	settle_strays(strays);
}

/* The caller's own heap first delivers and is settled last, because what others' chains
 * hold may belong to it. */
void heap_drain_all(void)
{
	struct heap *own = heap_current;

	if (own != &heap_null)
		deliver_all(own);
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
		struct object *strays = NULL;

		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			strays = chain_join(settle_inbox(h, cls), strays);
		lock_release(&h->lock, LOCK_HEAP);
		pcp_drain(&h->pcp);
		settle_strays(strays);
	}
	drain_ownerless();
	if (own != &heap_null)
		heap_settle_all(own);
}

/* --- fork ------------------------------------------------------------------------------------
 */

void heap_fork_prepare(void)
{
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all)
		lock_acquire(&h->lock, LOCK_HEAP);
}

void heap_fork_parent(void)
{
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all)
		lock_release(&h->lock, LOCK_HEAP);
	lock_release(&heaps_lock, LOCK_HEAPS);
}

/*
 * What a thread that is gone wrote without a lock may have been copied between any two
 * stores.  Chains are whole at every moment, because an object is linked before it
 * becomes the head; all that is said about them is counted again.
 */
static void mend_slots(struct heap *h)
{
	for (unsigned i = 0; i < NR_OUTGOING; i++) {
		struct outgoing *out = &h->outgoing[i];

		if (out->heap == NULL || out->head == NULL) {
			*out = (struct outgoing){ .heap = NULL };
			continue;
		}
		out->nr = out->nr_bytes = 0;
		for (const struct object *o = out->head; o != NULL; o = o->next)
			out->nr++;
	}
}

static void mend_bins(struct heap *h)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (h->bins[cls].room < 1)
			h->bins[cls].room = 1;
	}
}

/* The other threads are gone: their heaps wait for the child's new threads. */
void heap_fork_child(void)
{
	ownerless[0] = ownerless[1] = NULL;
	nr_warm = 0;
	atomic_store_explicit(&nr_ownerless, 0, memory_order_relaxed);
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
		lock_reset(&h->lock);
		if (h == heap_current)
			continue;
		if (!h->ownerless) {
			h->ownerless = true;
			heap_set_owner(h, 0);
			mend_slots(h);
			mend_bins(h);
		}
		push_ownerless_locked(h, true);
	}
	set_cache_shift();
	lock_reset(&heaps_lock);
}

/* --- views
 * ------------------------------------------------------------------------------------- */

void heap_stats_add(struct shim_stats *out)
{
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
			const struct class_info *ci = &class_info[cls];
			uint64_t nr = class_nr_slabs(&h->classes[cls]);

			out->slab_bytes += nr * ci->nr_granules * GRANULE_BYTES;
			out->slab_free_bytes += (uint64_t)h->classes[cls].nr_free * ci->bytes;
			out->live_bytes +=
				(nr * ci->nr_objects - h->classes[cls].nr_free) * ci->bytes;
		}
		lock_release(&h->lock, LOCK_HEAP);
	}
	/* Relaxed: counters for a reader. */
	out->nr_heaps = atomic_load_explicit(&nr_heaps, memory_order_relaxed);
	out->nr_ownerless_heaps = atomic_load_explicit(&nr_ownerless, memory_order_relaxed);
}

static void heap_check_class(const struct heap *h, unsigned cls)
{
	const struct heap_class *hc = &h->classes[cls];
	uint32_t nr_free = 0, nr_inbox = 0;

	for (unsigned list = 0; list < NR_FULLNESS; list++) {
		for (struct slab *s = hc->lists[list]; s != NULL; s = s->next) {
			CHECK(slab_heap(s) == h && s->cls == cls && s->list == list);
			CHECK(s->nr_free > 0 && slab_fullness(s) == list);
			slab_check(s);
			nr_free += s->nr_free;
		}
	}
	CHECK(nr_free == hc->nr_free);
	for (struct object *o = hc->inbox; o != NULL; o = o->next) {
		CHECK(o->key == arena_key());
		nr_inbox++;
	}
	CHECK(nr_inbox == hc->nr_inbox);
}

void heap_check_all(void)
{
	for (struct heap *h = first_heap(); h != NULL; h = h->next_all) {
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			heap_check_class(h, cls);
		lock_release(&h->lock, LOCK_HEAP);
	}
}
