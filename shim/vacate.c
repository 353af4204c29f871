/* Vacating cordoned blocks; see vacate.h. */
#include "shim/vacate.h"

#include "shim/compact.h"
#include "shim/heap.h"
#include "shim/slabs.h"

#include <errno.h>

/* The first page of the next pageblock. */
static pfn_t next_block(pfn_t pfn)
{
	return round_down(pfn, PAGEBLOCK_PAGES) + PAGEBLOCK_PAGES;
}

unsigned vacate_each_slab(pfn_t pfn, void (*fn)(struct heap *h, struct slab *s, void *arg),
			  void *arg)
{
	struct block_client *client = block_client(pfn_to_addr(pfn));
	unsigned nr = 0;

	for (size_t g = 0; g < PAGEBLOCK_GRANULES; g++) {
		struct slab *s = &client->slabs[g];
		struct heap *h;

		/* It may go, or to another heap, before its lock is taken. */
		while ((h = slab_heap(s)) != NULL) {
			bool same;

			lock_acquire(&h->lock, LOCK_HEAP);
			same = slab_heap(s) == h;
			if (same)
				fn(h, s, arg);
			lock_release(&h->lock, LOCK_HEAP);
			if (same)
				break;
		}
		nr += h != NULL;
	}
	return nr;
}

static void cordon(struct heap *h, struct slab *s, void *unused)
{
	(void)unused;
	slabs_cordon(h, s);
}

int vacate_range(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns)
{
	pfn_t end = pfn + nr_pages;
	unsigned nr_slabs = 0;

	(void)deadline_ns;
	/* Pairs with slabs_new(). */
	atomic_thread_fence(memory_order_seq_cst);
	for (pfn_t at = pfn; at < end; at = next_block(at))
		nr_slabs += vacate_each_slab(at, cordon, NULL);
	if (nr_slabs > 0)
		heap_leave_cordoned();
	(void)compact_vacate(pfn, nr_pages);
	return nr_slabs > 0 ? -EBUSY : 0;
}

/*
 * Others may have isolated the block again and found its slabs cordoned.  They did so under
 * the heap's lock and after their mark, which therefore is seen here.
 */
static void uncordon_if_open(struct heap *h, struct slab *s, void *unused)
{
	(void)unused;
	if (!isolate_is_marked(s->start))
		slabs_uncordon(h, s);
}

void vacate_end(pfn_t pfn, size_t nr_pages)
{
	for (pfn_t at = pfn; at < pfn + nr_pages; at = next_block(at))
		(void)vacate_each_slab(at, uncordon_if_open, NULL);
}

bool vacate_is_wanted(const void *p, size_t nr_bytes)
{
	const char *end = (const char *)p + nr_bytes;

	if (likely(!isolate_any()))
		return false;
	for (const char *at = p; at < end; at += PAGEBLOCK_BYTES) {
		if (isolate_is_marked(at))
			return true;
	}
	return isolate_is_marked(end - 1);
}
