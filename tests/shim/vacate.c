/* Vacating cordoned blocks: caches of all kinds, the bound for a thread, undo, fork. */
#include "shim/vacate.h"

#include "shim/divert.h"
#include "shim/slabs.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#define BLOCK PAGEBLOCK_PAGES

static pfn_t block_of(const void *p)
{
	return round_down(pfn_of(p), BLOCK);
}

static bool is_in(const void *p, pfn_t pfn, size_t nr_pages)
{
	return pfn_of(p) >= pfn && pfn_of(p) < pfn + nr_pages;
}

/* Cordons the block by hand; what core does before and after it calls the hooks. */
static uint32_t cordon(pfn_t pfn)
{
	uint32_t owner = isolate_owner();
	int err = isolate_range(pfn, BLOCK, owner);

	EXPECT(err == 0, "isolate: %d", err);
	(void)vacate_range(pfn, BLOCK, 0);
	return owner;
}

static void uncordon(pfn_t pfn, uint32_t owner)
{
	int err = isolate_undo(pfn, BLOCK, owner);

	EXPECT(err == 0, "undo: %d", err);
	vacate_end(pfn, BLOCK);
}

/* Free objects of the range in what one thread caches. */
static unsigned nr_cached_in(const struct heap *h, pfn_t pfn, size_t nr_pages)
{
	unsigned nr = 0;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		for (struct object *o = h->bins[cls].head; o != NULL; o = o->next)
			nr += is_in(o, pfn, nr_pages);
		for (struct object *o = h->classes[cls].inbox; o != NULL; o = o->next)
			nr += is_in(o, pfn, nr_pages);
	}
	for (unsigned i = 0; i < NR_OUTGOING; i++)
		for (struct object *o = h->outgoing[i].head; o != NULL; o = o->next)
			nr += is_in(o, pfn, nr_pages);
	return nr;
}

static const size_t sizes[] = {16, 64, 1000, SMALL_MAX, SMALL_MAX + 1, MEDIUM_MAX};
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* --- the bound -------------------------------------------------------------------------- */

/* A thread that does one call at a time. */
struct stepper {
	sem_t go, done;
	void *(*step)(void *arg);
	void *arg;
	struct heap *heap;
	pthread_t thread;
};

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

static void *steps(void *arg)
{
	struct stepper *s = arg;

	for (;;) {
		wait_for(&s->go);
		if (s->step == NULL)
			return NULL;
		s->arg = s->step(s->arg);
		s->heap = heap_current;
		sem_post(&s->done);
	}
}

static void *step(struct stepper *s, void *(*fn)(void *), void *arg)
{
	s->step = fn;
	s->arg = arg;
	sem_post(&s->go);
	if (fn != NULL)
		wait_for(&s->done);
	return s->arg;
}

static void stepper_start(struct stepper *s)
{
	sem_init(&s->go, 0, 0);
	sem_init(&s->done, 0, 0);
	thread_start(&s->thread, steps, s);
}

static void stepper_end(struct stepper *s)
{
	step(s, NULL, NULL);
	thread_join(s->thread);
}

static void *do_malloc(void *size)
{
	return shim_malloc(*(size_t *)size);
}

static void *do_free(void *p)
{
	shim_free(p);
	return NULL;
}

/* Half of what it allocates it frees again, so that slabs and bins are both in use. */
static void *kept[64];
static void *fill_and_keep(void *size)
{
	void *p = NULL;

	for (unsigned i = 0; i < 128; i++) {
		p = shim_malloc(*(size_t *)size);
		if (i % 2 == 0)
			kept[i / 2] = p;
		else
			shim_free(p);
	}
	return p; /* in the bin */
}

static void *free_kept(void *unused)
{
	(void)unused;
	for (unsigned i = 0; i < 64; i++)
		shim_free(kept[i]);
	return NULL;
}

/* After the slabs are cordoned one call of the thread, of any kind, is the last that finds
 * objects of the block in its caches: the bound of vacate.h. */
Test(vacate, one_call_is_the_bound, .timeout = TIME_BOUND_S)
{
	static size_t other_sizes[] = {16, 900, 5000, 2 * MEDIUM_MAX};
	static struct stepper stepper;

	test_config.decay_ns = DECAY_FOREVER_NS;
	stepper_start(&stepper);
	for (size_t i = 0; i < NR_SIZES * 8; i++) {
		size_t size = sizes[i / 8], other = other_sizes[i % 8 / 2];
		void *p = step(&stepper, do_malloc, &other), *q = NULL;
		pfn_t pfn = block_of(step(&stepper, fill_and_keep, &size));
		uint32_t owner;

		EXPECT(nr_cached_in(stepper.heap, pfn, BLOCK) > 0, "nothing to leave");
		owner = cordon(pfn);
		EXPECT(nr_cached_in(stepper.heap, pfn, BLOCK) > 0, "taken from a thread");
		if (i % 2 == 0)
			q = step(&stepper, do_malloc, &other);
		else
			step(&stepper, do_free, p);
		EXPECT(nr_cached_in(stepper.heap, pfn, BLOCK) == 0,
		       "size %zu, %s of %zu: %u objects stay", size,
		       i % 2 == 0 ? "malloc" : "free", other,
		       nr_cached_in(stepper.heap, pfn, BLOCK));
		EXPECT(q == NULL || !is_in(q, pfn, BLOCK), "served from the block");
		/* From here on it goes on in other blocks, whatever it frees there. */
		step(&stepper, free_kept, NULL);
		EXPECT(nr_cached_in(stepper.heap, pfn, BLOCK) == 0, "cached again");
		step(&stepper, fill_and_keep, &size);
		for (unsigned k = 0; k < 64; k++)
			EXPECT(!is_in(kept[k], pfn, BLOCK), "served from the block");
		step(&stepper, free_kept, NULL);
		step(&stepper, do_free, i % 2 == 0 ? p : NULL);
		step(&stepper, do_free, q);
		uncordon(pfn, owner);
		shim_check();
	}
	stepper_end(&stepper);
	expect_nothing_kept();
}

/* A thread that allocates and frees in turn while others want its block. */
static _Atomic bool stop;
static _Atomic(void *) latest;

static void *alternate(void *size)
{
	while (!atomic_load(&stop)) {
		void *p = shim_malloc(*(size_t *)size);

		atomic_store(&latest, p);
		shim_free(p);
	}
	return NULL;
}

Test(vacate, a_block_is_had_from_under_an_alternating_thread, .timeout = TIME_BOUND_S)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t size = sizes[i];
		pthread_t thread;

		atomic_store(&stop, false);
		atomic_store(&latest, NULL);
		thread_start(&thread, alternate, &size);
		while (atomic_load(&latest) == NULL)
			os_yield();
		for (unsigned round = 0; round < 16; round++) {
			pfn_t pfn = block_of(atomic_load(&latest));
			int err = contig_alloc_range(pfn, BLOCK, CONTIG_HARD,
						     os_now_ns() + 20000000000u);

			EXPECT(err == 0, "size %zu, round %u: %d", size, round, err);
			EXPECT(contig_free(pfn, BLOCK) == 0, "free");
		}
		atomic_store(&stop, true);
		thread_join(thread);
	}
	expect_nothing_kept();
}

/* --- caches of every kind ----------------------------------------------------------------- */

static void *many[3000];

static void *alloc_many(void *size)
{
	for (size_t i = 0; i < 3000; i++)
		many[i] = shim_malloc(*(size_t *)size);
	return NULL;
}

static void *free_third(void *first)
{
	for (size_t i = (size_t)(uintptr_t)first; i < 3000; i += 3)
		shim_free(many[i]);
	return NULL;
}

/* In a warm heap without a thread, in a running thread's outgoing slots, in this thread's
 * bins and in an inbox: nothing is live, so every block is empty when the thread has answered. */
Test(vacate, whatever_is_cached_leaves, .timeout = TIME_BOUND_S)
{
	static struct stepper stepper;
	static size_t nothing = 1;

	test_config.decay_ns = DECAY_FOREVER_NS;
	shim_free(shim_malloc(1));
	stepper_start(&stepper);
	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t size = sizes[i];
		pfn_t first = UINT64_MAX, last = 0;

		if (i % 2 == 0)
			on_thread(alloc_many, &size);
		else
			alloc_many(&size);
		for (size_t k = 0; k < 3000; k++) {
			pfn_t pfn = block_of(many[k]);

			first = pfn < first ? pfn : first;
			last = pfn > last ? pfn : last;
		}
		on_thread(free_third, (void *)0);
		step(&stepper, free_third, (void *)1);
		free_third((void *)2);
		for (pfn_t pfn = first; pfn <= last; pfn += BLOCK) {
			uint32_t owner = cordon(pfn);

			step(&stepper, do_free, step(&stepper, do_malloc, &nothing));
			pcp_drain_all();
			EXPECT(isolate_test(pfn, BLOCK), "size %zu: block %llu of %llu is in use",
			       size, (unsigned long long)((pfn - first) / BLOCK),
			       (unsigned long long)((last - first) / BLOCK + 1));
			uncordon(pfn, owner);
		}
		shim_check();
	}
	stepper_end(&stepper);
	expect_nothing_kept();
}

/* --- undo --------------------------------------------------------------------------------- */

Test(vacate, undo_leaves_all_as_it_was, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = shim_malloc(sizes[i]), *q = shim_malloc(sizes[i]);
		struct slab *s = slab_of(p);
		struct bin *b = slab_bin(s, heap_current);
		struct core_stats before, after;
		unsigned list;
		int err;

		heap_drain_all();
		list = s->list;
		core_stats_read(&before);
		err = contig_alloc_range(block_of(p), BLOCK, 0, 0);
		EXPECT(err == -EBUSY, "size %zu: %d", sizes[i], err);
		err = contig_alloc_range(block_of(p), BLOCK, CONTIG_HARD, os_now_ns() + 20000000);
		EXPECT(err == -ETIMEDOUT, "size %zu: %d", sizes[i], err);
		core_stats_read(&after);
		EXPECT(slab_flags(s) == 0 && s->list == list, "size %zu: not as before", sizes[i]);
		EXPECT(arena_base() + atomic_load(arena_entry(p)) == (char *)b, "still cold");
		EXPECT(!slabs_any_cordoned(s->cls), "counts as cordoned");
		EXPECT(before.free_pages == after.free_pages && after.isolated_free_pages == 0 &&
			       before.allocated_pages == after.allocated_pages,
		       "size %zu: pages went", sizes[i]);
		shim_free(p);
		shim_free(q);
		shim_check();
	}
	expect_nothing_kept();
}

/* The end of a vacation comes when somebody else has begun one: his cordon stays. */
Test(vacate, a_late_end_opens_nothing_of_others, .timeout = TIME_BOUND_S)
{
	void *p = shim_malloc(64);
	struct slab *s = slab_of(p);
	pfn_t pfn = block_of(p);
	uint32_t owner = cordon(pfn), other = isolate_owner();
	int err = isolate_undo(pfn, BLOCK, owner);

	EXPECT(err == 0 && isolate_range(pfn, BLOCK, other) == 0, "isolation");
	(void)vacate_range(pfn, BLOCK, 0);
	vacate_end(pfn, BLOCK);
	EXPECT(slab_flags(s) == SLAB_CORDONED, "opened by who has lost it");
	uncordon(pfn, other);
	EXPECT(slab_flags(s) == 0, "still cordoned");
	shim_free(p);
	expect_nothing_kept();
}

/* --- placement ---------------------------------------------------------------------------- */

static void *exit_with_slab(void *size)
{
	void *p = shim_malloc(*(size_t *)size);

	shim_free(shim_malloc(*(size_t *)size));
	return p;
}

/* Neither the heap's own slab, nor one to be adopted, nor pages in a cache. */
Test(vacate, new_placements_avoid_the_range, .timeout = TIME_BOUND_S)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t size = sizes[i];
		void *own = shim_malloc(size), *theirs, *run = shim_malloc(2 * MEDIUM_MAX);
		static void *fresh[6000];
		size_t nr = 6000 / (i + 1);
		pthread_t thread;
		pfn_t at[2];
		uint32_t owner[2];

		thread_start(&thread, exit_with_slab, &size);
		EXPECT(pthread_join(thread, &theirs) == 0, "join");
		shim_free(run); /* into the cache of page runs */
		at[0] = block_of(own);
		at[1] = block_of(theirs);
		owner[0] = cordon(at[0]);
		owner[1] = at[1] != at[0] ? cordon(at[1]) : 0;
		for (size_t k = 0; k < nr; k++) {
			fresh[k] = shim_malloc(size);
			EXPECT(!is_in(fresh[k], at[0], BLOCK) && !is_in(fresh[k], at[1], BLOCK),
			       "size %zu: placed in a cordoned block", size);
		}
		run = shim_malloc(2 * MEDIUM_MAX);
		EXPECT(!is_in(run, at[0], BLOCK) || block_of(run) != at[0], "a run");
		shim_free(run);
		for (size_t k = 0; k < nr; k++)
			shim_free(fresh[k]);
		uncordon(at[0], owner[0]);
		if (at[1] != at[0])
			uncordon(at[1], owner[1]);
		shim_free(own);
		shim_free(theirs);
		shim_check();
	}
	expect_nothing_kept();
}

Test(vacate, realloc_moves_out, .timeout = TIME_BOUND_S)
{
	static const size_t all[] = {16, 1000, SMALL_MAX + 1, MEDIUM_MAX, MEDIUM_MAX + 1,
				     PAGEBLOCK_BYTES, 3 * PAGEBLOCK_BYTES + 1};

	for (size_t i = 0; i < 3 * sizeof(all) / sizeof(all[0]); i++) {
		struct block b = {.size = all[i / 3]};
		/* The same, less, more. */
		size_t size = i % 3 == 0 ? b.size : i % 3 == 1 ? b.size - b.size / 8
							       : b.size + b.size / 8;
		unsigned char *to;
		pfn_t pfn;
		uint32_t owner;

		b.p = shim_malloc(b.size);
		block_fill(&b, b.size, i);
		to = shim_realloc(b.p, b.size);
		EXPECT(to == b.p, "size %zu: moved for nothing", b.size);
		pfn = block_of(b.p + b.size - 1);
		owner = cordon(pfn);
		to = shim_realloc(b.p, size);
		EXPECT(to != NULL && !is_in(to, pfn, BLOCK), "size %zu to %zu: stays", b.size, size);
		block_verify(&b, to, size < b.size ? size : b.size);
		pcp_drain_all();
		EXPECT(isolate_test(pfn, BLOCK), "size %zu: the block is in use", b.size);
		uncordon(pfn, owner);
		shim_free(to);
		shim_check();
	}
	expect_nothing_kept();
}

/* --- fork --------------------------------------------------------------------------------- */

static void in_child(void *p)
{
	shim_check();
	EXPECT(slab_flags(slab_of(p)) == 0, "still cordoned");
	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		EXPECT(!slabs_any_cordoned(cls), "class %u counts as cordoned", cls);
	shim_free(p);
	shim_check();
	_exit(0);
}

Test(vacate, a_child_has_no_cordons, .timeout = TIME_BOUND_S)
{
	void *p = shim_malloc(64);
	uint32_t owner;
	int status;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	owner = cordon(block_of(p));
	status = run_in_child(in_child, p);
	EXPECT(status == 0, "the child: %d", status);
	EXPECT(slab_flags(slab_of(p)) == SLAB_CORDONED, "not in the parent");
	uncordon(block_of(p), owner);
	shim_free(p);
	expect_nothing_kept();
}

/* --- under load --------------------------------------------------------------------------- */

#define NR_CHURNERS 4
static _Atomic(void *) hands[64];

static void *churn(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};
	struct block mine[200] = {{NULL, 0, 0, 0}};

	while (!atomic_load(&stop)) {
		struct block *b = &mine[rng_below(&rng, 200)];

		if (b->p != NULL)
			block_free(b);
		b->size = rng_size(&rng, 2 * MEDIUM_MAX);
		b->p = shim_malloc(b->size);
		block_fill(b, b->size, rng_next(&rng));
		shim_free(atomic_exchange(&hands[rng_below(&rng, 64)],
					  shim_malloc(rng_size(&rng, SMALL_MAX))));
		if (rng_below(&rng, 4096) == 0) {
			shim_thread_exit();
			heap_thread_state = THREAD_STARTED;
		}
	}
	for (size_t i = 0; i < 200; i++)
		if (mine[i].p != NULL)
			block_free(&mine[i]);
	return NULL;
}

/* Blocks are asked for from under threads that use them; whether they are had or not,
 * nothing is lost and nothing stays cordoned. */
Test(vacate, blocks_are_asked_for_under_load, .timeout = TIME_BOUND_S)
{
	pthread_t threads[NR_CHURNERS];
	uint64_t seed = seed_begin("vacate/blocks_are_asked_for_under_load", 0);
	struct rng rng = {seed};
	unsigned nr_had = 0, nr = 3000 / SLOWNESS;

	shim_init();
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < NR_CHURNERS; i++)
		thread_start(&threads[i], churn, (void *)(seed + i));
	for (unsigned i = 0; i < nr; i++) {
		void *p = shim_malloc(rng_size(&rng, MEDIUM_MAX));
		pfn_t pfn = block_of(p);
		bool hard = rng_below(&rng, 2) != 0;

		shim_free(p);
		if (contig_alloc_range(pfn, BLOCK, hard ? CONTIG_HARD : 0,
				       hard ? os_now_ns() + 2000000 : 0) == 0) {
			memset(pfn_to_addr(pfn), 0xa5, BLOCK * PAGE_BYTES);
			EXPECT(contig_free(pfn, BLOCK) == 0, "free");
			nr_had++;
		}
		if (i % 256 == 0)
			shim_check();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < NR_CHURNERS; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < 64; i++)
		shim_free(atomic_exchange(&hands[i], NULL));
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			EXPECT(h->classes[cls].lists[LIST_CORDONED] == NULL, "still cordoned");
	(void)nr_had;
	expect_nothing_kept();
}
