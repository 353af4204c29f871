/* Large objects; see large.h. */
#include "shim/large.h"

#include "shim/compact.h"
#include "shim/diag.h"
#include "shim/sample.h"
#include "shim/slab.h"
#include "shim/vacate.h"

#include <string.h>

/* From here on moving pages is cheaper than copying them. */
#define MOVE_PAGES_MIN ((size_t)256)
/* A moved run keeps a mapping of its own for good; the kernel allows 65,530 of them. */
#define MOVES_MAX 500u

static _Atomic unsigned nr_moves;

/*
 * Runs freed not long ago, for diagnosis: their words in the client area go with their block.
 * A hash table in which the newer one wins; relaxed: what a race makes wrong is a message.
 *
 *   pfn            pages
 *   63          28 27  0
 */
#define FREED_BITS 10u
#define FREED_SHIFT 28u
static _Atomic uint64_t freed[1u << FREED_BITS];

static _Atomic uint64_t *freed_slot(pfn_t pfn)
{
	return &freed[(pfn ^ pfn >> FREED_BITS) & ((1u << FREED_BITS) - 1)];
}

static void note_freed(pfn_t pfn, size_t nr_pages)
{
	if (nr_pages < (size_t)1 << FREED_SHIFT)
		atomic_store_explicit(freed_slot(pfn), pfn << FREED_SHIFT | nr_pages,
				      memory_order_relaxed);
}

/* How many pages, 0: it is not known. */
static size_t freed_pages(const void *p)
{
	uint64_t word = atomic_load_explicit(freed_slot(pfn_of(p)), memory_order_relaxed);

	return word >> FREED_SHIFT == pfn_of(p) ? word & (((uint64_t)1 << FREED_SHIFT) - 1) : 0;
}

static size_t pages_for(size_t size)
{
	return (size + PAGE_BYTES - 1) >> PAGE_SHIFT;
}

static void *run_begin(pfn_t pfn, size_t nr_pages)
{
	void *p = pfn_to_addr(pfn);

	*run_word(p) = RUN_LIVE | nr_pages;
	return p;
}

/* The thread's page cache, if it takes runs of this length; else NULL. */
static struct pcp *pcp_for(size_t nr_pages)
{
	if (!is_power_of_two(nr_pages) || nr_pages >= (size_t)1 << PCP_ORDERS ||
	    heap_current == &heap_null)
		return NULL;
	return &heap_current->pcp;
}

void *large_alloc(size_t size, unsigned align_order, bool *zeroed)
{
	if (size > PTRDIFF_MAX)
		return NULL;
	heap_answer_if_asked();

	size_t nr_pages = pages_for(size);
	struct pcp *pcp = pcp_for(nr_pages);
	pfn_t pfn;

	if (pcp != NULL && align_order <= log2_floor(nr_pages))
		pfn = pcp_alloc(pcp, log2_floor(nr_pages), MIGRATE_MOVABLE, zeroed);
	else
		pfn = zone_alloc(nr_pages, align_order, MIGRATE_MOVABLE, zeroed);
	return pfn == 0 ? NULL : run_begin(pfn, nr_pages);
}

COLD void *large_alloc_compacting(size_t size)
{
	size_t nr_pages = pages_for(size);
	pfn_t pfn = size <= PAGEBLOCK_BYTES ? compact_capture() : 0;

	if (pfn == 0)
		return NULL;
	contig_keep(pfn, PAGEBLOCK_PAGES);
	if (nr_pages < PAGEBLOCK_PAGES)
		zone_free(pfn + nr_pages, PAGEBLOCK_PAGES - nr_pages);
	return run_begin(pfn, nr_pages);
}

/* What p is instead of a live run's start. */
static COLD _Noreturn void not_a_run(const void *p, const char *call)
{
	uint64_t word;
	const char *page = (const char *)((uintptr_t)p & ~(PAGE_BYTES - 1));
	struct slab *s = slab_of(p);

	/* A page run may be long: look back for its start, but not for ever. */
	for (size_t back = 0; back < ((size_t)1 << 18) && zone_owns(page); back++) {
		word = *run_word(page);
		if ((word & RUN_LIVE) != 0 && RUN_PAGES(word) > back)
			diag_fatal(DIAG_INTERIOR, call, p, RUN_PAGES(word) * PAGE_BYTES, page);
		page -= PAGE_BYTES;
	}
	word = *run_word(p);
	if ((uintptr_t)p % PAGE_BYTES == 0 && (word & RUN_FREED) != 0)
		diag_fatal(DIAG_DOUBLE_FREE, call, p, RUN_PAGES(word) * PAGE_BYTES, p);
	/* The header of a slab that is gone still says what was there. */
	if (s->start != NULL && slab_heap(s) == NULL && (const char *)p >= s->start)
		slab_check_was(s, p);
	if ((uintptr_t)p % PAGE_BYTES == 0 && word == 0 && freed_pages(p) > 0)
		diag_fatal(DIAG_DOUBLE_FREE, call, p, freed_pages(p) * PAGE_BYTES, p);
	diag_fatal(DIAG_FOREIGN, call, p, 0, NULL);
}

size_t large_bytes(const void *p, const char *call)
{
	uint64_t word = (uintptr_t)p % PAGE_BYTES == 0 ? *run_word(p) : 0;

	if (unlikely((word & RUN_LIVE) == 0))
		not_a_run(p, call);
	return RUN_PAGES(word) * PAGE_BYTES;
}

void large_free(void *p)
{
	uint64_t *run = run_word(p);
	uint64_t word = (uintptr_t)p % PAGE_BYTES == 0 ? *run : 0;
	size_t nr_pages = RUN_PAGES(word);

	if (unlikely((word & RUN_LIVE) == 0))
		not_a_run(p, "free");
	word = RUN_LIVE | nr_pages;
	heap_answer_if_asked();
	if (unlikely(sample_any()))
		sample_forget_run(p);
	/* Relaxed: only decides between two frees of the same block. */
	if (unlikely(!atomic_compare_exchange_strong_explicit(
		    (_Atomic uint64_t *)(void *)run, &word, RUN_FREED | nr_pages,
		    memory_order_relaxed, memory_order_relaxed)))
		not_a_run(p, "free");
	note_freed(pfn_of(p), nr_pages);

	struct pcp *pcp = pcp_for(nr_pages);

	/* Where realloc left it, it need not be naturally aligned. */
	if (pcp != NULL && pfn_of(p) % nr_pages == 0)
		pcp_free(pcp, pfn_of(p), log2_floor(nr_pages));
	else
		zone_free(pfn_of(p), nr_pages);
}

/* Whether the contents were moved by the page tables; else they must be copied. */
static bool move_pages(void *to, void *from, size_t nr_pages)
{
	if (nr_pages < MOVE_PAGES_MIN ||
	    /* Relaxed: a bound, not a count. */
	    atomic_fetch_add_explicit(&nr_moves, 1, memory_order_relaxed) >= MOVES_MAX)
		return false;
	if (os_move(to, from, nr_pages * PAGE_BYTES) != 0)
		return false;
	zone_mark_clean(pfn_of(from), nr_pages);
	return true;
}

/*
 * A run that had to move once will grow again: it is given room behind it, of its own size
 * when it is large and else up to a power of two, which is free again at once and, at the
 * end of a free stretch, is among the last that others take.
 */
static void *alloc_with_room(size_t size)
{
	size_t nr_pages = pages_for(size);
	size_t with_room = nr_pages >= MOVE_PAGES_MIN ? nr_pages * 2
						      : (size_t)1 << log2_ceil(nr_pages);
	bool zeroed;
	pfn_t pfn = 0;

	if (with_room > nr_pages)
		pfn = zone_alloc(with_room, 0, MIGRATE_MOVABLE, &zeroed);
	if (pfn == 0)
		return large_alloc(size, 0, NULL);
	if (zeroed)
		zone_mark_clean(pfn + nr_pages, with_room - nr_pages);
	zone_free(pfn + nr_pages, with_room - nr_pages);
	return run_begin(pfn, nr_pages);
}

/* The run leaves where it is, which is to be vacated; NULL: there is no room elsewhere. */
static COLD void *move_out(void *p, size_t nr_pages, size_t size)
{
	size_t new_nr_pages = pages_for(size);
	void *to = large_alloc(size, 0, NULL);

	if (to == NULL)
		return NULL;
	memcpy(to, p, (new_nr_pages < nr_pages ? new_nr_pages : nr_pages) * PAGE_BYTES);
	large_free(p);
	return to;
}

void *large_realloc(void *p, size_t size)
{
	size_t nr_pages = large_bytes(p, "realloc") >> PAGE_SHIFT;
	size_t new_nr_pages = pages_for(size);

	if (size > PTRDIFF_MAX)
		return NULL;
	if (unlikely(vacate_is_wanted(p, nr_pages * PAGE_BYTES))) {
		void *to = move_out(p, nr_pages, size);

		if (to != NULL)
			return to;
	}
	if (new_nr_pages == nr_pages)
		return p;
	if (new_nr_pages < nr_pages) {
		*run_word(p) = RUN_LIVE | new_nr_pages;
		zone_free(pfn_of(p) + new_nr_pages, nr_pages - new_nr_pages);
		return p;
	}
	if (zone_extend(pfn_of(p), nr_pages, new_nr_pages, NULL)) {
		*run_word(p) = RUN_LIVE | new_nr_pages;
		return p;
	}

	void *to = alloc_with_room(size);

	if (to == NULL)
		return NULL;
	if (!move_pages(to, p, nr_pages)) {
		memcpy(to, p, nr_pages * PAGE_BYTES);
		large_free(p);
		return to;
	}
	*run_word(p) = RUN_FREED | nr_pages;
	note_freed(pfn_of(p), nr_pages);
	zone_free(pfn_of(p), nr_pages);
	return to;
}
