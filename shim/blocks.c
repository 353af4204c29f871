/*
 * Whole pageblocks for the program: contiguous allocations, blocks taken out of use, and
 * the hint for programs that defragment themselves.  See shim.h.
 *
 * A contiguous allocation keeps its length in the word of its first page, as page runs do,
 * but with RUN_CONTIG, so that free() and realloc() do not take it for one of theirs.
 */
#include "shim/heap.h"
#include "shim/shim.h"
#include "shim/slab.h"
#include "shim/slabs.h"
#include "shim/vacate.h"

#include <errno.h>

STATIC_ASSERT(SHIM_CONTIG_HARD == CONTIG_HARD && SHIM_CONTIG_CMA == CONTIG_CMA, "one set of flags");
#define FLAGS_CORE (CONTIG_HARD | CONTIG_CMA)
#define FLAGS_ALL (FLAGS_CORE | SHIM_CONTIG_PREFAULT | SHIM_CONTIG_COLLAPSE)

uint64_t shim_deadline_ns(uint64_t ms)
{
	uint64_t now_ns = os_now_ns();

	return ms > (UINT64_MAX - now_ns) / 1000000 ? UINT64_MAX : now_ns + ms * 1000000;
}

/* --- contiguous allocations --------------------------------------------------------------- */

static _Atomic uint64_t *contig_word(void *p)
{
	return (_Atomic uint64_t *)(void *)run_word(p);
}

/* Best effort: what came of it is asked of the system, by shim_contig_look(). */
static void make_resident(void *p, size_t nr_bytes, unsigned flags)
{
	if ((flags & SHIM_CONTIG_COLLAPSE) != 0)
		(void)!os_collapse(p, round_down(nr_bytes, PAGEBLOCK_BYTES));
	if ((flags & SHIM_CONTIG_PREFAULT) != 0)
		(void)!os_populate(p, nr_bytes);
}

void *shim_contig_alloc(size_t nr_bytes, unsigned flags, uint64_t deadline_ns, int *err)
{
	size_t nr_pages = round_up(nr_bytes, PAGE_BYTES) / PAGE_BYTES;
	pfn_t pfn;
	void *p;

	*err = -EINVAL;
	if (nr_bytes == 0 || nr_bytes > CONTIG_MAX_PAGES * PAGE_BYTES || (flags & ~FLAGS_ALL) != 0)
		return NULL;
	shim_init();
	pfn = contig_alloc(nr_pages, flags & FLAGS_CORE, deadline_ns, err);
	if (pfn == 0)
		return NULL;
	p = pfn_to_addr(pfn);
	/* Relaxed: the caller hands p on by synchronisation of its own. */
	atomic_store_explicit(contig_word(p), RUN_CONTIG | nr_pages, memory_order_relaxed);
	make_resident(p, nr_bytes, flags);
	return p;
}

/* The word of a live contiguous allocation, or 0. */
static uint64_t contig_word_at(void *p)
{
	uint64_t word = 0;

	if ((uintptr_t)p % PAGEBLOCK_BYTES == 0 && zone_owns(p) &&
	    slab_heap(&block_client(p)->slabs[0]) == NULL)
		word = atomic_load_explicit(contig_word(p), memory_order_relaxed);
	return (word & RUN_CONTIG) != 0 ? word : 0;
}

int shim_contig_free(void *p)
{
	uint64_t word = contig_word_at(p);

	/* Relaxed: only decides between two frees of the same allocation. */
	if (word == 0 || !atomic_compare_exchange_strong_explicit(
				 contig_word(p), &word, RUN_FREED | RUN_PAGES(word),
				 memory_order_relaxed, memory_order_relaxed))
		return -EINVAL;
	return contig_free(pfn_of(p), RUN_PAGES(word));
}

int shim_contig_look(void *p, size_t *nr_bytes, size_t *resident_bytes, size_t *huge_bytes)
{
	uint64_t word = contig_word_at(p);

	if (word == 0)
		return -EINVAL;
	*nr_bytes = RUN_PAGES(word) * PAGE_BYTES;
	return os_residency(p, *nr_bytes, resident_bytes, huge_bytes);
}

/* --- blocks out of use -------------------------------------------------------------------- */

size_t shim_offline(size_t nr_bytes, uint64_t deadline_ns, int *err)
{
	*err = -EINVAL;
	if (nr_bytes == 0 || nr_bytes % PAGEBLOCK_BYTES != 0)
		return 0;
	shim_init();
	/* What is merely cached shall not count as in use. */
	heap_drain_all();
	return offline_pages(nr_bytes / PAGE_BYTES, deadline_ns, err) * PAGE_BYTES;
}

size_t shim_online(size_t nr_bytes)
{
	shim_init();
	return online_pages(nr_bytes / PAGE_BYTES) * PAGE_BYTES;
}

/* --- the hint ------------------------------------------------------------------------------ */

/*
 * A slab is worth emptying when half of it is free and other slabs have room for the rest.
 * It is marked then, so that malloc gives the copies room in these others and what is freed
 * in it stays there; without that the copy of a block would lie where the last one was freed.
 * The mark ends when malloc has no other slab left, so that asking costs no memory.
 */
static bool start_emptying(struct slab *s, struct heap *owner, uint32_t nr_live)
{
	struct heap *here = heap_current != &heap_null ? heap_current : owner;
	bool starts;

	lock_acquire(&here->lock, LOCK_HEAP);
	starts = slabs_have_room(here, s->cls, s, nr_live);
	lock_release(&here->lock, LOCK_HEAP);
	if (!starts)
		return false;
	lock_acquire(&owner->lock, LOCK_HEAP);
	starts = slab_heap(s) == owner && s->nr_free * 2 >= s->nr_objects;
	if (starts)
		slabs_start_emptying(owner, s);
	lock_release(&owner->lock, LOCK_HEAP);
	return starts;
}

/* Without the lock: a number that is a little old only sends us to look again. */
RACY static uint32_t nr_live_in(const struct slab *s)
{
	return (uint32_t)s->nr_objects - s->nr_free;
}

bool shim_defrag_hint(const void *p)
{
	struct block_client *client = zone_find_client(p);
	struct slab *s;
	struct heap *h;
	uint32_t nr_live;

	if (client == NULL)
		return false;
	s = slab_in(client, p);
	h = slab_heap(s);
	/* Page runs stand in blocks for page runs; they help when theirs is wanted. */
	if (h == NULL)
		return isolate_is_marked(p);
	if ((slab_flags(s) & (SLAB_SETTLES | SLAB_HANDLES)) != 0)
		return (slab_flags(s) & SLAB_HANDLES) == 0;
	nr_live = nr_live_in(s);
	return nr_live * 2 <= s->nr_objects && start_emptying(s, h, nr_live);
}
