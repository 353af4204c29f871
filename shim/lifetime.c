/*
 * Saying how long blocks live; see lifetime.h.
 *
 * A lifetime is a place (heap.h), so that saying one is to make heap_current another of the
 * thread's heaps: nothing changes on any fast path, and a thread that says nothing pays
 * nothing.  What was said is kept two bits a level, the innermost lowest; levels beyond
 * LIFETIME_DEPTH are forgotten from the outside, and count as unknown when they come up again.
 */
#include "shim/lifetime.h"

#include "shim/heap.h"
#include "shim/sites.h"

#define LEVEL_BITS 2u
STATIC_ASSERT(NR_LIFETIMES <= 1u << LEVEL_BITS, "a lifetime is two bits");
STATIC_ASSERT(LIFETIME_DEPTH * LEVEL_BITS == 64, "all levels are a word");

static __thread uint64_t levels;

enum lifetime lifetime_now(void)
{
	return (enum lifetime)(levels & ((1u << LEVEL_BITS) - 1));
}

static void apply(void)
{
	static const uint8_t places[NR_LIFETIMES] = { PLACE_ANY, PLACE_SHORT, PLACE_LONG };

	/* On its way out a thread borrows a heap for each call: see heap_thread_exit(). */
	if (heap_thread_state == THREAD_EXITING)
		return;
	/* Without memory for a heap it stays as it is. */
	if (!heap_use_place(places[lifetime_now()]) || !sites_are_on())
		return;
	/* What is said counts more than what was learned. */
	for (unsigned place = PLACE_ANY + 1; place < NR_PLACES; place++) {
		if (place == PLACE_WRAPPED)
			continue;

		struct heap *own = lifetime_now() != LIFETIME_UNKNOWN ? heap_current
								      : heap_mine(place);

		heap_now[place] = own != NULL ? own : &heap_null;
	}
}

void lifetime_push(enum lifetime lifetime)
{
	levels = levels << LEVEL_BITS | (uint64_t)lifetime;
	apply();
}

void lifetime_pop(void)
{
	levels >>= LEVEL_BITS;
	apply();
}
