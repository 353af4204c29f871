/*
 * The units of the allocator and the limits that are fixed at build time.
 * Each is stated here once; layouts that depend on them assert it.
 */
#ifndef PB_CORE_CONFIG_H
#define PB_CORE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12u
#define PAGE_BYTES ((size_t)1 << PAGE_SHIFT)

/* A granule is the smallest slab and the unit of the owner table. */
#define GRANULE_SHIFT 16u
#define GRANULE_BYTES ((size_t)1 << GRANULE_SHIFT)
#define GRANULE_ORDER (GRANULE_SHIFT - PAGE_SHIFT)
#define GRANULE_PAGES ((size_t)1 << GRANULE_ORDER)

/* The kernel's pageblock on x86-64: one huge page. */
#define PAGEBLOCK_ORDER 9u
#define PAGEBLOCK_SHIFT (PAGE_SHIFT + PAGEBLOCK_ORDER)
#define PAGEBLOCK_BYTES ((size_t)1 << PAGEBLOCK_SHIFT)
#define PAGEBLOCK_PAGES ((size_t)1 << PAGEBLOCK_ORDER)
#define PAGEBLOCK_GRANULES (PAGEBLOCK_PAGES / GRANULE_PAGES)

/* Core's own data for each pageblock; see core/pageblock.h. */
#define BLOCK_META_BYTES ((size_t)256)

/* User addresses of every 64-bit Linux without an explicit hint. */
#define ADDRESS_BITS 47u

/* More than one span is needed only where address space is rationed. */
#define SPANS_MAX 64u

#define CACHE_LINE 64u

#endif
