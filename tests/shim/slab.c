/* A slab against a naive model: one bool an object. */
#include "shim/slab.h"

#include "shim/arena.h"
#include "shim/heap.h"
#include "tests/shim/support.h"

#include <string.h>

#define OBJECTS_MAX (GRANULE_BYTES / ALIGN_MIN)

struct model {
	struct slab *slab;
	const struct class_info *ci;
	bool free[OBJECTS_MAX];
	unsigned nr_free;
};

/* A slab of pages of its own, that no heap has on its lists. */
static void model_begin(struct model *m, unsigned cls)
{
	pfn_t pfn;

	shim_free(shim_malloc(1));
	pfn = zone_alloc((size_t)1 << class_info[cls].order, class_info[cls].order,
			 MIGRATE_UNMOVABLE, NULL);
	EXPECT(pfn != 0, "no pages");
	m->ci = &class_info[cls];
	m->slab = slab_create(pfn_to_addr(pfn), cls, heap_current);
	m->nr_free = m->ci->nr_objects;
	for (unsigned i = 0; i < m->ci->nr_objects; i++)
		m->free[i] = true;
}

static void model_end(struct model *m)
{
	slab_set_heap(m->slab, NULL);
	zone_free(pfn_of(m->slab->start), (size_t)1 << m->ci->order);
}

static unsigned model_index(const struct model *m, const struct object *o)
{
	size_t offset = (size_t)((const char *)o - m->slab->start);

	EXPECT(offset % m->ci->bytes == 0 && offset / m->ci->bytes < m->ci->nr_objects,
	       "class of %u bytes: an object at offset %zu", m->ci->bytes, offset);
	return (unsigned)(offset / m->ci->bytes);
}

static void model_compare(const struct model *m)
{
	slab_check(m->slab);
	EXPECT(m->slab->nr_free == m->nr_free, "%u free, not %u", m->slab->nr_free, m->nr_free);
	EXPECT(m->nr_free == 0 || slab_fullness(m->slab) < NR_FULLNESS, "fullness");
	for (unsigned i = 0; i < m->ci->nr_objects; i++) {
		const char *p = m->slab->start + (size_t)i * m->ci->bytes;

		EXPECT(slab_is_free(m->slab, p) == m->free[i], "object %u", i);
		EXPECT(slab_is_free(m->slab, p + m->ci->bytes - 1) == m->free[i], "object %u", i);
	}
}

static void model_take(struct model *m, unsigned want)
{
	struct object *head = NULL, *tail = NULL, *last = NULL;
	unsigned expected = want < m->nr_free ? want : m->nr_free;
	unsigned taken = slab_take(m->slab, want, &head, &tail);
	unsigned next = 0;

	EXPECT(taken == expected, "%u taken, not %u", taken, expected);
	for (struct object *o = head; o != NULL; o = o->next) {
		unsigned i = model_index(m, o);

		while (next < m->ci->nr_objects && !m->free[next])
			next++;
		EXPECT(i == next, "object %u taken where %u is the lowest free one", i, next);
		EXPECT(o->key == arena_key(), "object %u has no key", i);
		m->free[i] = false;
		m->nr_free--;
		taken--;
		last = o;
	}
	EXPECT(taken == 0, "the chain is %u objects short", taken);
	EXPECT(expected == 0 || (tail == last && tail->next == NULL), "wrong tail");
}

static void model_put_one(struct model *m, struct rng *rng)
{
	unsigned i = (unsigned)rng_below(rng, m->ci->nr_objects);
	struct object *o;

	if (m->nr_free == m->ci->nr_objects)
		return;
	while (m->free[i])
		i = (i + 1) % m->ci->nr_objects;
	o = (struct object *)(void *)(m->slab->start + (size_t)i * m->ci->bytes);
	EXPECT(slab_put(m->slab, o), "object %u was free", i);
	EXPECT(!slab_put(m->slab, o), "object %u is freed twice", i);
	m->free[i] = true;
	m->nr_free++;
}

Test(slab, takes_and_puts_like_the_model, .timeout = TIME_BOUND_S)
{
	static struct model m;
	uint64_t nr_ops = nr_ops_of(400);
	struct rng rng = {seed_begin("slab/takes_and_puts_like_the_model", nr_ops)};

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		model_begin(&m, cls);
		model_compare(&m);
		for (uint64_t op = 0; op < nr_ops; op++) {
			size_t n = rng_size(&rng, m.ci->nr_objects);

			if (rng_below(&rng, 2) == 0) {
				model_take(&m, (unsigned)n);
			} else {
				while (n-- > 0)
					model_put_one(&m, &rng);
			}
			if (op % 16 == 0)
				model_compare(&m);
		}
		model_take(&m, m.ci->nr_objects);
		model_compare(&m);
		model_end(&m);
	}
	shim_check();
}

/* The fullest list is 0, the emptiest the last, and none is left out. */
Test(slab, fullness_is_monotone, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		struct slab s = {.nr_objects = (uint16_t)class_info[cls].nr_objects};
		unsigned before = 0;

		for (s.nr_free = 1; s.nr_free <= s.nr_objects; s.nr_free++) {
			unsigned list = slab_fullness(&s);

			EXPECT(list >= before && list <= before + 1, "class %u, %u free", cls,
			       s.nr_free);
			before = list;
		}
		EXPECT(before < NR_FULLNESS, "class %u", cls);
	}
}

Test(slab, every_granule_leads_to_header_and_bin, .timeout = TIME_BOUND_S)
{
	static struct model m;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		const char *start, *bin;

		model_begin(&m, cls);
		start = m.slab->start;
		bin = (const char *)&heap_current->bins[cls];
		for (size_t at = 0; at < PAGE_BYTES << m.ci->order; at += PAGE_BYTES) {
			EXPECT(slab_of(start + at) == m.slab, "class %u, offset %zu", cls, at);
			EXPECT(arena_base() + atomic_load(arena_entry(start + at)) == bin,
			       "class %u, offset %zu", cls, at);
		}
		EXPECT(slab_heap(m.slab) == heap_current, "class %u", cls);
		model_end(&m);
		for (size_t at = 0; at < PAGE_BYTES << m.ci->order; at += PAGE_BYTES) {
			EXPECT(slab_heap(slab_of(start + at)) == NULL, "class %u, offset %zu",
			       cls, at);
			EXPECT(atomic_load(arena_entry(start + at)) == 0, "class %u, offset %zu",
			       cls, at);
		}
	}
}

/* A large slab leaves nothing behind that a small one in its middle could trip over. */
Test(slab, granules_are_reused_by_other_classes, .timeout = TIME_BOUND_S)
{
	static struct model small;
	pfn_t pfn;

	shim_free(shim_malloc(1));
	pfn = zone_alloc((size_t)1 << 7, 7, MIGRATE_UNMOVABLE, NULL);
	EXPECT(pfn != 0, "no pages");
	for (unsigned round = 0; round < 3; round++) {
		char *start = pfn_to_addr(pfn);
		struct slab *s = slab_create(start, NR_CLASSES - 1, heap_current);

		slab_set_heap(s, NULL);
		/* With a slab in the first granule, the others are still nobody's. */
		s = slab_create(start, 0, heap_current);
		for (size_t g = 1; g < 8; g++)
			EXPECT(slab_heap(slab_of(start + g * GRANULE_BYTES)) == NULL,
			       "granule %zu", g);
		slab_set_heap(s, NULL);
		for (size_t g = 0; g < 8; g++) {
			char *granule = start + g * GRANULE_BYTES;

			small.ci = &class_info[g];
			small.slab = slab_create(granule, (unsigned)g, heap_current);
			small.nr_free = small.ci->nr_objects;
			memset(small.free, true, sizeof(small.free));
			EXPECT(slab_of(granule + 1) == small.slab, "granule %zu", g);
			model_compare(&small);
			model_take(&small, 7);
		}
		for (size_t g = 0; g < 8; g++)
			slab_set_heap(slab_of(start + g * GRANULE_BYTES), NULL);
	}
	zone_free(pfn, (size_t)1 << 7);
}

/* --- what stops the program ---------------------------------------------------------- */

static void check_interior(void *arg)
{
	struct model *m = arg;

	slab_check_start(m->slab, m->slab->start + m->ci->bytes + 8, "free");
}

static void check_tail(void *arg)
{
	struct model *m = arg;

	slab_check_start(m->slab, m->slab->start + m->ci->nr_objects * m->ci->bytes, "free");
}

Test(slab, misuse_is_named, .timeout = TIME_BOUND_S)
{
	static struct model m;

	model_begin(&m, class_of(48));
	model_take(&m, 5);
	EXPECT(dies_saying(check_interior, &m, "which is inside a block of 48 bytes at 0x"),
	       "interior pointer");
	EXPECT(dies_saying(check_tail, &m, "which is not a block of this allocator"), "tail");
	model_end(&m);
}
