/* Compaction; see compact.h. */
#include "shim/compact.h"

#include "shim/handle.h"
#include "shim/heap.h"
#include "shim/shim.h"
#include "shim/slab.h"
#include "shim/vacate.h"

#include <errno.h>

#define BATCH 32u
/* While others allocate and free there may be more to gain for ever. */
#define PASSES_MAX 16u
/* A slab of malloc's is nearly empty with at most this part of its objects live. */
#define NEARLY_EMPTY 16u

static struct lock lock;

void compact_lock(void)
{
	lock_acquire(&lock, LOCK_MIGRATE);
}

void compact_unlock(void)
{
	lock_release(&lock, LOCK_MIGRATE);
}

void compact_fork_child(void)
{
	lock_reset(&lock);
}

/* --- moving out of a range ------------------------------------------------------------------ */

/* Objects that nobody else can have until they are migrated or put back. */
struct batch {
	unsigned nr;
	struct handle_object *objects[BATCH];
};

/* Where the scan of a block has come to. */
struct place {
	pfn_t block;
	unsigned granule;
	unsigned object; /* in the slab that begins there */
	unsigned page;
};

static void isolate_one(struct batch *batch, struct handle_object *o)
{
	if (handle_isolate(o, true))
		batch->objects[batch->nr++] = o;
}

/* From here on in the slabs of a block. */
static void isolate_in_slabs(struct heap *h, struct place *at, struct batch *batch)
{
	struct block_client *client = block_client(pfn_to_addr(at->block));

	for (; at->granule < PAGEBLOCK_GRANULES; at->granule++, at->object = 0) {
		struct slab *s = &client->slabs[at->granule];

		if (slab_heap(s) != h)
			continue;
		for (; at->object < s->nr_objects; at->object++) {
			char *p = s->start + (size_t)at->object * class_info[s->cls].bytes;

			if (batch->nr == BATCH)
				return;
			if (!slab_is_free(s, p))
				isolate_one(batch, (struct handle_object *)(void *)p);
		}
	}
}

/* The live run that holds a page and begins before it, if it is a handle's; else NULL. */
static void *run_before(pfn_t pfn)
{
	for (pfn_t at = pfn; pfn - at < CONTIG_MAX_PAGES && zone_owns(pfn_to_addr(at - 1));) {
		uint64_t word = *run_word(pfn_to_addr(--at));

		if ((word & (RUN_LIVE | RUN_CONTIG | RUN_HANDLE)) == 0)
			continue;
		return (word & RUN_HANDLE) != 0 && RUN_PAGES(word) > pfn - at ? pfn_to_addr(at)
									      : NULL;
	}
	return NULL;
}

/* The same in the page runs that begin in the block, and in one that reaches into it. */
static void isolate_in_runs(struct place *at, struct batch *batch)
{
	struct block_client *client = block_client(pfn_to_addr(at->block));
	void *run = at->page == 0 ? run_before(at->block) : NULL;

	if (run != NULL)
		isolate_one(batch, run);
	for (; at->page < PAGEBLOCK_PAGES && batch->nr < BATCH; at->page++) {
		if ((client->run[at->page] & RUN_HANDLE) != 0)
			isolate_one(batch, pfn_to_addr(at->block + at->page));
	}
}

/* Moves a batch; those for which there is no room are put back.  How many went. */
static unsigned migrate(const struct batch *batch)
{
	unsigned done = 0;

	for (unsigned i = 0; i < batch->nr; i++) {
		if (handle_migrate(batch->objects[i]))
			done++;
		else
			handle_putback(batch->objects[i]);
	}
	return done;
}

static size_t vacate_block(struct heap *h, pfn_t pfn)
{
	struct place at = {.block = pfn};
	struct batch batch;
	size_t done = 0;

	do {
		batch.nr = 0;
		/* Under the lock every object that is not free has its header. */
		lock_acquire(&h->lock, LOCK_HEAP);
		isolate_in_slabs(h, &at, &batch);
		if (batch.nr < BATCH)
			isolate_in_runs(&at, &batch);
		lock_release(&h->lock, LOCK_HEAP);
		done += migrate(&batch);
	} while (batch.nr > 0);
	return done;
}

size_t compact_vacate(pfn_t pfn, size_t nr_pages)
{
	struct heap *h = handle_heap();
	size_t done = 0;

	if (h == NULL)
		return 0;
	compact_lock();
	for (pfn_t at = round_down(pfn, PAGEBLOCK_PAGES); at < pfn + nr_pages;
	     at += PAGEBLOCK_PAGES)
		done += vacate_block(h, at);
	compact_unlock();
	return done;
}

void compact_unpinned(uint64_t handle)
{
	struct handle_object *o;

	compact_lock();
	o = handle_isolate_named(handle);
	/* It is not wanted any more, or there is no room for it elsewhere. */
	if (o != NULL && (!vacate_is_wanted(o, sizeof(*o) + o->nr_bytes) || !handle_migrate(o)))
		handle_putback(o);
	compact_unlock();
}

/* --- the two scanners ------------------------------------------------------------------------ */

struct scan {
	pfn_t migrate; /* blocks from here on upwards have been looked at */
	pfn_t free;    /* blocks below this one have been counted in room */
	uint32_t room[NR_CLASSES];
};

/* What a block holds. */
struct content {
	uint32_t objects[NR_CLASSES]; /* of handles, live */
	uint32_t room[NR_CLASSES];
	unsigned nr_pages; /* of slabs with handles, of empty and of nearly empty slabs */
	bool fixed;        /* there is something that cannot move */
};

static void look_at_slab(struct heap *h, struct slab *s, void *arg)
{
	struct content *content = arg;
	unsigned nr_live = s->nr_objects - s->nr_free;

	(void)h;
	if ((slab_flags(s) & SLAB_HANDLES) != 0) {
		content->objects[s->cls] += nr_live;
		content->room[s->cls] += s->nr_free;
	} else if (nr_live * NEARLY_EMPTY > s->nr_objects) {
		content->fixed = true;
	}
	content->nr_pages += 1u << class_info[s->cls].order;
}

static void look_at_block(pfn_t pfn, struct content *content)
{
	const struct block_client *client = block_client(pfn_to_addr(pfn));

	*content = (struct content){.fixed = false};
	(void)vacate_each_slab(pfn, look_at_slab, content);
	for (unsigned i = 0; i < PAGEBLOCK_PAGES && !content->fixed; i++)
		content->fixed = (client->run[i] & (RUN_LIVE | RUN_CONTIG | RUN_HANDLE)) != 0;
}

/* Runs the free scanner until there is room for all, or it meets the other. */
static bool find_room(struct scan *scan, const struct content *wanted)
{
	struct content content;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		while (scan->room[cls] < wanted->objects[cls]) {
			scan->free = contig_block_above(scan->free);
			if (scan->free == 0 || scan->free >= scan->migrate)
				return false;
			look_at_block(scan->free, &content);
			for (unsigned i = 0; i < NR_CLASSES; i++)
				scan->room[i] += content.room[i];
		}
	}
	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		scan->room[cls] -= wanted->objects[cls];
	return true;
}

/* The next block that could be made free and taken; 0: the scanners have met. */
static pfn_t capture_next(struct scan *scan)
{
	struct content content;

	while ((scan->migrate = contig_block_below(scan->migrate)) != 0 &&
	       scan->migrate > scan->free) {
		if (contig_block_is_free(scan->migrate))
			continue;
		look_at_block(scan->migrate, &content);
		if (content.fixed || content.nr_pages == 0)
			continue;
		if (!find_room(scan, &content))
			return 0;
		if (contig_alloc_range(scan->migrate, PAGEBLOCK_PAGES, 0, 0) == 0)
			return scan->migrate;
	}
	return 0;
}

pfn_t compact_capture(void)
{
	struct scan scan = {.migrate = UINT64_MAX};

	return handle_heap() == NULL ? 0 : capture_next(&scan);
}

/* One run of the scanners; the bytes of pageblocks that it made free. */
static size_t pass(uint64_t deadline_ns)
{
	struct scan scan = {.migrate = UINT64_MAX};
	size_t nr_bytes = 0;
	pfn_t pfn;

	while ((deadline_ns == 0 || os_now_ns() < deadline_ns) &&
	       (pfn = capture_next(&scan)) != 0) {
		int err = contig_free(pfn, PAGEBLOCK_PAGES);

		CHECK(err == 0);
		nr_bytes += PAGEBLOCK_BYTES;
	}
	return nr_bytes;
}

size_t shim_compact(uint64_t deadline_ns)
{
	size_t nr_bytes = 0, gained;

	shim_init();
	if (handle_heap() == NULL)
		return 0;
	/* Again as long as it helps: what was moved is packed more densely than was counted on. */
	for (unsigned i = 0; i < PASSES_MAX && (gained = pass(deadline_ns)) > 0; i++)
		nr_bytes += gained;
	return nr_bytes;
}
