/*
 * The two sacred paths, inline so that the exported malloc and free are nothing
 * else.  doc/design.md counts their instructions; `make bench-instructions` does
 * too.  Every test here leads to the slow path, none decides anything else.
 */
#ifndef PB_SHIM_FAST_H
#define PB_SHIM_FAST_H

#include "shim/arena.h"
#include "shim/heap.h"
#include "shim/sites.h"
#include "shim/slow.h"

/*
 * Makes the compiler forget what it knows of a register's value, at no cost, so that
 * each use of an index becomes part of an addressing mode and no address is computed
 * apart.  The registers are chosen so that malloc's result and free's argument stay
 * where the calling convention wants them.
 */
#if defined(__clang__)
#define FORGET_A(value) (void)(value) /* folds by itself */
#define FORGET_C(value) (void)(value)
#define FORGET_D(value) (void)(value)
/* It makes a base for the bin and one for the gate, unless there is one for both. */
#define ONE_BASE(at, table, i)                                                                 \
	char *at = (table) + (i);                                                              \
	__asm__("" : "+r"(at))
#define AT(at, table, i) (at)
#elif defined(__x86_64__)
#define FORGET_A(value) __asm__("" : "+a"(value))
#define FORGET_C(value) __asm__("" : "+c"(value))
#define FORGET_D(value) __asm__("" : "+d"(value))
#else
#define FORGET_A(value) __asm__("" : "+r"(value))
#define FORGET_C(value) __asm__("" : "+r"(value))
#define FORGET_D(value) __asm__("" : "+r"(value))
#endif
#if !defined(__clang__)
#define ONE_BASE(at, table, i) (void)0
#define AT(at, table, i) ((table) + (i))
#endif

/*
 * A relaxed load that may become a memory operand: compilers do not fold atomic
 * loads.  Word-sized and aligned or a byte, so it cannot tear; a value read twice is
 * harmless in the places it is used.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FAST_PATH_CHECKED_FOR_RACES 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define FAST_PATH_CHECKED_FOR_RACES 1
#endif
#if defined(FAST_PATH_CHECKED_FOR_RACES)
#define FAST_LOAD(object) atomic_load_explicit(&(object), memory_order_relaxed)
#else
#define FAST_LOAD(object) (*(const __typeof__((void)0, (object)) *)(uintptr_t) & (object))
#endif

/*
 * if (product > limit || --room == 0) goto label.  The subtraction of one leaves the
 * carry of the comparison alone, so that one branch asks for both.
 */
#if defined(__x86_64__)
#define IF_ABOVE_OR_USED_UP_GOTO(product, limit, room, label)                                  \
	__asm__ goto("cmpl %0, %1\n\tdecl %2\n\tjbe %l3"                                       \
		     :                                                                         \
		     : "r"(product), "m"(limit), "m"(room)                                     \
		     : "cc", "memory"                                                          \
		     : label)
#else
#define IF_ABOVE_OR_USED_UP_GOTO(product, limit, room, label)                                  \
	if (unlikely((product) > (limit) || --(room) == 0))                                    \
	goto label
#endif

/* From a heap of the thread's; slow: what is left by a jump when it has nothing at hand.  fetch:
 * the next object is brought into the cache. */
static ALWAYS_INLINE void *fast_malloc_from(struct heap *h, size_t size, bool fetch,
					    void *(*slow)(size_t))
{
	if (unlikely(size > SMALL_MAX))
		return slow(size);

	FORGET_C(h);
	/* Relaxed: this thread or somebody who diverts it; the way there is the slow one. */
	size_t i = FAST_LOAD(h->bin_of_size[size]);
#define BIN                                                                                    \
	((struct bin *)(void *)((char *)h + offsetof(struct heap, bins) + i * BIN_STEP))
	struct object *o = BIN->head;

	if (unlikely(o == NULL))
		return slow(size);
	FORGET_D(i);
	struct object *next = o->next;

	if (fetch)
		__builtin_prefetch(next);
	BIN->head = next;
	/* Off the chain before it loses its key: a fork may copy both in between. */
	atomic_signal_fence(memory_order_release);
	o->key = 0;
	FORGET_D(i);
	BIN->room++;
#undef BIN
	return o;
}

static ALWAYS_INLINE void *fast_malloc_or(size_t size, void *(*slow)(size_t))
{
	return fast_malloc_from(heap_current, size, false, slow);
}

static ALWAYS_INLINE void *fast_malloc(size_t size)
{
	return fast_malloc_or(size, slow_malloc);
}

/* Whether fast_malloc(class_aligned_size()) is aligned to align, a power of two. */
static ALWAYS_INLINE bool fast_aligns(size_t align, size_t size)
{
	STATIC_ASSERT(MEDIUM_MAX % PAGE_BYTES == 0, "what is rounded up to a page has a class");
	return align <= PAGE_BYTES && size <= MEDIUM_MAX;
}

static ALWAYS_INLINE void fast_free(void *p)
{
	char *table = arena_table_now();
	struct object *o = p;
	/* Relaxed: whoever frees p got it by synchronisation after the entry was written. */
	size_t i = atomic_load_explicit(arena_entry_in(table, p), memory_order_relaxed);
	ONE_BASE(at, table, i);
#define BIN ((struct bin *)(void *)(AT(at, table, i) - ARENA_BYTES))
#define GATE ((struct gate *)(void *)(AT(at, table, i) - ARENA_BYTES + BIN_TO_GATE))
	/* Relaxed: only this thread itself writes its own thread pointer there. */
	if (unlikely(FAST_LOAD(GATE->owner) != thread_pointer()) ||
	    unlikely(o->key == (uintptr_t)table))
		goto slow;
	FORGET_A(i);
	uint32_t product = GATE->magic * (uint16_t)(uintptr_t)p;
	FORGET_A(i);
	IF_ABOVE_OR_USED_UP_GOTO(product, GATE->limit, BIN->room, slow);
	FORGET_A(i);
	o->next = BIN->head;
	o->key = (uintptr_t)table;
	FORGET_A(i);
	/* Linked before it is the head: a fork may copy the chain in between. */
	atomic_signal_fence(memory_order_release);
	BIN->head = o;
#undef GATE
#undef BIN
	return;
slow:
	slow_free(p);
}

#endif
