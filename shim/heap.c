/*
 * The lives of heaps: made, taken by a thread, left, adopted from, drained, forked, looked
 * at.  Layout and invariants are in heap.h.
 */
#include "shim/heap.h"

#include "shim/divert.h"
#include "shim/limits.h"
#include "shim/remote.h"
#include "shim/sample.h"
#include "shim/settle.h"
#include "shim/shim.h"
#include "shim/slabs.h"

#include <string.h>

/* Heaps left by their threads that keep their caches for the next thread. */
#define NR_WARM_OWNERLESS 4u
/* Ownerless heaps a refill looks at, of each kind, for a slab to adopt. */
#define ADOPT_LOOKS_MAX 64u
/* The same for heaps with threads. */
#define BORROW_LOOKS_MAX 16u
/* Slow paths of a heap since it last settled that make it worth settling it again. */
#define IDLE_SLOW_MIN 64u
/* Since the last look: a trickle. */
#define IDLE_SLOW_FEW 16u

struct heap heap_null;
__thread struct heap *heap_now[NR_PLACES] = {
	&heap_null, &heap_null, &heap_null, &heap_null, &heap_null, &heap_null,
	&heap_null, &heap_null, &heap_null, &heap_null, &heap_null, &heap_null,
	&heap_null, &heap_null, &heap_null, &heap_null, &heap_null, &heap_null,
};
STATIC_ASSERT(NR_PLACES == 18, "each begins with the null heap");
_Atomic uint8_t heap_kinds[NR_PLACES];
/* A bit for each place that nobody allocates in any more.  Relaxed: a hint. */
static _Atomic uint32_t left_places;
STATIC_ASSERT(NR_PLACES <= 32, "a bit for each");
/* The thread's heaps, by next_mine. */
static __thread struct heap *mine;
__thread enum thread_state heap_thread_state;

static struct lock heaps_lock;
/* Stacks, under heaps_lock: [1] with their caches as the thread left them, [0] without. */
static struct heap *ownerless[2][NR_PLACES];
static unsigned nr_warm[NR_PLACES];    /* in ownerless[1] */
static _Atomic uint32_t nr_ownerless;  /* written under heaps_lock, read as a hint */
static struct heap *_Atomic all_heaps; /* grows only; release/acquire publishes the heap */
static _Atomic uint32_t nr_heaps;
static _Atomic uint32_t nr_handed_over; /* see count_hand_over() */
static uint32_t nr_threads; /* under heaps_lock: heaps of PLACE_ANY that have one */

/* --- making, taking and leaving heaps ------------------------------------------ */

static void heap_setup(struct heap *h)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		struct bin *b = &h->bins[cls];

		h->gates[cls].magic = class_info[cls].magic;
		h->gates[cls].limit = class_info[cls].limit;
		b->cls = (uint8_t)cls;
		b->max = (uint16_t)(limits_first(cls) * 2u);
		b->room = b->max;
	}
	divert_setup(h);
	pcp_init(&h->pcp);
}

static void heap_set_thread(struct heap *h, uintptr_t tp)
{
	divert_set_owner(h, tp);
	/* Relaxed: as gate.owner. */
	atomic_store_explicit(&h->thread, tp, memory_order_relaxed);
}

/* Under heaps_lock: the caches of all are by how many threads there are. */
static void count_thread_locked(const struct heap *h, int n)
{
	if (h->place != PLACE_ANY)
		return;
	nr_threads += (uint32_t)n;
	limits_set(nr_threads);
}

static struct heap *heap_make_locked(unsigned place)
{
	struct heap *h = arena_new_heap();

	if (h == NULL)
		return NULL;
	heap_setup(h);
	h->place = (uint8_t)place;
	h->next_all = atomic_load_explicit(&all_heaps, memory_order_relaxed);
	/* Release: pairs with heap_first(). */
	atomic_store_explicit(&all_heaps, h, memory_order_release);
	atomic_fetch_add_explicit(&nr_heaps, 1, memory_order_relaxed);
	return h;
}

struct heap *heap_first(void)
{
	/* Acquire: pairs with heap_make_locked(). */
	return atomic_load_explicit(&all_heaps, memory_order_acquire);
}

static void push_ownerless_locked(struct heap *h, bool warm)
{
	h->next_ownerless = ownerless[warm][h->place];
	ownerless[warm][h->place] = h;
	nr_warm[h->place] += warm;
	atomic_fetch_add_explicit(&nr_ownerless, 1, memory_order_relaxed);
}

static struct heap *pop_ownerless_locked(unsigned place)
{
	bool warm = ownerless[1][place] != NULL;
	struct heap *h = ownerless[warm][place];

	if (h != NULL) {
		ownerless[warm][place] = h->next_ownerless;
		nr_warm[place] -= warm;
		atomic_fetch_sub_explicit(&nr_ownerless, 1, memory_order_relaxed);
	}
	return h;
}

struct heap *heap_make_apart(unsigned place)
{
	struct heap *h;

	lock_acquire(&heaps_lock, LOCK_HEAPS);
	h = heap_make_locked(place);
	if (h != NULL)
		h->ownerless = true;
	lock_release(&heaps_lock, LOCK_HEAPS);
	return h;
}

struct heap *heap_mine(unsigned place)
{
	struct heap *h = mine;

	while (h != NULL && h->place != place)
		h = h->next_mine;
	return h;
}

COLD struct heap *heap_attach(unsigned place)
{
	shim_init();
	lock_acquire(&heaps_lock, LOCK_HEAPS);

	struct heap *h = pop_ownerless_locked(place);

	if (h == NULL)
		h = heap_make_locked(place);
	if (h != NULL) {
		lock_acquire(&h->lock, LOCK_HEAP);
		h->ownerless = false;
		h->settled = false;
		if (h->counted != shim_sample_is_on())
			divert_setup(h);
		sample_arm(h);
		heap_set_thread(h, thread_pointer());
		lock_release(&h->lock, LOCK_HEAP);
		h->next_mine = mine;
		mine = h;
		if (heap_now[place] == &heap_null)
			heap_now[place] = h;
		count_thread_locked(h, 1);
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	if (h != NULL && heap_thread_state == THREAD_NEW) {
		heap_thread_state = THREAD_STARTED;
		shim_thread_started();
	}
	return h;
}

void heap_set_own_blocks(unsigned place, bool own)
{
	uint8_t kind = (uint8_t)(own ? place : PLACE_ANY);

	/* Said at each push of a lifetime: threads share the line, and seldom write to it. */
	if (atomic_load_explicit(&heap_kinds[place], memory_order_relaxed) != kind)
		atomic_store_explicit(&heap_kinds[place], kind, memory_order_relaxed);
}

/* By who gives places out, one at a time. */
void heap_set_left(unsigned place, bool left)
{
	uint32_t was = atomic_load_explicit(&left_places, memory_order_relaxed);
	uint32_t bit = (uint32_t)1 << place;

	atomic_store_explicit(&left_places, left ? was | bit : was & ~bit,
			      memory_order_relaxed);
}

bool heap_use_place(unsigned place)
{
	struct heap *h = heap_mine(place);

	if (h == NULL && place != PLACE_ANY)
		h = heap_attach(place);
	if (h == NULL && place != PLACE_ANY)
		return false;
	/* What is said counts from the start. */
	heap_set_own_blocks(place, true);
	heap_current = h != NULL ? h : &heap_null;
	return true;
}

static void heap_settle_all(struct heap *h);

/* The thread no longer finds the heap. */
static void forget(struct heap *h)
{
	struct heap **link = &mine;

	for (unsigned place = 0; place < NR_PLACES; place++) {
		if (heap_now[place] == h)
			heap_now[place] = &heap_null;
	}
	while (*link != h)
		link = &(*link)->next_mine;
	*link = h->next_mine;
}

/* For who adopts them. */
static void stop_emptying(struct heap *h)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		struct heap_class *hc = &h->classes[cls];

		while (hc->lists[LIST_EMPTYING] != NULL)
			slabs_stop_emptying(hc, hc->lists[LIST_EMPTYING]);
	}
}

/* A few heaps stay as they are for the next threads, the others keep nothing. */
COLD void heap_detach(struct heap *h)
{
	bool warm;

	forget(h);
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	warm = nr_warm[h->place] < NR_WARM_OWNERLESS && !heap_is_asked(h);
	if (!warm) {
		lock_release(&heaps_lock, LOCK_HEAPS);
		heap_settle_all(h);
		lock_acquire(&heaps_lock, LOCK_HEAPS);
	}
	lock_acquire(&h->lock, LOCK_HEAP);
	h->ownerless = true;
	stop_emptying(h);
	(void)divert_end(h);
	heap_set_thread(h, 0);
	lock_release(&h->lock, LOCK_HEAP);
	push_ownerless_locked(h, warm);
	count_thread_locked(h, -1);
	lock_release(&heaps_lock, LOCK_HEAPS);
}

/* --- adopting slabs --------------------------------------------------------------- */

/* Odd while a slab changes hands: a reader outside of the process, who looks at one heap after
 * the other, looks again when it is or has changed. */
static void count_hand_over(void)
{
	/* Relaxed load: written under the heaps lock.  Release: what the count was for is seen
	 * no later than the count, as far as a reader outside can order its reads. */
	uint32_t n = atomic_load_explicit(&nr_handed_over, memory_order_relaxed);

	atomic_store_explicit(&nr_handed_over, n + 1, memory_order_release);
	atomic_thread_fence(memory_order_release);
}

/*
 * Moves a slab to another heap, with both locked.  Two heap locks at once are safe under
 * the heaps lock, because whoever else holds one waits for no second.  Objects of the
 * slab that are on chains of its old heap become strays there.
 */
static bool hand_over(struct heap *from, struct heap *to, unsigned cls, unsigned list)
{
	struct slab *s = slabs_emptiest(&from->classes[cls], list);

	if (s == NULL)
		return false;
	lock_acquire(&to->lock, LOCK_HEAP);
	count_hand_over();
	slabs_remove(from, s);
	slab_set_heap(s, to);
	slabs_add(to, s);
	count_hand_over();
	lock_release(&to->lock, LOCK_HEAP);
	return true;
}

static bool adopt_from(struct heap *h, struct heap *o, unsigned cls, struct object **strays)
{
	bool adopted;

	if (slabs_count(&o->classes[cls]) == 0)
		return false;
	lock_acquire(&o->lock, LOCK_HEAP);
	*strays = settle_join(settle_chain(o, settle_empty_bin(&o->bins[cls])), *strays);
	*strays = settle_join(settle_inbox(o, cls), *strays);
	adopted = hand_over(o, h, cls, 0);
	lock_release(&o->lock, LOCK_HEAP);
	return adopted;
}

/* From a heap with a thread: only a slab that is half empty or more. */
static bool borrow_from(struct heap *h, struct heap *o, unsigned cls, struct object **strays)
{
	bool adopted;

	if (slabs_count(&o->classes[cls]) == 0)
		return false;
	lock_acquire(&o->lock, LOCK_HEAP);
	*strays = settle_join(settle_inbox(o, cls), *strays);
	adopted = hand_over(o, h, cls, NR_FULLNESS / 2);
	lock_release(&o->lock, LOCK_HEAP);
	return adopted;
}

static bool adopt_ownerless(struct heap *h, unsigned place, unsigned cls, struct object **strays)
{
	for (unsigned warm = 0; warm < 2; warm++) {
		struct heap *o = ownerless[warm][place];

		for (unsigned looks = 0; o != NULL && looks < ADOPT_LOOKS_MAX; looks++) {
			if (adopt_from(h, o, cls, strays))
				return true;
			o = o->next_ownerless;
		}
	}
	return false;
}

/* What the places that were left have is for what has no place of its own. */
static COLD bool adopt_left(struct heap *h, unsigned cls, uint32_t left, struct object **strays)
{
	for (struct heap *o = mine; o != NULL; o = o->next_mine) {
		if ((left >> o->place & 1) != 0 && adopt_from(h, o, cls, strays))
			return true;
	}
	for (; left != 0; left &= left - 1) {
		if (adopt_ownerless(h, (unsigned)__builtin_ctz(left), cls, strays))
			return true;
	}
	return false;
}

static bool borrow(struct heap *h, unsigned cls, struct object **strays)
{
	static struct heap *next_look; /* under heaps_lock */
	bool adopted = false;

	for (unsigned looks = 0; !adopted && looks < BORROW_LOOKS_MAX; looks++) {
		struct heap *o = next_look != NULL ? next_look : heap_first();

		if (o != h && !o->ownerless && o->place == h->place)
			adopted = borrow_from(h, o, cls, strays);
		next_look = o->next_all;
	}
	return adopted;
}

/*
 * Before a heap asks for pages: a slab with free objects from a heap that has no thread, or
 * whose place was left, and, where there are so many threads that a slab of each class for
 * each of them is much, from one that has.
 */
COLD void heap_adopt_slab(struct heap *h, unsigned cls)
{
	uint32_t left = h->place == PLACE_ANY
				? atomic_load_explicit(&left_places, memory_order_relaxed)
				: 0;
	struct object *strays = NULL;

	/* Relaxed: a hint. */
	if (atomic_load_explicit(&nr_ownerless, memory_order_relaxed) == 0 &&
	    !limits_many_threads() && left == 0)
		return;
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	if (!adopt_ownerless(h, h->place, cls, &strays) &&
	    (left == 0 || !adopt_left(h, cls, left, &strays)) && limits_many_threads())
		(void)borrow(h, cls, &strays);
	lock_release(&heaps_lock, LOCK_HEAPS);
	settle_strays(strays);
}

/* --- threads, draining -------------------------------------------------------------- */

/* Everything the heap caches goes to its slabs and the zone. Only its thread may call it,
 * or whoever holds its lock and the heaps lock when it is ownerless. */
static struct object *settle_locked(struct heap *h)
{
	struct object *strays = NULL;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		strays = settle_join(settle_chain(h, settle_empty_bin(&h->bins[cls])), strays);
		strays = settle_join(settle_inbox(h, cls), strays);
		for (unsigned list = 0; list <= LIST_PURGED; list++) {
			for (struct slab *s = h->classes[cls].lists[list], *next; s != NULL;
			     s = next) {
				next = s->next;
				if (s->nr_free == s->nr_objects)
					slabs_release(h, s);
			}
		}
	}
	return strays;
}

static void heap_settle_all(struct heap *h)
{
	struct object *strays;

	remote_deliver_all(h);
	lock_acquire(&h->lock, LOCK_HEAP);
	strays = settle_locked(h);
	lock_release(&h->lock, LOCK_HEAP);
	pcp_drain(&h->pcp);
	settle_strays(strays);
}

/* By the heap's thread, or under the heaps lock for one without. */
static void leave_cordoned(struct heap *h)
{
	struct object *strays;

	remote_deliver_all(h);
	lock_acquire(&h->lock, LOCK_HEAP);
	strays = settle_cordoned(h);
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
}

/* From outside: the inboxes; its thread is asked for the rest. */
static void ask_to_leave(struct heap *h)
{
	struct object *strays = NULL;

	lock_acquire(&h->lock, LOCK_HEAP);
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (slabs_any_cordoned(cls))
			strays = settle_join(settle_inbox(h, cls), strays);
	}
	lock_release(&h->lock, LOCK_HEAP);
	settle_strays(strays);
	divert_heap(h, DIVERT_LEAVE);
}

/* Under the heaps lock, so that no heap is taken or left between the two cases. */
void heap_leave_cordoned(void)
{
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		if (h->ownerless)
			leave_cordoned(h);
		else
			ask_to_leave(h);
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	heap_answer_if_asked();
}

void heap_uncordon_all(void)
{
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
			while (h->classes[cls].lists[LIST_CORDONED] != NULL)
				slabs_uncordon(h, h->classes[cls].lists[LIST_CORDONED]);
		}
		lock_release(&h->lock, LOCK_HEAP);
	}
}

/* Bins and batches are as short as those of a new heap: it is not in use. */
static void shrink_caches(struct heap *h)
{
	lock_acquire(&h->lock, LOCK_HEAP);
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		struct bin *b = &h->bins[cls];

		b->max = (uint16_t)(limits_first(cls) * 2u);
		b->room = b->max;
		h->classes[cls].batch = 0;
	}
	lock_release(&h->lock, LOCK_HEAP);
}

static void answer(struct heap *h)
{
	unsigned requests;

	lock_acquire(&h->lock, LOCK_HEAP);
	requests = divert_end(h);
	divert_set_owner(h, thread_pointer());
	lock_release(&h->lock, LOCK_HEAP);
	if ((requests & DIVERT_SAMPLE) != 0)
		sample_arm(h);
	if ((requests & DIVERT_SETTLE) != 0) {
		heap_settle_all(h);
		shrink_caches(h);
	} else if ((requests & DIVERT_LEAVE) != 0) {
		leave_cordoned(h);
	}
}

void heap_divert_all(unsigned requests)
{
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		divert_heap(h, requests);
}

/* In the middle of an operation, so that no fast path is under way. */
COLD void heap_answer(void)
{
	for (struct heap *h = mine; h != NULL; h = h->next_mine) {
		if (heap_requests(h) != 0)
			answer(h);
	}
}

void heap_thread_exit(void)
{
	heap_thread_state = THREAD_EXITING;
	while (mine != NULL) {
		remote_deliver_all(mine);
		heap_detach(mine);
	}
}

/* Under the heaps lock nobody takes an ownerless heap: all of it can be settled. */
static struct object *settle_ownerless_locked(struct heap *h)
{
	struct object *strays;

	remote_deliver_all(h);
	lock_acquire(&h->lock, LOCK_HEAP);
	strays = settle_locked(h);
	lock_release(&h->lock, LOCK_HEAP);
	pcp_drain(&h->pcp);
	h->settled = true;
	return strays;
}

static void drain_ownerless(void)
{
	struct object *strays = NULL;

	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		if (h->ownerless)
			strays = settle_join(settle_ownerless_locked(h), strays);
	}
	lock_release(&heaps_lock, LOCK_HEAPS);
	settle_strays(strays);
}

/* Whether hardly anybody came by a slow path since the last look, and many did since it was
 * asked: a thread that idles with a trickle is not asked again and again.  Sets any_busy when
 * a thread is in the middle of much. */
static bool is_idle(struct heap *h, bool *any_busy)
{
	bool idle;

	lock_acquire(&h->lock, LOCK_HEAP);
	idle = h->nr_slow - h->seen_slow < IDLE_SLOW_FEW &&
	       h->nr_slow - h->asked_slow >= IDLE_SLOW_MIN;
	*any_busy |= !h->ownerless && h->nr_slow - h->seen_slow >= IDLE_SLOW_MIN;
	h->seen_slow = h->nr_slow;
	if (idle)
		h->asked_slow = h->nr_slow;
	lock_release(&h->lock, LOCK_HEAP);
	return idle;
}

/*
 * The heap's thread is asked, whichever of its heaps it comes by: one that has been left for
 * other places is not entered any more.
 */
static void ask_idle(struct heap *h)
{
	/* Relaxed: a thread that goes meanwhile settles as it does so. */
	uintptr_t thread = atomic_load_explicit(&h->thread, memory_order_relaxed);

	divert_heap(h, DIVERT_SETTLE);
	for (struct heap *o = heap_first(); o != NULL && thread != 0; o = o->next_all) {
		if (o != h && atomic_load_explicit(&o->thread, memory_order_relaxed) == thread)
			divert_heap(o, DIVERT_OTHERS);
	}
}

bool heap_settle_idle(void)
{
	bool any = false;

	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		struct object *strays = NULL;

		if (!is_idle(h, &any))
			continue;
		ask_idle(h);
		lock_acquire(&heaps_lock, LOCK_HEAPS);
		any |= !h->ownerless;
		if (h->ownerless && !h->settled)
			strays = settle_ownerless_locked(h);
		lock_release(&heaps_lock, LOCK_HEAPS);
		settle_strays(strays);
	}
	return any;
}

/* The caller's own heaps first deliver and are settled last, because what others' chains
 * hold may belong to them. */
void heap_drain_all(void)
{
	for (struct heap *h = mine; h != NULL; h = h->next_mine)
		remote_deliver_all(h);
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		struct object *strays = NULL;

		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			strays = settle_join(settle_inbox(h, cls), strays);
		lock_release(&h->lock, LOCK_HEAP);
		pcp_drain(&h->pcp);
		settle_strays(strays);
	}
	drain_ownerless();
	for (struct heap *h = mine; h != NULL; h = h->next_mine)
		heap_settle_all(h);
}

void heap_flush(void)
{
	if (heap_current != &heap_null)
		heap_settle_all(heap_current);
}

/* --- fork ----------------------------------------------------------------------------- */

void heap_fork_prepare(void)
{
	lock_acquire(&heaps_lock, LOCK_HEAPS);
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		lock_acquire(&h->lock, LOCK_HEAP);
}

void heap_fork_parent(void)
{
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		lock_release(&h->lock, LOCK_HEAP);
	lock_release(&heaps_lock, LOCK_HEAPS);
}

static void mend_bins(struct heap *h)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (h->bins[cls].room < 1)
			h->bins[cls].room = 1;
	}
}

/*
 * Each object that a refill links is on a page that is copied for it: the child, which may
 * be going to need few, takes few at first.
 */
static void begin_small(struct heap *h)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		if (h->classes[cls].batch != 0)
			h->classes[cls].batch = 0;
	}
}

/* The other threads are gone: their heaps wait for the child's new threads. */
void heap_fork_child(void)
{
	memset(ownerless, 0, sizeof(ownerless));
	memset(nr_warm, 0, sizeof(nr_warm));
	nr_threads = heap_mine(PLACE_ANY) != NULL;
	atomic_store_explicit(&nr_ownerless, 0, memory_order_relaxed);
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		lock_reset(&h->lock);
		if (heap_is_mine(h)) {
			memcpy(h->old_inbox, h->has_inbox, sizeof(h->old_inbox));
			begin_small(h);
			continue;
		}
		if (h->place >= NR_PLACES)
			continue;
		if (!h->ownerless) {
			h->ownerless = true;
			(void)divert_end(h);
			heap_set_thread(h, 0);
			remote_mend_slots(h);
			mend_bins(h);
		}
		push_ownerless_locked(h, true);
	}
	limits_set(nr_threads);
	lock_reset(&heaps_lock);
}

/* --- views ----------------------------------------------------------------------------- */

void heap_inspect(void)
{
	inspect_show("heaps", &all_heaps, sizeof(all_heaps));
	inspect_show("nr_heaps", &nr_heaps, sizeof(nr_heaps));
	inspect_show("nr_ownerless", &nr_ownerless, sizeof(nr_ownerless));
	inspect_show("handed_over", &nr_handed_over, sizeof(nr_handed_over));
}

void heap_stats_add(struct shim_stats *out)
{
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
			const struct class_info *ci = &class_info[cls];
			uint64_t nr = slabs_count(&h->classes[cls]);

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

	for (unsigned list = 0; list < NR_LISTS; list++) {
		for (struct slab *s = hc->lists[list]; s != NULL; s = s->next) {
			unsigned flags = slab_flags(s);
			bool apart = (flags & SLAB_SETTLES) != 0;

			CHECK(slab_heap(s) == h && s->cls == cls && s->list == list);
			CHECK(((flags & SLAB_CORDONED) != 0) == (list == LIST_CORDONED));
			CHECK(apart == (list >= LIST_CORDONED));
			CHECK(slab_list(s) == list);
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
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			heap_check_class(h, cls);
		lock_release(&h->lock, LOCK_HEAP);
	}
}
