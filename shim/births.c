/* Watched objects; see births.h.  Records are in a hash table without tombstones: Knuth,
 * TAOCP 6.4, algorithm R. */
#include "shim/births.h"

#include "shim/slabs.h"

#include <string.h>

/* Never full, so that a search ends. */
#define NR_ENTRIES (2 * BIRTHS_MAX)

static struct heap *_Atomic watched_heap;
static struct birth table[NR_ENTRIES];
static unsigned nr_births;
/* Added where an object is made, without the sites lock. */
static _Atomic uint64_t live_bytes;

/* --- objects ------------------------------------------------------------------------- */

/* One of several that make it first at the same time wins; the other heaps stay empty. */
static struct heap *heap_for_births(void)
{
	/* Acquire: pairs with the release below. */
	struct heap *h = atomic_load_explicit(&watched_heap, memory_order_acquire), *made;

	if (likely(h != NULL))
		return h;
	made = heap_make_apart(PLACE_WATCHED);
	if (made != NULL &&
	    atomic_compare_exchange_strong_explicit(&watched_heap, &h, made, memory_order_release,
						    memory_order_acquire))
		return made;
	return h;
}

void *births_alloc(size_t size)
{
	struct heap *h = heap_for_births();
	unsigned cls = class_of(size <= ALIGN_MIN ? ALIGN_MIN : (size_t)1 << log2_ceil(size));
	struct object *o;

	ASSERT(size <= SMALL_MAX);
	if (h == NULL)
		return NULL;
	lock_acquire(&h->lock, LOCK_HEAP);
	o = slabs_take_flagged(h, cls, SLAB_WATCHED);
	lock_release(&h->lock, LOCK_HEAP);
	if (o == NULL)
		return NULL;
	o->key = 0;
	/* Relaxed: a bound. */
	atomic_fetch_add_explicit(&live_bytes, class_info[cls].bytes, memory_order_relaxed);
	return o;
}

uint64_t births_bytes(void)
{
	return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

/* --- records ------------------------------------------------------------------------- */

static unsigned home_of(uintptr_t object)
{
	return (unsigned)((object >> 4) * 0x9E3779B97F4A7C15u >> 32) % NR_ENTRIES;
}

/* Where the object's record is, or would be. */
static unsigned find(uintptr_t object)
{
	unsigned i = home_of(object);

	while (table[i].object != 0 && table[i].object != object)
		i = (i + 1) % NR_ENTRIES;
	return i;
}

bool births_add(struct birth birth)
{
	if (nr_births == BIRTHS_MAX)
		return false;
	table[find(birth.object)] = birth;
	nr_births++;
	return true;
}

/* What follows moves up, as far as it would be found no more. */
static struct birth take_out(unsigned hole)
{
	struct birth out = table[hole];

	for (unsigned i = (hole + 1) % NR_ENTRIES; table[i].object != 0;
	     i = (i + 1) % NR_ENTRIES) {
		unsigned home = home_of(table[i].object);

		if ((i - home) % NR_ENTRIES >= (i - hole) % NR_ENTRIES) {
			table[hole] = table[i];
			hole = i;
		}
	}
	table[hole] = (struct birth){ .object = 0 };
	nr_births--;
	return out;
}
STATIC_ASSERT((NR_ENTRIES & (NR_ENTRIES - 1)) == 0, "distances wrap around");

struct birth births_forget(uintptr_t object)
{
	unsigned i = find(object);

	return table[i].object == 0 ? table[i] : take_out(i);
}

struct birth births_end(const void *object, size_t nr_bytes)
{
	/* Relaxed: as above. */
	atomic_fetch_sub_explicit(&live_bytes, nr_bytes, memory_order_relaxed);
	return births_forget((uintptr_t)object);
}
