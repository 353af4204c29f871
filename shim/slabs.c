/* The slabs of one heap; see slabs.h. */
#include "shim/slabs.h"

#include "shim/holes.h"
#include "shim/limits.h"

/* Slabs of a class, all full, from which on a new one is thought to be filled too. */
#define DENSE_SLABS 16u
/* Slabs looked at for room before one is emptied. */
#define EMPTY_LOOKS_MAX 16u

static void slabs_unlist(struct heap_class *hc, struct slab *s)
{
	if (s->list == NO_LIST)
		return;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		hc->lists[s->list] = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	s->list = NO_LIST;
}

void slabs_update(struct heap_class *hc, struct slab *s)
{
	unsigned list = slab_list(s);

	if (list == s->list)
		return;
	if (list > s->list || s->list == NO_LIST)
		holes_note();
	slabs_unlist(hc, s);
	if (list == NO_LIST)
		return;
	s->list = (uint8_t)list;
	s->prev = NULL;
	s->next = hc->lists[list];
	if (s->next != NULL)
		s->next->prev = s;
	hc->lists[list] = s;
}

uint32_t slabs_count(struct heap_class *hc)
{
	/* Relaxed: exact under the heap's lock, else a hint. */
	return atomic_load_explicit(&hc->nr_slabs, memory_order_relaxed);
}

static void add_to_count(struct heap_class *hc, int n)
{
	/* Relaxed: as above; only under the lock, so no addition is lost. */
	atomic_store_explicit(&hc->nr_slabs, slabs_count(hc) + (uint32_t)n,
			      memory_order_relaxed);
}

void slabs_add(struct heap *h, struct slab *s)
{
	struct heap_class *hc = &h->classes[s->cls];

	h->nr_slabs++;
	add_to_count(hc, 1);
	hc->nr_free += s->nr_free;
	slabs_update(hc, s);
}

void slabs_remove(struct heap *h, struct slab *s)
{
	struct heap_class *hc = &h->classes[s->cls];

	h->nr_slabs--;
	add_to_count(hc, -1);
	hc->nr_free -= s->nr_free;
	slabs_unlist(hc, s);
}

/* Of any heap. Relaxed: by class, counts that only save work. */
static _Atomic uint32_t nr_cordoned[NR_CLASSES];

bool slabs_any_cordoned(unsigned cls)
{
	return atomic_load_explicit(&nr_cordoned[cls], memory_order_relaxed) > 0;
}

void slabs_cordon(struct heap *h, struct slab *s)
{
	unsigned flags = slab_flags(s);

	if ((flags & SLAB_CORDONED) != 0)
		return;
	(void)atomic_fetch_add_explicit(&nr_cordoned[s->cls], 1, memory_order_relaxed);
	slab_set_flags(s, flags | SLAB_CORDONED);
	if (slabs_is_spare(h, s))
		slabs_release(h, s);
	else
		slabs_update(&h->classes[s->cls], s);
}

void slabs_uncordon(struct heap *h, struct slab *s)
{
	unsigned flags = slab_flags(s);

	if ((flags & SLAB_CORDONED) == 0)
		return;
	(void)atomic_fetch_sub_explicit(&nr_cordoned[s->cls], 1, memory_order_relaxed);
	slab_set_flags(s, flags & ~SLAB_CORDONED);
	slabs_update(&h->classes[s->cls], s);
}

void slabs_release(struct heap *h, struct slab *s)
{
	pfn_t pfn = pfn_of(s->start);
	bool purged = false;

	if (unlikely((slab_flags(s) & SLAB_CORDONED) != 0))
		(void)atomic_fetch_sub_explicit(&nr_cordoned[s->cls], 1, memory_order_relaxed);
	slabs_remove(h, s);
	slab_set_heap(s, NULL);
	/* All its objects are free: so are those that touch a purged page. */
	for (unsigned page = 0, n;
	     s->nr_purged_free > 0 && (n = slab_purged_next(s, &page)) > 0; page += n) {
		zone_mark_clean(pfn + page, n);
		purged = true;
	}
	if (h->ownerless || purged)
		zone_free(pfn, slab_nr_pages(s));
	else
		pcp_free(&h->pcp, pfn, class_info[s->cls].order);
}

/* An empty small slab stays when it is all the class has to refill from, and may be. */
bool slabs_is_spare(const struct heap *h, const struct slab *s)
{
	if (s->nr_free != s->nr_objects)
		return false;
	return h->ownerless || s->cls >= NR_SMALL_CLASSES || limits_many_threads() ||
	       (slab_flags(s) & SLAB_SETTLES) != 0 ||
	       h->classes[s->cls].nr_free > s->nr_objects;
}

struct slab *slabs_fullest(struct heap_class *hc)
{
	for (unsigned list = 0; list <= LIST_PURGED; list++) {
		if (hc->lists[list] != NULL)
			return hc->lists[list];
	}
	/* Those on their way to be emptied, before a new one is made. */
	while (hc->lists[LIST_EMPTYING] != NULL) {
		struct slab *s = hc->lists[LIST_EMPTYING];

		slabs_stop_emptying(hc, s);
		if (s->nr_free > 0)
			return s;
	}
	return NULL;
}

/* Free objects that malloc would hand out before those of a slab, counted up to `enough`. */
static uint32_t room_beside(const struct heap_class *hc, const struct slab *but, uint32_t enough)
{
	uint32_t room = 0;
	unsigned looks = 0;

	for (unsigned list = 0; list < NR_FULLNESS; list++) {
		for (const struct slab *s = hc->lists[list];
		     s != NULL && room < enough && looks < EMPTY_LOOKS_MAX; s = s->next, looks++)
			room += s != but ? s->nr_free : 0;
	}
	return room;
}

bool slabs_have_room(struct heap *h, unsigned cls, const struct slab *but, uint32_t enough)
{
	return room_beside(&h->classes[cls], but, enough) >= enough;
}

void slabs_start_emptying(struct heap *h, struct slab *s)
{
	slab_set_flags(s, slab_flags(s) | SLAB_EMPTYING);
	if (slabs_is_spare(h, s))
		slabs_release(h, s);
	else
		slabs_update(&h->classes[s->cls], s);
}

void slabs_stop_emptying(struct heap_class *hc, struct slab *s)
{
	slab_set_flags(s, slab_flags(s) & ~SLAB_EMPTYING);
	slabs_update(hc, s);
}

/*
 * Tells the zone whether new memory will be filled, as the last requests suggest: a slab
 * after many full ones of its class will be, the first of a class in one more heap not.
 */
static void note_density(struct heap_class *hc)
{
	static _Atomic int score;
	/* Relaxed: a hint, and so is a lost update. */
	int was = atomic_load_explicit(&score, memory_order_relaxed);
	int is = slabs_count(hc) >= DENSE_SLABS ? was + 1 : was - 1;

	if (is > 16 || is < -16)
		return;
	atomic_store_explicit(&score, is, memory_order_relaxed);
	if ((is >= 0) != (was >= 0))
		zone_set_dense(is >= 0);
}

struct slab *slabs_new(struct heap *h, unsigned cls)
{
	bool movable = h->place == PLACE_HANDLES;

	note_density(&h->classes[cls]);
	if (h->place < NR_PLACES)
		h->pcp.kind = atomic_load_explicit(&heap_kinds[h->place],
						   memory_order_relaxed);
	for (;;) {
		pfn_t pfn = pcp_alloc(&h->pcp, class_info[cls].order,
				      movable ? MIGRATE_MOVABLE : MIGRATE_UNMOVABLE, NULL);

		if (pfn == 0)
			return NULL;

		struct slab *s = slab_create(pfn_to_addr(pfn), cls, h);

		slabs_add(h, s);
		/*
		 * The pages may have come from a cache, and their block been isolated since.
		 * The fence pairs with that in vacate_range(): it sees the slab, or the mark
		 * is seen here.
		 */
		atomic_thread_fence(memory_order_seq_cst);
		if (likely(!isolate_is_marked(s->start)))
			return s;
		slabs_release(h, s);
	}
}

struct object *slabs_take_flagged(struct heap *h, unsigned cls, unsigned flag)
{
	struct heap_class *hc = &h->classes[cls];
	struct slab *s = slabs_fullest(hc);
	struct object *o = NULL, *tail;

	if (s == NULL) {
		s = slabs_new(h, cls);
		if (s == NULL)
			return NULL;
		slab_set_flags(s, slab_flags(s) | flag);
	}
	hc->nr_free -= slab_take(s, 1, &o, &tail);
	slabs_update(hc, s);
	return o;
}

struct slab *slabs_emptiest(struct heap_class *hc, unsigned from)
{
	for (unsigned list = NR_FULLNESS; list-- > from;) {
		if (hc->lists[list] != NULL)
			return hc->lists[list];
	}
	return from == 0 ? hc->lists[LIST_PURGED] : NULL;
}
