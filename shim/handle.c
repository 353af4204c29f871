/* Handles; see handle.h. */
#include "shim/handle.h"

#include "shim/compact.h"
#include "shim/settle.h"
#include "shim/shim.h"
#include "shim/slab.h"
#include "shim/slabs.h"

#include <errno.h>
#include <string.h>

#define PINS ((uint64_t)0xffffff)
#define LIVE ((uint64_t)1 << 24)
#define MOVING ((uint64_t)1 << 25)
#define WANTED ((uint64_t)1 << 26)
#define GENERATION_SHIFT 32u

#define ENTRIES_MAX ((uint32_t)1 << 26)
#define ENTRIES_MIN ((uint32_t)1 << 16)
/* Entries that become usable at a time. */
#define ENTRIES_STEP ((uint32_t)4096)
#define NO_ENTRY UINT32_MAX

struct entry {
	_Atomic uint64_t state;
	/* The object while it is live, else the next unused entry, under the heap's lock. */
	_Atomic uintptr_t object_or_next;
};
STATIC_ASSERT(sizeof(struct entry) == 16, "a handle costs this and a header");

static struct heap *_Atomic heap; /* release when it is made: all below is there too */
static struct entry *entries;
static uint32_t capacity;           /* of the reservation */
static _Atomic uint32_t nr_entries; /* that can be used; release when it grows */
static uint32_t unused = NO_ENTRY;  /* stack of entries, under the heap's lock */

/* --- entries ------------------------------------------------------------------------------ */

struct heap *handle_heap(void)
{
	/* Acquire pairs with make_heap(). */
	return atomic_load_explicit(&heap, memory_order_acquire);
}

static bool reserve_entries(void)
{
	for (capacity = ENTRIES_MAX; capacity >= ENTRIES_MIN; capacity /= 4) {
		entries = os_reserve(capacity * sizeof(struct entry), PAGE_BYTES);
		if (entries != NULL)
			return true;
	}
	return false;
}

static COLD struct heap *make_heap(void)
{
	struct heap *h;

	compact_lock();
	h = handle_heap();
	if (h == NULL && (entries != NULL || reserve_entries())) {
		/* Its pages are movable, and have no kind. */
		h = heap_make_apart(PLACE_HANDLES);
		/* Release pairs with handle_heap(). */
		atomic_store_explicit(&heap, h, memory_order_release);
	}
	compact_unlock();
	return h;
}

/* Under the heap's lock. */
static void push_unused(uint32_t index)
{
	/* Relaxed: under the lock; others look at the state first. */
	atomic_store_explicit(&entries[index].object_or_next, unused, memory_order_relaxed);
	unused = index;
}

/* Under the heap's lock. */
static bool more_entries(void)
{
	/* Relaxed: written under the lock. */
	uint32_t nr = atomic_load_explicit(&nr_entries, memory_order_relaxed);

	if (nr == capacity ||
	    os_commit_small(&entries[nr], ENTRIES_STEP * sizeof(struct entry)) != 0)
		return false;
	for (uint32_t i = nr + ENTRIES_STEP; i-- > nr;) {
		push_unused(i);
	}
	/* Release pairs with entry_of(). */
	atomic_store_explicit(&nr_entries, nr + ENTRIES_STEP, memory_order_release);
	return true;
}

static uint64_t generation(uint64_t state)
{
	return state >> GENERATION_SHIFT;
}

/* The entry a handle names, which may be another's by now; NULL: it names none. */
static struct entry *entry_of(uint64_t handle)
{
	uint32_t index = (uint32_t)handle - 1;

	/* Acquire pairs with more_entries(). */
	return index < atomic_load_explicit(&nr_entries, memory_order_acquire) ? &entries[index]
									       : NULL;
}

static bool is_current(uint64_t state, uint64_t handle)
{
	return (state & LIVE) != 0 && generation(state) == generation(handle);
}

static void set_object(struct entry *e, const struct handle_object *o)
{
	/* Relaxed: the release of its state that comes next publishes it. */
	atomic_store_explicit(&e->object_or_next, (uintptr_t)o, memory_order_relaxed);
}

static uint64_t load_state(struct entry *e)
{
	/* Relaxed: a compare and exchange with the order that is needed comes next. */
	return atomic_load_explicit(&e->state, memory_order_relaxed);
}

static struct handle_object *object_of(struct entry *e)
{
	/* Relaxed: whoever has it pinned or isolated came by an acquire of its state. */
	return (struct handle_object *)atomic_load_explicit(&e->object_or_next,
							    memory_order_relaxed);
}

/* --- objects, under the heap's lock --------------------------------------------------------- */

static struct handle_object *place(struct heap *h, uint64_t nr_bytes)
{
	size_t total = nr_bytes + sizeof(struct handle_object);
	size_t nr_pages = 0;
	struct handle_object *o;

	if (total <= MEDIUM_MAX) {
		o = (struct handle_object *)(void *)slabs_take_flagged(h, class_of(total),
								       SLAB_HANDLES);
	} else {
		nr_pages = round_up(total, PAGE_BYTES) / PAGE_BYTES;
		o = pfn_to_addr(zone_alloc(nr_pages, 0, MIGRATE_MOVABLE, NULL));
		if (o != NULL)
			*run_word(o) = RUN_HANDLE | nr_pages;
	}
	if (o != NULL) {
		o->nr_pages = (uint32_t)nr_pages;
		o->nr_bytes = nr_bytes;
	}
	return o;
}

static void give_up(struct heap *h, struct handle_object *o)
{
	size_t nr_pages = o->nr_pages;
	struct object *freed = (struct object *)(void *)o;
	bool is_home;

	if (nr_pages > 0) {
		*run_word(o) = RUN_FREED | nr_pages;
		zone_free(pfn_of(o), nr_pages);
		return;
	}
	freed->key = arena_key();
	is_home = settle_object(h, freed);
	CHECK(is_home);
}

/* --- the interface -------------------------------------------------------------------------- */

uint64_t shim_handle_alloc(size_t nr_bytes, int *err)
{
	struct heap *h;
	struct handle_object *o = NULL;
	struct entry *e;
	uint64_t state;
	uint32_t index;

	*err = -ENOMEM;
	if (nr_bytes > PTRDIFF_MAX - PAGE_BYTES)
		return 0;
	shim_init();
	h = handle_heap();
	if (h == NULL && (h = make_heap()) == NULL)
		return 0;
	lock_acquire(&h->lock, LOCK_HEAP);
	if (unused != NO_ENTRY || more_entries())
		o = place(h, nr_bytes);
	if (o == NULL) {
		lock_release(&h->lock, LOCK_HEAP);
		return 0;
	}
	index = unused;
	e = &entries[index];
	/* Relaxed: under the lock. */
	unused = (uint32_t)atomic_load_explicit(&e->object_or_next, memory_order_relaxed);
	o->index = index;
	set_object(e, o);
	state = (generation(load_state(e)) + 1) << GENERATION_SHIFT;
	/* Release pairs with the acquires of who pins or isolates it. */
	atomic_store_explicit(&e->state, state | LIVE, memory_order_release);
	lock_release(&h->lock, LOCK_HEAP);
	*err = 0;
	return state | ((uint64_t)index + 1);
}

/* For a handle that is not current: what to answer. */
static int stale(struct entry *e)
{
	return e == NULL ? -EINVAL : -ESTALE;
}

void *shim_handle_pin(uint64_t handle, int *err)
{
	struct entry *e = entry_of(handle);
	uint64_t state = e == NULL ? 0 : load_state(e);
	unsigned naps = 0;

	do {
		while (is_current(state, handle) && (state & MOVING) != 0) {
			os_nap(naps++);
			state = load_state(e);
		}
		*err = !is_current(state, handle) ? stale(e)
		       : (state & PINS) == PINS   ? -EOVERFLOW
						  : 0;
		if (*err != 0)
			return NULL;
		/* Acquire pairs with the releases of handle_migrate() and shim_handle_alloc(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&e->state, &state, state + 1, memory_order_acquire, memory_order_relaxed));
	return object_of(e) + 1;
}

int shim_handle_unpin(uint64_t handle)
{
	struct entry *e = entry_of(handle);
	uint64_t state = e == NULL ? 0 : load_state(e), now;

	do {
		if (!is_current(state, handle))
			return stale(e);
		if ((state & PINS) == 0)
			return -EPERM;
		now = state - 1;
		if ((now & PINS) == 0)
			now &= ~WANTED;
		/* Release pairs with the acquires of handle_isolate() and shim_handle_free(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&e->state, &state, now, memory_order_release, memory_order_relaxed));
	if ((state & WANTED) != 0 && (now & PINS) == 0)
		compact_unpinned(handle);
	return 0;
}

int shim_handle_free(uint64_t handle)
{
	struct entry *e = entry_of(handle);
	uint64_t state = e == NULL ? 0 : load_state(e);
	struct heap *h = handle_heap();
	unsigned naps = 0;

	do {
		while (is_current(state, handle) && (state & MOVING) != 0) {
			os_nap(naps++);
			state = load_state(e);
		}
		if (!is_current(state, handle))
			return stale(e);
		if ((state & PINS) != 0)
			return -EBUSY;
		/* Acquire pairs with shim_handle_unpin() and handle_migrate(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&e->state, &state, state & ~(LIVE | WANTED), memory_order_acquire,
		memory_order_relaxed));
	lock_acquire(&h->lock, LOCK_HEAP);
	give_up(h, object_of(e));
	push_unused((uint32_t)(e - entries));
	lock_release(&h->lock, LOCK_HEAP);
	work_tick();
	return 0;
}

size_t shim_handle_size(uint64_t handle, int *err)
{
	char *p = shim_handle_pin(handle, err);
	size_t nr_bytes;

	if (p == NULL)
		return 0;
	nr_bytes = ((struct handle_object *)(void *)p - 1)->nr_bytes;
	*err = shim_handle_unpin(handle);
	return nr_bytes;
}

unsigned handle_pins(uint64_t handle)
{
	struct entry *e = entry_of(handle);
	uint64_t state = e == NULL ? 0 : load_state(e);

	return is_current(state, handle) ? (unsigned)(state & PINS) : 0;
}

/* --- moving ---------------------------------------------------------------------------------- */

bool handle_isolate(struct handle_object *o, bool wanted)
{
	struct entry *e = &entries[o->index];
	uint64_t state = load_state(e), now;

	do {
		/* MOVING: no object is isolated twice. */
		if ((state & (LIVE | MOVING)) != LIVE || object_of(e) != o)
			return false;
		now = (state & PINS) == 0 ? state | MOVING : wanted ? state | WANTED : state;
		/* Acquire pairs with the releases of shim_handle_unpin() and _alloc(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&e->state, &state, now, memory_order_acquire, memory_order_relaxed));
	return (now & MOVING) != 0;
}

struct handle_object *handle_isolate_named(uint64_t handle)
{
	struct entry *e = entry_of(handle);
	uint64_t state = load_state(e), now;

	do {
		if (!is_current(state, handle) || (state & MOVING) != 0)
			return NULL;
		/* Pinned again meanwhile: the next last pin shall see to it. */
		now = state | ((state & PINS) == 0 ? MOVING : WANTED);
		/* Acquire: as handle_isolate(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&e->state, &state, now, memory_order_acquire, memory_order_relaxed));
	return (now & MOVING) != 0 ? object_of(e) : NULL;
}

static void end_moving(struct entry *e)
{
	/* Release pairs with the acquires of pin, free and isolate. */
	uint64_t was = atomic_fetch_and_explicit(&e->state, ~(MOVING | WANTED),
						 memory_order_release);
	bool was_moving = (was & (LIVE | MOVING)) == (LIVE | MOVING);

	CHECK(was_moving);
}

void handle_putback(struct handle_object *o)
{
	end_moving(&entries[o->index]);
}

bool handle_migrate(struct handle_object *o)
{
	struct entry *e = &entries[o->index];
	struct heap *h = handle_heap();
	struct handle_object *to;

	lock_acquire(&h->lock, LOCK_HEAP);
	to = place(h, o->nr_bytes);
	lock_release(&h->lock, LOCK_HEAP);
	if (to == NULL)
		return false;
	to->index = o->index;
	memcpy(to + 1, o + 1, o->nr_bytes);
	set_object(e, to);
	end_moving(e);
	lock_acquire(&h->lock, LOCK_HEAP);
	give_up(h, o);
	lock_release(&h->lock, LOCK_HEAP);
	return true;
}
