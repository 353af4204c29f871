/*
 * See pages.h.  Everything about slabs stands outside of the pages they describe.
 */
#include "workloads/pages.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SLAB_ORDER GRANULE_ORDER
#define SLAB_BYTES GRANULE_BYTES
#define MIN_BYTES 16u
#define MAP_WORDS (SLAB_BYTES / MIN_BYTES / 64)

struct slab {
	struct slab *next, *prev; /* of the thread's that have room */
	struct pages_thread *thread;
	pfn_t pfn;
	uint32_t class_nr, group, object_bytes, nr_objects, nr_used;
	uint64_t used[MAP_WORDS];
};

/* Four classes for each power of two, from 16 bytes on. */
static uint32_t class_of(size_t size, uint32_t *object_bytes)
{
	unsigned log2, step;

	if (size <= 64) {
		uint32_t nr = (uint32_t)(size + MIN_BYTES - 1) / MIN_BYTES;

		nr = nr > 0 ? nr : 1;
		*object_bytes = nr * MIN_BYTES;
		return nr - 1;
	}
	log2 = log2_floor(size - 1);
	step = 1u << (log2 - 2);
	*object_bytes = (uint32_t)round_up(size, step);
	return 4 * (log2 - 6) + 4 + (uint32_t)((size - 1) >> (log2 - 2) & 3);
}

static void *zeroed(size_t nr_bytes)
{
	void *p = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

bool pages_init(struct pages *pages, unsigned nr_threads, size_t nr_objects)
{
	*pages = (struct pages){ 0 };
	pages->threads = zeroed((nr_threads > 0 ? nr_threads : 1) * sizeof(*pages->threads));
	pages->objects = zeroed((nr_objects + 1) * sizeof(*pages->objects));
	if (pages->threads == NULL || pages->objects == NULL)
		return false;
	for (unsigned i = 0; i < nr_threads; i++)
		pcp_init(&pages->threads[i].pcp);
	return true;
}

/* --- slabs -------------------------------------------------------------------------------- */

static void list_add(struct slab *slab)
{
	struct slab **head = &slab->thread->partial[slab->group][slab->class_nr];

	slab->prev = NULL;
	slab->next = *head;
	if (*head != NULL)
		(*head)->prev = slab;
	*head = slab;
}

static void list_remove(struct slab *slab)
{
	if (slab->prev != NULL)
		slab->prev->next = slab->next;
	else
		slab->thread->partial[slab->group][slab->class_nr] = slab->next;
	if (slab->next != NULL)
		slab->next->prev = slab->prev;
}

static struct slab *slab_new(struct pages *pages, struct pages_thread *thread,
			     uint32_t class_nr, uint32_t object_bytes)
{
	struct slab *slab = pages->unused;
	pfn_t pfn = pcp_alloc(&thread->pcp, SLAB_ORDER, MIGRATE_UNMOVABLE, NULL);

	pages->nr_requests++;
	if (pfn == 0)
		return NULL;
	if (slab != NULL) {
		pages->unused = slab->next;
	} else {
		slab = zeroed(64 * sizeof(*slab));
		if (slab == NULL)
			return NULL;
		for (unsigned i = 1; i < 64; i++) {
			slab[i].next = pages->unused;
			pages->unused = &slab[i];
		}
	}
	*slab = (struct slab){ .thread = thread,
			       .pfn = pfn,
			       .class_nr = class_nr,
			       .group = pages->group,
			       .object_bytes = object_bytes,
			       .nr_objects = (uint32_t)(SLAB_BYTES / object_bytes) };
	list_add(slab);
	return slab;
}

/* The fullest of the first few that have room. */
static struct slab *slab_with_room(const struct pages_thread *thread, unsigned group,
				   uint32_t class_nr)
{
	struct slab *best = thread->partial[group][class_nr];
	struct slab *slab = best;

	for (unsigned i = 0; slab != NULL && i < 4; i++, slab = slab->next)
		if (slab->nr_used > best->nr_used)
			best = slab;
	return best;
}

static void *slab_take(struct slab *slab)
{
	unsigned word = 0;
	uint32_t at;

	while (slab->used[word] == UINT64_MAX)
		word++;
	at = word * 64 + (unsigned)__builtin_ctzll(~slab->used[word]);
	slab->used[word] |= 1ull << at % 64;
	if (++slab->nr_used == slab->nr_objects)
		list_remove(slab);
	return (char *)pfn_to_addr(slab->pfn) + (size_t)at * slab->object_bytes;
}

static void slab_put(struct pages *pages, struct pages_thread *thread, struct slab *slab,
		     const char *addr)
{
	uint32_t at = (uint32_t)((size_t)(addr - (char *)pfn_to_addr(slab->pfn)) /
				 slab->object_bytes);

	CHECK((slab->used[at / 64] >> at % 64 & 1) != 0);
	slab->used[at / 64] &= ~(1ull << at % 64);
	if (slab->nr_used-- == slab->nr_objects)
		list_add(slab);
	if (slab->nr_used > 0)
		return;
	list_remove(slab);
	pages->nr_requests++;
	pcp_free(&thread->pcp, slab->pfn, SLAB_ORDER);
	work_tick();
	slab->next = pages->unused;
	pages->unused = slab;
}

/* --- objects ------------------------------------------------------------------------------ */

static bool is_cached(size_t nr_pages)
{
	return is_power_of_two(nr_pages) && log2_floor(nr_pages) < PCP_ORDERS;
}

static void *alloc_run(struct pages *pages, struct pages_thread *thread,
		       struct pages_object *object, size_t size, unsigned align_log2)
{
	size_t nr_pages = (size + PAGE_BYTES - 1) >> PAGE_SHIFT;
	unsigned align = align_log2 > PAGE_SHIFT ? align_log2 - PAGE_SHIFT : 0;
	pfn_t pfn;

	nr_pages = nr_pages > 0 ? nr_pages : 1;
	pages->nr_requests++;
	if (is_cached(nr_pages) && align <= log2_floor(nr_pages))
		pfn = pcp_alloc(&thread->pcp, log2_floor(nr_pages), MIGRATE_MOVABLE, NULL);
	else
		pfn = zone_alloc(nr_pages, align, MIGRATE_MOVABLE, NULL);
	if (pfn == 0)
		return NULL;
	*object = (struct pages_object){ .addr = pfn_to_addr(pfn), .nr_pages = nr_pages };
	return object->addr;
}

void *pages_alloc(struct pages *pages, unsigned thread_nr, size_t object_nr, size_t size,
		  unsigned align_log2)
{
	struct pages_thread *thread = &pages->threads[thread_nr];
	struct pages_object *object = &pages->objects[object_nr];
	uint32_t class_nr, object_bytes;
	struct slab *slab;

	if (size > PAGES_SMALL_MAX || align_log2 > 4)
		return alloc_run(pages, thread, object, size, align_log2);
	class_nr = class_of(size, &object_bytes);
	slab = slab_with_room(thread, pages->group, class_nr);
	if (slab == NULL)
		slab = slab_new(pages, thread, class_nr, object_bytes);
	if (slab == NULL)
		return NULL;
	*object = (struct pages_object){ .addr = slab_take(slab), .slab = slab };
	return object->addr;
}

void pages_free(struct pages *pages, unsigned thread_nr, size_t object_nr)
{
	struct pages_thread *thread = &pages->threads[thread_nr];
	struct pages_object *object = &pages->objects[object_nr];

	if (object->slab != NULL) {
		slab_put(pages, thread, object->slab, object->addr);
	} else {
		pages->nr_requests++;
		if (is_cached(object->nr_pages))
			pcp_free(&thread->pcp, pfn_of(object->addr),
				 log2_floor(object->nr_pages));
		else
			zone_free(pfn_of(object->addr), object->nr_pages);
		work_tick();
	}
	object->addr = NULL;
}
