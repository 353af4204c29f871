/* Holes in slabs: pages without a live object go back, and nothing else does. */
#define _GNU_SOURCE
#include "shim/holes.h"

#include "shim/slabs.h"
#include "shim/sparse.h"
#include "tests/shim/support.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define OBJECTS_MAX (GRANULE_BYTES / ALIGN_MIN)
#define PAGES_MAX 128u
/* The unit of the clock that work_run() is told: so long that no machine makes a test take a
 * part of it. */
#define S ((uint64_t)100 * 1000000000)

/* --- one slab against a naive model --------------------------------------------------- */

struct model {
	struct slab *slab;
	const struct class_info *ci;
	bool free[OBJECTS_MAX], away[OBJECTS_MAX]; /* away: in a hole on its way */
	bool purged[PAGES_MAX];
};

static unsigned nr_pages(const struct model *m)
{
	return 1u << m->ci->order;
}

/* The pages an object touches: first and last. */
static unsigned page_of(const struct model *m, unsigned i, bool last)
{
	return (unsigned)((i * m->ci->bytes + (last ? m->ci->bytes - 1 : 0)) / PAGE_BYTES);
}

static bool is_on_purged(const struct model *m, unsigned i)
{
	for (unsigned page = page_of(m, i, false); page <= page_of(m, i, true); page++) {
		if (m->purged[page])
			return true;
	}
	return false;
}

/* Whether some object touches the page, and all that do are free and there. */
static bool is_hole(const struct model *m, unsigned page)
{
	bool any = false;

	for (unsigned i = 0; i < m->ci->nr_objects; i++) {
		if (page_of(m, i, false) > page || page_of(m, i, true) < page)
			continue;
		any = true;
		if (!m->free[i] || m->away[i])
			return false;
	}
	return any && !m->purged[page];
}

static void model_begin(struct model *m, unsigned cls)
{
	pfn_t pfn;

	shim_free(shim_malloc(1));
	pfn = zone_alloc((size_t)1 << class_info[cls].order, class_info[cls].order,
			 MIGRATE_UNMOVABLE, NULL);
	EXPECT(pfn != 0, "no pages");
	*m = (struct model){ .ci = &class_info[cls],
			     .slab = slab_create(pfn_to_addr(pfn), cls, heap_current) };
	for (unsigned i = 0; i < m->ci->nr_objects; i++)
		m->free[i] = true;
}

static void model_end(struct model *m)
{
	slab_set_heap(m->slab, NULL);
	zone_free(pfn_of(m->slab->start), (size_t)1 << m->ci->order);
}

static void model_compare(const struct model *m)
{
	unsigned nr_free = 0, nr_purged_free = 0, page = 0, n;

	slab_check(m->slab);
	for (unsigned i = 0; i < m->ci->nr_objects; i++) {
		bool there = m->free[i] && !m->away[i];

		nr_free += there;
		nr_purged_free += there && is_on_purged(m, i);
		EXPECT(slab_is_free(m->slab, m->slab->start + (size_t)i * m->ci->bytes) == there,
		       "object %u", i);
	}
	EXPECT(m->slab->nr_free == nr_free, "%u free, not %u", m->slab->nr_free, nr_free);
	EXPECT(m->slab->nr_purged_free == nr_purged_free, "%u on purged pages, not %u",
	       m->slab->nr_purged_free, nr_purged_free);
	while ((n = slab_purged_next(m->slab, &page)) > 0) {
		for (unsigned end = page + n; page < end; page++)
			EXPECT(m->purged[page], "page %u is not purged", page);
	}
	EXPECT(page == nr_pages(m), "the walk stops at page %u", page);
}

/* Who is taken: on resident pages while there are such, lowest first. */
static void model_take(struct model *m, unsigned want)
{
	struct object *head = NULL, *tail = NULL;
	bool resident = false;
	unsigned taken, n = 0, before = 0;

	for (unsigned i = 0; i < m->ci->nr_objects; i++)
		resident |= m->free[i] && !m->away[i] && !is_on_purged(m, i);
	taken = slab_take(m->slab, want, &head, &tail);
	EXPECT(taken <= want, "%u taken, not %u", taken, want);
	for (struct object *o = head; o != NULL; o = o->next, n++) {
		unsigned i = (unsigned)((size_t)((char *)o - m->slab->start) / m->ci->bytes);

		EXPECT(m->free[i] && !m->away[i], "object %u is not to be had", i);
		EXPECT(n == 0 || i > before, "object %u after %u", i, before);
		EXPECT(!resident || !is_on_purged(m, i),
		       "object %u is on a purged page, and others are not", i);
		before = i;
		m->free[i] = false;
		for (unsigned page = page_of(m, i, false); page <= page_of(m, i, true); page++)
			m->purged[page] = false;
	}
	EXPECT(n == taken, "%u in the chain, not %u", n, taken);
	EXPECT(want == 0 || taken > 0 || m->slab->nr_free == 0, "nothing taken of %u",
	       m->slab->nr_free);
}

static void model_put(struct model *m, struct rng *rng)
{
	unsigned i = (unsigned)rng_below(rng, m->ci->nr_objects), looks = 0;

	while (m->free[i] && looks++ < m->ci->nr_objects)
		i = (i + 1) % m->ci->nr_objects;
	if (m->free[i])
		return;
	EXPECT(slab_put(m->slab, (void *)(m->slab->start + (size_t)i * m->ci->bytes)), "%u", i);
	m->free[i] = true;
}

struct away {
	unsigned page, nr;
};

/* The holes found are those of the model, no more and no fewer. */
static unsigned model_holes_begin(struct model *m, struct rng *rng, struct away *away)
{
	unsigned nr = 0, page = 0, next = 0, n;
	bool taken[PAGES_MAX] = { false };

	for (; (n = slab_hole_next(m->slab, &page)) > 0; page += n) {
		for (; next < page; next++)
			EXPECT(!is_hole(m, next) || taken[next], "page %u is a hole", next);
		for (; next < page + n; next++)
			EXPECT(is_hole(m, next), "page %u is none", next);
		if (rng_below(rng, 3) == 0)
			continue;
		slab_hole_begin(m->slab, page, n);
		away[nr++] = (struct away){ page, n };
		for (unsigned i = 0; i < m->ci->nr_objects; i++)
			m->away[i] |= page_of(m, i, false) < page + n &&
				      page_of(m, i, true) >= page;
	}
	return nr;
}

static void model_holes_end(struct model *m, struct rng *rng, const struct away *away,
			    unsigned nr)
{
	while (nr-- > 0) {
		bool purged = rng_below(rng, 4) > 0;

		slab_hole_end(m->slab, away[nr].page, away[nr].nr, purged);
		for (unsigned i = 0; i < m->ci->nr_objects; i++)
			m->away[i] &= page_of(m, i, false) >= away[nr].page + away[nr].nr ||
				      page_of(m, i, true) < away[nr].page;
		for (unsigned page = away[nr].page; page < away[nr].page + away[nr].nr; page++)
			m->purged[page] |= purged;
		model_compare(m);
	}
}

static void model_step(struct model *m, struct rng *rng)
{
	struct away away[PAGES_MAX];
	size_t n = rng_size(rng, m->ci->nr_objects);

	switch (rng_below(rng, 4)) {
	case 0:
		model_take(m, (unsigned)n);
		break;
	case 1:
	case 2:
		while (n-- > 0)
			model_put(m, rng);
		break;
	default: {
		unsigned nr = model_holes_begin(m, rng, away);

		model_compare(m);
		/* What goes on meanwhile. */
		model_take(m, (unsigned)rng_below(rng, 4));
		model_put(m, rng);
		model_compare(m);
		model_holes_end(m, rng, away, nr);
	}
	}
}

Test(holes, a_slab_is_like_the_model, .timeout = TIME_BOUND_S)
{
	static struct model m;
	uint64_t nr_ops = nr_ops_of(48);
	struct rng rng = { seed_begin("holes/a_slab_is_like_the_model", nr_ops) };

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		model_begin(&m, cls);
		for (uint64_t op = 0; op < nr_ops; op++) {
			model_step(&m, &rng);
			model_compare(&m);
		}
		model_end(&m);
	}
}

/* --- what the system sees ----------------------------------------------------------------- */

static bool is_resident(const void *p)
{
	unsigned char vec = 0;

	EXPECT(mincore((void *)((uintptr_t)p & ~(PAGE_BYTES - 1)), PAGE_BYTES, &vec) == 0,
	       "mincore");
	return (vec & 1) != 0;
}

static unsigned nr_resident(const char *from, size_t nr_bytes)
{
	unsigned n = 0;

	for (size_t at = 0; at < nr_bytes; at += PAGE_BYTES)
		n += is_resident(from + at);
	return n;
}

#define NR_BLOCKS 80000u
static struct block blocks[NR_BLOCKS];

static void fill(size_t size)
{
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		blocks[i] = (struct block){ .p = shim_malloc(size), .size = size };
		EXPECT(blocks[i].p != NULL, "no memory");
		block_fill(&blocks[i], size, i);
	}
}

/* All but one in `keep`. */
static void thin(unsigned keep)
{
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (i % keep != 0)
			block_free(&blocks[i]);
	}
}

static void finish(void)
{
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (blocks[i].p != NULL)
			block_free(&blocks[i]);
	}
	shim_check();
	expect_nothing_kept();
}

static void block_forget(struct block *b)
{
	*b = (struct block){ .p = NULL };
}

/* Frees and forgets, so that finish() knows. */
static void thin_and_forget(unsigned keep)
{
	thin(keep);
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (i % keep != 0)
			block_forget(&blocks[i]);
	}
}

/* Pages that hold a survivor are resident and as they were; of the others nearly all went. */
Test(holes, a_trim_gives_them_back, .timeout = TIME_BOUND_S)
{
	static unsigned char *at[NR_BLOCKS];
	unsigned resident = 0;
	size_t released;

	test_config.decay_ns = 1000 * S;
	fill(100);
	for (unsigned i = 0; i < NR_BLOCKS; i++)
		at[i] = blocks[i].p;
	thin_and_forget(200);
	released = shim_trim();
	EXPECT(released > NR_BLOCKS * 100u / 3, "%zu bytes released", released);
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (blocks[i].p != NULL)
			block_verify(&blocks[i], blocks[i].p, blocks[i].size);
		else
			resident += is_resident(at[i]);
	}
	/* Those beside one of 400 survivors, each on one page or two. */
	EXPECT(resident < 400 * 2 * 40, "%u freed blocks are on resident pages", resident);
	EXPECT(shim_trim() == 0, "the second trim finds nothing");
	shim_check();
	finish();
}

Test(holes, resident_pages_are_used_first, .timeout = TIME_BOUND_S)
{
	unsigned before, free_there;
	struct slab *s;
	void *p;

	test_config.decay_ns = 1000 * S;
	fill(100);
	thin_and_forget(200);
	(void)shim_trim();
	s = slab_of(blocks[0].p);
	before = nr_resident(s->start, GRANULE_BYTES);
	free_there = (unsigned)(s->nr_free - s->nr_purged_free);
	EXPECT(free_there > 0 && before < GRANULE_PAGES, "%u free, %u pages", free_there, before);
	/* The other slabs are much the same, so as many new blocks fault no page in. */
	for (unsigned i = 1; i < 200; i++) {
		p = shim_malloc(100);
		EXPECT(is_resident(p), "block %u is not on a resident page", i);
		blocks[i] = (struct block){ .p = p, .size = 100 };
		block_fill(&blocks[i], 100, i);
	}
	shim_check();
	finish();
}

/* Purged memory serves again, and only then does the heap grow. */
Test(holes, purged_pages_are_used_last_but_before_new_ones, .timeout = TIME_BOUND_S)
{
	uint64_t slab_bytes;

	test_config.decay_ns = 1000 * S;
	fill(100);
	thin_and_forget(200);
	(void)shim_trim();
	slab_bytes = stats_now().slab_bytes;
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (blocks[i].p != NULL)
			continue;
		blocks[i] = (struct block){ .p = shim_malloc(100), .size = 100 };
		block_fill(&blocks[i], 100, i);
	}
	EXPECT(stats_now().slab_bytes <= slab_bytes + 8 * GRANULE_BYTES, "grew from %llu to %llu",
	       (unsigned long long)slab_bytes, (unsigned long long)stats_now().slab_bytes);
	shim_check();
	finish();
}

Test(holes, medium_blocks_have_them_too, .timeout = TIME_BOUND_S)
{
	static unsigned char *at[NR_BLOCKS / 40];
	unsigned nr = NR_BLOCKS / 40, resident = 0;

	for (unsigned i = 0; i < nr; i++) {
		blocks[i] = (struct block){ .p = shim_malloc(7000), .size = 7000 };
		block_fill(&blocks[i], 7000, i);
		at[i] = blocks[i].p;
	}
	for (unsigned i = 0; i < nr; i++) {
		if (i % 20 != 0) {
			block_free(&blocks[i]);
			block_forget(&blocks[i]);
		}
	}
	(void)shim_trim();
	for (unsigned i = 0; i < nr; i++)
		resident += blocks[i].p == NULL && is_resident(at[i] + 3500);
	EXPECT(resident <= nr / 20 * 2, "%u of %u freed blocks are resident", resident, nr);
	finish();
}

/* --- passes -------------------------------------------------------------------------------- */

/* Runs what is due, as the background thread does, up to a time; when the next is due. */
static uint64_t run_until(uint64_t *now_ns, uint64_t end_ns)
{
	uint64_t next_ns = work_run(*now_ns);

	while (next_ns <= end_ns) {
		if (next_ns > *now_ns)
			*now_ns = next_ns;
		next_ns = work_run(*now_ns);
	}
	*now_ns = end_ns;
	return next_ns;
}

static void *thin_on_its_own(void *unused)
{
	(void)unused;
	fill(100);
	thin_and_forget(200);
	return NULL;
}

/* Left alone they go within two decays, and then nothing is due any more. */
Test(holes, they_go_when_left_alone, .timeout = TIME_BOUND_S)
{
	uint64_t now_ns, next_ns;
	unsigned before, after;
	struct slab *s;

	test_config.decay_ns = S;
	on_thread(thin_on_its_own, NULL);
	now_ns = os_now_ns();
	s = slab_of(blocks[0].p);
	before = nr_resident(s->start, GRANULE_BYTES);
	EXPECT(before == GRANULE_PAGES, "%u pages at first", before);
	(void)run_until(&now_ns, now_ns + S / 4);
	EXPECT(nr_resident(s->start, GRANULE_BYTES) == before, "too early");
	next_ns = run_until(&now_ns, now_ns + 7 * S / 4);
	after = nr_resident(s->start, GRANULE_BYTES);
	EXPECT(after < GRANULE_PAGES / 2, "%u pages are left", after);
	for (unsigned i = 0; i < 10 && next_ns != WORK_NEVER; i++)
		next_ns = run_until(&now_ns, now_ns + S);
	EXPECT(next_ns == WORK_NEVER, "something is due for ever");
	shim_check();
	finish();
}

/* What an idle thread caches is asked for first: no hole is made before it could answer. */
Test(holes, threads_are_asked_first, .timeout = TIME_BOUND_S)
{
	uint64_t now_ns, next_ns = 0;
	struct slab *s;

	test_config.decay_ns = S;
	fill(100);
	thin_and_forget(200);
	s = slab_of(blocks[0].p);
	now_ns = os_now_ns();
	for (unsigned i = 0; i < 100 && next_ns != WORK_NEVER && !heap_is_asked(heap_current); i++) {
		next_ns = work_run(now_ns);
		if (next_ns != WORK_NEVER && next_ns > now_ns)
			now_ns = next_ns;
	}
	EXPECT(heap_is_asked(heap_current), "the thread is not asked");
	EXPECT(nr_resident(s->start, GRANULE_BYTES) == GRANULE_PAGES, "and nobody waits for it");
	shim_free(shim_malloc(1));
	EXPECT(!heap_is_asked(heap_current), "the thread has not answered");
	(void)run_until(&now_ns, now_ns + 3 * S);
	EXPECT(nr_resident(s->start, GRANULE_BYTES) < GRANULE_PAGES / 2, "nothing goes after that");
	finish();
}

/* What arms it in the middle of a pass, between two slices, is not lost with the pass. */
Test(holes, armed_in_the_middle_of_a_pass, .timeout = TIME_BOUND_S)
{
	enum { NR = 24000 }; /* of 2 KiB: more blocks than a slice looks at */
	static void *p[NR];
	uint64_t now_ns, next_ns = 0;
	unsigned nr_armed = 0;

	test_config.decay_ns = S;
	for (unsigned i = 0; i < NR; i++)
		p[i] = shim_malloc(2048);
	for (unsigned i = 0; i < NR; i += 2)
		shim_free(p[i]);
	heap_drain_all();
	EXPECT(atomic_load(&holes_armed), "nothing is armed");
	now_ns = os_now_ns() + S;
	for (unsigned i = 0; i < 1000 && next_ns != WORK_NEVER; i++) {
		next_ns = work_run(now_ns);
		if (next_ns > now_ns && next_ns != WORK_NEVER)
			now_ns = next_ns;
		/* Work is due at once: a pass is under way, as a rule. */
		if (next_ns <= now_ns && nr_armed < 10 && !atomic_load(&holes_armed)) {
			holes_arm();
			nr_armed++;
		}
	}
	EXPECT(nr_armed == 10, "armed %u times", nr_armed);
	EXPECT(next_ns == WORK_NEVER, "something is due for ever");
	EXPECT(!atomic_load(&holes_armed), "it is armed, and no pass is due");
	for (unsigned i = 1; i < NR; i += 2)
		shim_free(p[i]);
	expect_nothing_kept();
}

/* A slab that is being used keeps its pages. */
Test(holes, a_slab_in_use_is_not_cold, .timeout = TIME_BOUND_S)
{
	uint64_t now_ns;
	struct slab *s;
	struct heap *h;

	test_config.decay_ns = S;
	fill(100);
	thin_and_forget(200);
	heap_drain_all();
	now_ns = os_now_ns();
	s = slab_of(blocks[0].p);
	h = slab_heap(s);
	for (unsigned i = 0; i < 12; i++) {
		struct object *head = NULL, *tail;
		unsigned page = 0;

		/* As a refill of one object does. */
		lock_acquire(&h->lock, LOCK_HEAP);
		h->classes[s->cls].nr_free -= slab_take(s, 1, &head, &tail);
		slabs_update(&h->classes[s->cls], s);
		lock_release(&h->lock, LOCK_HEAP);
		blocks[i + 1] = (struct block){ .p = (unsigned char *)head, .size = 100 };
		block_fill(&blocks[i + 1], 100, i);
		/* One slice, which is a pass over so few blocks. */
		now_ns += S;
		(void)work_run(now_ns);
		EXPECT(slab_purged_next(s, &page) == 0, "purged in round %u", i);
	}
	(void)run_until(&now_ns, now_ns + 2 * S);
	EXPECT(nr_resident(s->start, GRANULE_BYTES) < GRANULE_PAGES / 2, "and then it is");
	finish();
}

/* A few holes are not worth a huge page: only a trim takes them. */
Test(holes, dense_blocks_stay_whole, .timeout = TIME_BOUND_S)
{
	static const size_t size = 1024;
	uint64_t now_ns;
	unsigned nr = 40u << 10, before;
	struct slab *s;

	test_config.decay_ns = S;
	for (unsigned i = 0; i < nr; i++) {
		blocks[i] = (struct block){ .p = shim_malloc(size), .size = size };
		block_fill(&blocks[i], size, i);
	}
	/* One page in sixteen, that of four blocks in a row. */
	for (unsigned i = 0; i < nr; i++) {
		if ((uintptr_t)blocks[i].p >> PAGE_SHIFT & 15)
			continue;
		block_free(&blocks[i]);
		block_forget(&blocks[i]);
	}
	heap_drain_all();
	/* Of five blocks in a row at most four are on one page. */
	s = slab_of(blocks[nr / 2].p != NULL ? blocks[nr / 2].p : blocks[nr / 2 + 4].p);
	now_ns = os_now_ns();
	before = nr_resident(s->start, GRANULE_BYTES);
	(void)run_until(&now_ns, now_ns + 4 * S);
	EXPECT(nr_resident(s->start, GRANULE_BYTES) == before, "broken for %u pages in 512", 32);
	(void)shim_trim();
	EXPECT(nr_resident(s->start, GRANULE_BYTES) < before, "a trim takes them");
	finish();
}

/* --- sparse blocks ----------------------------------------------------------------------------- */

/* Random blocks die and others are born, as many; how many slabs are left. */
static uint64_t turn_over(struct rng *rng, unsigned nr_ops, bool passes)
{
	static const size_t size = 500;
	uint64_t now_ns = os_now_ns();

	fill(size);
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (rng_below(rng, 10) != 0) {
			block_free(&blocks[i]);
			block_forget(&blocks[i]);
		}
	}
	heap_drain_all();
	for (unsigned op = 0; op < nr_ops; op++) {
		unsigned i = (unsigned)rng_below(rng, NR_BLOCKS);
		unsigned k = (unsigned)rng_below(rng, NR_BLOCKS);

		while (blocks[i].p == NULL)
			i = (i + 1) % NR_BLOCKS;
		while (blocks[k].p != NULL)
			k = (k + 1) % NR_BLOCKS;
		block_free(&blocks[i]);
		block_forget(&blocks[i]);
		blocks[k] = (struct block){ .p = shim_malloc(size), .size = size };
		block_fill(&blocks[k], size, k);
		if (op % 500 != 0)
			continue;
		/* What it caches would be handed out again for ever. */
		heap_flush();
		if (passes)
			(void)run_until(&now_ns, now_ns + S);
	}
	(void)shim_trim();
	return stats_now().slab_bytes;
}

/* More of memory empties, and none is needed in addition.  As many operations where each
 * step is checked: with fewer there is nothing to see. */
Test(holes, sparse_blocks_drain, .timeout = TIME_BOUND_S)
{
	uint64_t nr_ops = nr_ops_of(24000 * SLOWNESS);
	struct rng rng = { seed_begin("holes/sparse_blocks_drain", nr_ops) }, again = rng;
	uint64_t with, without;

	test_config.decay_ns = S;
	with = turn_over(&rng, (unsigned)nr_ops, true);
	finish();
	without = turn_over(&again, (unsigned)nr_ops, false);
	finish();
	EXPECT(with < without * 9 / 10, "%llu bytes of slabs with, %llu without",
	       (unsigned long long)with, (unsigned long long)without);
	fprintf(stderr, "sparse: %llu KiB of slabs with draining, %llu without\n",
		(unsigned long long)with >> 10, (unsigned long long)without >> 10);
}

/* Of a few sparse blocks none drains, also when one has become sparser since the last pass. */
Test(holes, few_sparse_blocks_stay, .timeout = TIME_BOUND_S)
{
	for (unsigned pass = 0; pass < 4; pass++) {
		for (unsigned i = 0; i < 3; i++)
			EXPECT(!sparse_count(PAGEBLOCK_BYTES, PAGEBLOCK_BYTES / 8 / (pass + 1)),
			       "block %u drains in pass %u", i, pass);
		sparse_pass_ends();
	}
	/* And of many the sparser half does. */
	for (unsigned pass = 0; pass < 2; pass++) {
		unsigned nr = 0;

		for (unsigned i = 0; i < 20; i++)
			nr += sparse_count(PAGEBLOCK_BYTES, i * PAGEBLOCK_BYTES / 100);
		EXPECT(nr == pass * 10, "%u blocks drain in pass %u", nr, pass);
		sparse_pass_ends();
	}
}

/* --- all at once -------------------------------------------------------------------------------- */

#define NR_CHURNERS 3u
#define NR_HELD 3000u

static _Atomic bool stop;

struct churner {
	pthread_t thread;
	uint64_t seed, nr_ops;
	struct block held[NR_HELD];
};
static struct churner churners[NR_CHURNERS];

static void *churn(void *arg)
{
	struct churner *c = arg;
	struct rng rng = { c->seed };

	for (uint64_t op = 0; op < c->nr_ops; op++) {
		struct block *b = &c->held[rng_below(&rng, NR_HELD)];
		size_t size = 1 + rng_size(&rng, rng_below(&rng, 64) == 0 ? MEDIUM_MAX : 2000);

		if (b->p != NULL) {
			block_free(b);
			block_forget(b);
		} else if (rng_below(&rng, 10000) < 9000) {
			*b = (struct block){ .p = shim_malloc(size), .size = size };
			EXPECT(b->p != NULL, "no memory");
			block_fill(b, size, op);
		}
		/* A thread that is left with little now and then. */
		for (unsigned i = 0; op % 20000 == 19999 && i < NR_HELD; i++) {
			if (i % 16 != 0 && c->held[i].p != NULL) {
				block_free(&c->held[i]);
				block_forget(&c->held[i]);
			}
		}
	}
	for (unsigned i = 0; i < NR_HELD; i++) {
		if (c->held[i].p != NULL)
			block_free(&c->held[i]);
	}
	return NULL;
}

static void *purge_all_the_time(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		(void)holes_purge_all();
		(void)work_run(os_now_ns());
		heap_settle_idle();
		shim_check();
	}
	return NULL;
}

Test(holes, are_given_back_while_others_work, .timeout = TIME_BOUND_S)
{
	uint64_t nr_ops = nr_ops_of(400000);
	uint64_t seed = seed_begin("holes/are_given_back_while_others_work", nr_ops);
	pthread_t purger;

	thread_start(&purger, purge_all_the_time, NULL);
	for (unsigned i = 0; i < NR_CHURNERS; i++) {
		churners[i].seed = seed + i + 1;
		churners[i].nr_ops = nr_ops;
		thread_start(&churners[i].thread, churn, &churners[i]);
	}
	for (unsigned i = 0; i < NR_CHURNERS; i++)
		thread_join(churners[i].thread);
	atomic_store(&stop, true);
	thread_join(purger);
	shim_check();
	expect_nothing_kept();
}

#if !UNDER_TSAN
static void verify_in_child(void *unused)
{
	(void)unused;
	for (unsigned i = 0; i < NR_BLOCKS; i++) {
		if (blocks[i].p != NULL)
			block_free(&blocks[i]);
	}
	shim_check();
	expect_nothing_kept();
	_exit(0);
}

/* The child finds all holes closed, whatever was under way: none of its objects is lost. */
Test(holes, fork_finds_none_half_way, .timeout = TIME_BOUND_S)
{
	pthread_t purger;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	fill(100);
	thin_and_forget(200);
	thread_start(&purger, purge_all_the_time, NULL);
	for (unsigned i = 0; i < 40 / SLOWNESS_MILD; i++) {
		int status;

		for (unsigned k = 1; k < 200; k++) {
			blocks[k] = (struct block){ .p = shim_malloc(100), .size = 100 };
			block_fill(&blocks[k], 100, k);
		}
		status = run_in_child(verify_in_child, NULL);
		EXPECT(status == 0, "child %u: %d", i, status);
		for (unsigned k = 1; k < 200; k++) {
			block_free(&blocks[k]);
			block_forget(&blocks[k]);
		}
	}
	atomic_store(&stop, true);
	thread_join(purger);
	finish();
}
#endif
