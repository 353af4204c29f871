/*
 * The two sacred paths, inline so that the exported malloc and free are nothing
 * else.  doc/design.md counts their instructions; `make bench-instructions` does
 * too.  Every test here leads to the slow path, none decides anything else.
 */
#ifndef PB_SHIM_FAST_H
#define PB_SHIM_FAST_H

#include "shim/arena.h"
#include "shim/heap.h"

/*
 * Makes the compiler forget what it knows of an index, at no cost, so that each use
 * of it becomes part of an addressing mode and no address is computed apart.
 */
#define FORGET(index) __asm__("" : "+r"(index))
#if defined(__x86_64__)
/* Likewise a pointer that must stay out of the register malloc returns its result in. */
#define NOT_RAX(pointer) __asm__("" : "+c"(pointer))
#else
#define NOT_RAX(pointer)
#endif

/*
 * A relaxed load that may become a memory operand: compilers do not fold atomic
 * loads.  Word-sized and aligned, so it cannot tear; a value read twice is harmless
 * in both places it is used.
 */
#if defined(__SANITIZE_THREAD__) || PB_DEBUG
#define FAST_LOAD(object) atomic_load_explicit(&(object), memory_order_relaxed)
#else
#define FAST_LOAD(object) (*(__typeof__((void)0, (object)) *)(void *)&(object))
#endif

/* --*room < 0 in the words that each compiler turns into one instruction and a branch. */
static ALWAYS_INLINE bool room_used_up(int32_t *room)
{
#if defined(__clang__)
	return __builtin_sub_overflow(*(uint32_t *)room, 1u, (uint32_t *)room);
#else
	return --*room < 0;
#endif
}

static ALWAYS_INLINE void *fast_malloc(size_t size)
{
	struct heap *h = heap_current;

	if (unlikely(size > SMALL_MAX))
		return heap_malloc(size);

	NOT_RAX(h);
	size_t i = h->bin_of_size[size];
#define BIN ((struct bin *)((char *)h + offsetof(struct heap, bins) + i * (sizeof(struct bin) / 4)))
	struct object *o = BIN->head;

	if (unlikely(o == NULL))
		return heap_malloc(size);
	FORGET(i);
	BIN->head = o->next;
	o->key = 0;
	FORGET(i);
	BIN->room++;
#undef BIN
	return o;
}

static ALWAYS_INLINE void fast_free(void *p)
{
	char *table = arena_table;
	struct object *o = p;
	/* Relaxed: whoever frees p got it by synchronisation after the entry was written. */
	size_t i = atomic_load_explicit(arena_entry(p), memory_order_relaxed);
#define BIN ((struct bin *)(void *)(table + i - ARENA_BYTES))
	/* Relaxed: only this thread itself writes its own thread pointer there. */
	if (unlikely(FAST_LOAD(BIN->owner) != thread_pointer()) ||
	    unlikely(o->key == (uintptr_t)table))
		goto slow;
	FORGET(i);
	uint32_t product = BIN->magic * (uint16_t)(uintptr_t)p;
	FORGET(i);
	if (unlikely(product >= BIN->limit))
		goto slow;
	FORGET(i);
	o->next = BIN->head;
	o->key = (uintptr_t)table;
	FORGET(i);
	BIN->head = o;
	FORGET(i);
	if (unlikely(room_used_up(&BIN->room)))
		heap_settle(i);
#undef BIN
	return;
slow:
	heap_free(p);
}

#endif
