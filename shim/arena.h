/*
 * The arena of heaps and the owner table, at a fixed distance from each other.
 *
 *   |<-- arena, ARENA_BYTES -->|<--------- table, 4 bytes a granule --------->|
 *   ^ arena_base(): the null bin   ^ arena_table
 *     and then heaps
 *
 * arena_entry(p) is the offset from arena_base() of the bin that owns the slab at p,
 * or 0.  Written under the lock of the slab's heap (relaxed; see doc/design.md).
 *
 * Normally the whole table is readable.  Where address space is rationed (RLIMIT_AS)
 * only the arena's used part, the entry of NULL and the entries of spans are mapped,
 * and free() of a pointer that is in none of them faults.
 */
#ifndef PB_SHIM_ARENA_H
#define PB_SHIM_ARENA_H

#include "core/config.h"
#include "core/util.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_BYTES ((size_t)256 << 20)
#define TABLE_BYTES (((size_t)1 << (ADDRESS_BITS - GRANULE_SHIFT)) * sizeof(uint32_t))

/* Where the table begins.  Written once, before the first allocation and after all that it
 * leads to is mapped. */
extern char *_Atomic arena_table __attribute__((visibility("hidden")));

static ALWAYS_INLINE char *arena_table_now(void)
{
	/* Acquire pairs with the release in arena_init(): what it leads to is mapped. */
	return atomic_load_explicit(&arena_table, memory_order_acquire);
}

static inline char *arena_base(void)
{
	return arena_table_now() - ARENA_BYTES;
}

static inline _Atomic uint32_t *arena_entry_in(char *table, const void *p)
{
	return (_Atomic uint32_t *)(void *)table + ((uintptr_t)p >> GRANULE_SHIFT);
}

static inline _Atomic uint32_t *arena_entry(const void *p)
{
	return arena_entry_in(arena_table_now(), p);
}

/* The key of free objects: an address that no program has a copy of. */
static inline uintptr_t arena_key(void)
{
	return (uintptr_t)arena_table_now();
}

/* 0 or -ENOMEM. Once, before the zone makes its first span. */
int arena_init(void);
/* Makes the table writable for a new span; 0 or -errno. */
int arena_span_added(void *start, size_t nr_bytes);
/* A new place for a heap, all zero, or NULL. Under the heaps lock. */
void *arena_new_heap(void);

#endif
