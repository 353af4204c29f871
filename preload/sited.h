/*
 * Twins of malloc and operator new that take the site of the call into account.
 *
 * With lifetime:off nobody ever gets here.  With lifetime:auto a jump is written over the
 * first instruction of each original once, at the start, while there is one thread: the
 * kernel's static calls, patched before anybody calls.  The twins find the heap of the
 * caller's place by its return address with three loads, and fetch the next object, which others
 * are asked for before; the address of sites_place[] and the offset of heap_now[] from the thread
 * pointer, which only the loaded process knows, are written into them at the same time, as the
 * kernel does with its runtime constants.  So a malloc costs 3 instructions more than without,
 * the jump included.
 */
#ifndef PB_PRELOAD_SITED_H
#define PB_PRELOAD_SITED_H

#include "shim/fast.h"

#if defined(__x86_64__)
#define SITED_SUPPORTED 1
#else
#define SITED_SUPPORTED 0
#endif

#if SITED_SUPPORTED
/* The last four bytes of the instruction before, a displacement, are one of a list's. */
#define SITED_PATCHED(list)                                                                    \
	"1:\n\t"                                                                               \
	".pushsection " list ", \"a\"\n\t"                                                     \
	".long 1b - 4 - .\n\t"                                                                 \
	".popsection"

static ALWAYS_INLINE struct heap *sited_heap(uintptr_t site)
{
	struct heap *h;
	uint32_t place;

	__asm__("movzbl 0x7fffffff(%1), %0\n" SITED_PATCHED("sited_tables")
		: "=r"(place)
		: "r"(sites_key(site)));
	__asm__("movq %%fs:0x7fffffff(,%q1,8), %0\n" SITED_PATCHED("sited_offsets")
		: "=r"(h)
		: "r"(place));
	return h;
}
#else
static ALWAYS_INLINE struct heap *sited_heap(uintptr_t site)
{
	return heap_now[sites_place_of(site)];
}
#endif

#define SITED_HEAP() sited_heap((uintptr_t)__builtin_return_address(0))

typedef void *sited_slower_function(size_t size, uintptr_t site, const uintptr_t *stack);

static ALWAYS_INLINE void *sited_nothing(size_t size)
{
	(void)size;
	return NULL;
}

/*
 * When they have nothing at hand; and for a site that is a wrapper, which has no heap: the
 * place is its caller's.
 */
static ALWAYS_INLINE void *sited_malloc(size_t size, struct sites_caller caller)
{
	unsigned place = sites_look_through(&caller);
	void *p = fast_malloc_from(heap_now[place], size, true, sited_nothing);

	return likely(p != NULL) ? p : sites_malloc(size, &caller);
}

/*
 * What a twin leaves by a jump.  Nearly always the site is a wrapper, or one within another, and
 * what it is asked for is at hand in the place of who calls that.
 */
static ALWAYS_INLINE void *sited_slow_or(size_t size, sited_slower_function *slower)
{
	struct sites_caller caller = SITES_CALLER();
	const struct sites_wrapper *w = NULL;
	uintptr_t site;
	unsigned place;
	void *p;

	STATIC_ASSERT(WRAPPER_DEPTH == 2, "both are looked through here");
	/* The place is in the cache, the list of wrappers may not be. */
	if (likely(sites_place_of(caller.site) == PLACE_WRAPPED))
		w = sites_wrapper_at(caller.site);
	if (unlikely(w == NULL))
		return slower(size, caller.site, caller.stack);
	site = sites_behind(w, caller.stack);
	place = sites_place_of(site);
	if (place == PLACE_WRAPPED && likely((w = sites_wrapper_at(site)) != NULL))
		place = sites_place_of(sites_behind(w, caller.stack));
	p = fast_malloc_from(heap_now[place], size, true, sited_nothing);
	return likely(p != NULL) ? p : slower(size, caller.site, caller.stack);
}

/*
 * The twin's whole body: the fast path, left by a jump, so that the slow one still finds the
 * program's return address on the stack.  Debug builds make calls of jumps: there the slow
 * path is all there is, told by the twin who called.
 */
#if PB_DEBUG >= 1
#define SITED_MALLOC(size, slow) slow##_from(size, SITES_CALLER())
#else
#define SITED_MALLOC(size, slow) fast_malloc_from(SITED_HEAP(), size, true, slow)
#endif

/* An original and its twin; the original by a name that nobody can replace. */
typedef void sited_function(void);
struct sited_twin {
	sited_function *original;
	sited_function *twin;
};
extern const struct sited_twin sited_malloc_twins[], sited_new_twins[];

/* malloc's slow path for a twin that jumps here, and for one that says who called. */
void *sited_slow(size_t size);
#define sited_slow_from sited_malloc

/* Puts the twins in place; false: it cannot be done here, and nothing has changed. */
bool sited_start(void);

#endif
