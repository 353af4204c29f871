/*
 * Sites: the places in the program that ask for memory, by return address, and which of a
 * thread's heaps their blocks come from.
 *
 * The place of a site is a byte in a table indexed by the low 16 bits of the return
 * address, so that the fast path finds it with three loads; two sites with the same bits
 * share a place, which is counted (sites_stats.nr_collisions) and costs no more than not
 * keeping them apart.  Barrett and Zorn (1993) and Seidl and Zorn (1998) showed that the
 * site predicts the lifetime; here it decides at first only who shares a page with whom:
 * blocks of one site have one fate more often than blocks of all.
 *
 * What is counted is what a site makes the heap grow, seen whenever a bin has to be
 * refilled: that costs the fast path nothing, and a site that frees what it asks for
 * never shows, as it needs no place.  The sites that grow most (Space-Saving: Metwally,
 * Agrawal, El Abbadi 2005) get a place of their own while there are some and the memory
 * that keeping apart costs stays under a bound.
 *
 * Then lifetimes are learned.  Some of the objects at refills are watched (births.h); from
 * their births and deaths on the allocation clock follows how many of a site's objects live
 * until as much has been allocated as was in use at the peak (survival.h).  Sites of short
 * lived objects need no place and share PLACE_ANY with all that is not known; those of long
 * lived ones share PLACE_LONG.
 *
 * A wrapper, a function through which many sizes come from several callers, is looked
 * through: its caller's return address lies a fixed distance up the stack, which is found
 * once and then read.
 *
 * Invariants: a place other than PLACE_ANY is given to a site only under the sites lock, by
 * look(), and PLACE_WRAPPED by watch_callers(); the table's bytes are below NR_PLACES.
 */
#ifndef PB_SHIM_SITES_H
#define PB_SHIM_SITES_H

#include "core/core.h"
#include "shim/heap.h"

#include <stdint.h>

#define SITES_KEYS 65536u
/* No thread ever has a heap here: its sites are looked at one by one in the slow path. */
#define PLACE_WRAPPED 15u

/* SITES_KEYS of them, written under the sites lock, read by anybody: a stale answer is another
 * place. */
extern _Atomic uint8_t *sites_place __attribute__((visibility("hidden")));

static ALWAYS_INLINE size_t sites_key(uintptr_t site)
{
	return (uint16_t)site;
}

static ALWAYS_INLINE unsigned sites_place_of(uintptr_t site)
{
	/* Relaxed: a stale place is another one. */
	return atomic_load_explicit(&sites_place[sites_key(site)], memory_order_relaxed);
}

/* Where a call came from: its return address and the caller's stack at the call. */
struct sites_caller {
	uintptr_t site;
	const uintptr_t *stack;
	unsigned depth; /* wrappers looked through */
	bool watch;     /* by sites_note(): its object is to be watched */
};

/* Wrappers within wrappers. */
#define WRAPPER_DEPTH 2u
#define NR_WRAPPERS 64u

/* Each has one place in the table, which it keeps. */
struct sites_wrapper {
	_Atomic uintptr_t site; /* 0: none; published last */
	_Atomic uint32_t up;    /* words from the caller's stack to the return address */
};
extern struct sites_wrapper sites_wrappers[NR_WRAPPERS] __attribute__((visibility("hidden")));

static ALWAYS_INLINE size_t sites_wrapper_home(uintptr_t site)
{
	return (site ^ site >> 6) % NR_WRAPPERS;
}

/* The site's entry, NULL: it is no wrapper. */
static ALWAYS_INLINE const struct sites_wrapper *sites_wrapper_at(uintptr_t site)
{
	const struct sites_wrapper *w = &sites_wrappers[sites_wrapper_home(site)];

	/* Acquire: pairs with the release in wrapper_add(), publishes up. */
	return atomic_load_explicit(&w->site, memory_order_acquire) == site ? w : NULL;
}

/* The site behind a wrapper: the return address of its caller, on the stack of the call. */
static ALWAYS_INLINE uintptr_t sites_behind(const struct sites_wrapper *w,
					    const uintptr_t *stack)
{
	/* Relaxed: published with the site. */
	return stack[atomic_load_explicit(&w->up, memory_order_relaxed)];
}

/* The caller behind wrappers, and its place. */
static ALWAYS_INLINE unsigned sites_look_through(struct sites_caller *caller)
{
	unsigned place = sites_place_of(caller->site);

	while (place == PLACE_WRAPPED && caller->depth < WRAPPER_DEPTH) {
		const struct sites_wrapper *w = sites_wrapper_at(caller->site);

		if (w == NULL)
			break;
		caller->site = sites_behind(w, caller->stack);
		caller->depth++;
		place = sites_place_of(caller->site);
	}
	return place == PLACE_WRAPPED ? PLACE_ANY : place;
}

/* In a function that keeps a frame pointer, as everyone does that asks for its frame. */
#define SITES_CALLER()                                                                         \
	((struct sites_caller){                                                                \
		(uintptr_t)__builtin_return_address(0),                                        \
		(const uintptr_t *)__builtin_frame_address(0) + 2,                             \
		0,                                                                             \
		false,                                                                         \
	})

/* The table of places, once; false: no memory for it. */
bool sites_make_table(void);
/* From how many bytes in use on sites are kept apart; sets everything up. */
void sites_init(size_t from_bytes);
bool sites_are_on(void);

/* malloc, by the place of a caller, who is looked through. */
void *sites_malloc(size_t size, struct sites_caller *caller);

/* A refill for the site: so many bytes of the class have left their slabs. */
void sites_note(struct sites_caller *caller, unsigned cls, size_t nr_bytes);

/* An object that is watched, for a caller that sites_note() said so of; NULL: not now. */
void *sites_watch(const struct sites_caller *caller, size_t size);
/* An object of a slab with SLAB_WATCHED, whose objects have so many bytes, is about to be
 * freed. */
void sites_died(const void *p, size_t nr_bytes);
/* Such an object is about to be moved by realloc, which is neither death nor survival; the
 * place it goes to. */
unsigned sites_moves(const void *p);

/* --- views -------------------------------------------------------------------------- */

enum sites_lifetime { SITES_UNKNOWN, SITES_SHORT, SITES_LONG };

struct sites_place_view {
	uint64_t allocated_bytes; /* by refills, since it was given out */
	uint64_t live_bytes;      /* at the last look */
	uint32_t nr_sites;
};

struct sites_stats {
	uint64_t clock_bytes; /* refilled since the start: the allocation clock */
	uint64_t nr_collisions;
	uint64_t nr_replaced; /* sites forgotten for others */
	uint32_t nr_sites;
	uint32_t nr_places; /* given out */
	uint32_t nr_wrappers;
	uint32_t nr_short, nr_long; /* sites */
	uint32_t nr_merges, nr_splits;
	uint32_t nr_watched;      /* objects now */
	uint64_t nr_born, nr_died; /* watched objects */
	uint64_t peak_bytes;      /* in use, lately */
	uint64_t apart_bytes;     /* what keeping apart costs, as estimated */
	struct sites_place_view place[NR_PLACES];
};
void sites_stats_read(struct sites_stats *out);

void sites_fork_prepare(void);
void sites_fork_parent(void);
void sites_fork_child(void);

#endif
