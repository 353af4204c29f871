/* Cold slabs, whose frees leave the fast path, and diverted heaps, whose threads do. */
#include "shim/divert.h"

#include "shim/slabs.h"
#include "tests/shim/support.h"

#include <semaphore.h>
#include <string.h>
#include <unistd.h>

/* --- cold slabs ------------------------------------------------------------------------ */

static void set_flags(struct slab *s, unsigned flags)
{
	struct heap *h = slab_heap(s);

	lock_acquire(&h->lock, LOCK_HEAP);
	slab_set_flags(s, flags);
	slabs_update(&h->classes[s->cls], s);
	lock_release(&h->lock, LOCK_HEAP);
}

/* What the table says of every granule of a slab. */
static void expect_entries(struct slab *s, const void *bin)
{
	size_t nr_bytes = class_info[s->cls].nr_granules * GRANULE_BYTES;

	for (size_t at = 0; at < nr_bytes; at += GRANULE_BYTES) {
		uint32_t entry = atomic_load(arena_entry(s->start + at));

		EXPECT(bin == NULL ? entry == 0 : arena_base() + entry == bin,
		       "entry %u at offset %zu of a slab of class %u", entry, at, s->cls);
	}
}

static const size_t sizes[] = {1, 64, 1000, SMALL_MAX, SMALL_MAX + 1, 9000, MEDIUM_MAX};
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void *free_one(void *p)
{
	shim_free(p);
	return NULL;
}

Test(divert, a_cold_slab_caches_as_others_do, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = shim_malloc(sizes[i]), *q = shim_malloc(sizes[i]);
		struct slab *s = slab_of(p);
		struct bin *b = slab_bin(s, heap_current);

		expect_entries(s, b);
		set_flags(s, SLAB_SAMPLED);
		expect_entries(s, NULL);
		EXPECT(shim_usable_size(p) == class_info[s->cls].bytes, "size %zu", sizes[i]);
		shim_free(p);
		EXPECT((void *)b->head == p, "size %zu: not in the bin", sizes[i]);
		EXPECT(shim_malloc(sizes[i]) == p, "size %zu: not handed out", sizes[i]);
		on_thread(free_one, p);
		shim_check();
		set_flags(slab_of(q), 0);
		if (slab_of(q) == s)
			expect_entries(s, b);
		shim_free(q);
	}
	expect_nothing_kept();
}

Test(divert, a_cordoned_slab_hands_out_nothing, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *first = shim_malloc(sizes[i]), *kept[4096];
		struct slab *s = slab_of(first);
		unsigned nr = 0;

		set_flags(s, SLAB_CORDONED);
		expect_entries(s, NULL);
		heap_drain_all();
		EXPECT(s->list == LIST_CORDONED || s->nr_free == 0, "size %zu: still listed", sizes[i]);
		for (; nr < 4096 && nr < 2u * s->nr_objects; nr++) {
			kept[nr] = shim_malloc(sizes[i]);
			EXPECT(slab_of(kept[nr]) != s, "size %zu: served from it", sizes[i]);
		}
		shim_check();
		EXPECT(slab_heap(s) == heap_current, "size %zu: gone too early", sizes[i]);
		if (i % 2 == 0)
			shim_free(first);
		else
			on_thread(free_one, first);
		EXPECT(slab_heap(s) != heap_current || s->start != first || slab_flags(s) == 0,
		       "size %zu: not given back when it is empty", sizes[i]);
		while (nr > 0)
			shim_free(kept[--nr]);
	}
	expect_nothing_kept();
}

/* Each object that is cached when the slab is cordoned is handed out once more at most. */
Test(divert, alternating_in_a_cordoned_slab_ends, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = shim_malloc(sizes[i]), *stays = shim_malloc(sizes[i]);
		struct slab *s = slab_of(stays);
		unsigned rounds = 0, most = s->nr_objects + 1u;

		set_flags(s, SLAB_CORDONED);
		for (; slab_of(p) == s; rounds++) {
			EXPECT(rounds < most, "size %zu: %u rounds", sizes[i], rounds);
			shim_free(p);
			p = shim_malloc(sizes[i]);
		}
		EXPECT(slab_heap(s) == heap_current && slab_flags(s) == SLAB_CORDONED, "gone");
		shim_free(stays);
		shim_free(p);
	}
	expect_nothing_kept();
}

static void double_free(void *arg)
{
	void *p = shim_malloc(*(size_t *)arg), *q = shim_malloc(*(size_t *)arg);

	set_flags(slab_of(p), SLAB_CORDONED);
	shim_free(p);
	shim_free(p);
	shim_free(q);
}

static void interior(void *arg)
{
	char *p = shim_malloc(*(size_t *)arg);

	set_flags(slab_of(p), SLAB_CORDONED);
	shim_free(p + 8);
}

Test(divert, misuse_of_cold_slabs_is_named, .timeout = TIME_BOUND_S)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t size = sizes[i];

		EXPECT(dies_saying(double_free, &size, "double free"), "size %zu", size);
		EXPECT(dies_saying(interior, &size, "which is inside a block of"), "size %zu",
		       size);
	}
}

#if PB_DEBUG >= 1
static void create_twice(void *unused)
{
	struct heap *h;
	struct slab *s;

	(void)unused;
	/* The first page of all that is handed out. */
	s = slab_of(shim_malloc(SMALL_MAX));
	h = slab_heap(s);
	(void)slab_create(s->start, s->cls, h);
}

static void create_over_an_entry(void *unused)
{
	pfn_t pfn;

	(void)unused;
	shim_init();
	pfn = zone_alloc(GRANULE_PAGES, GRANULE_ORDER, MIGRATE_UNMOVABLE, NULL);
	atomic_store(arena_entry(pfn_to_addr(pfn)), 4096);
	(void)slab_create(pfn_to_addr(pfn), 0, &heap_null);
}

/* R7: plain writes to metadata that somebody else can see stop the program, from the very
 * first page on. */
Test(divert, plain_writes_are_to_what_nobody_sees, .timeout = TIME_BOUND_S)
{
	EXPECT(dies_saying(create_twice, NULL, "is_private"), "a visible header");
	EXPECT(dies_saying(create_over_an_entry, NULL, "is_private"), "a visible entry");
}
#endif

/* --- diverted heaps --------------------------------------------------------------------- */

/* Objects in the bins, but for those of a class. */
static uint32_t nr_cached(const struct heap *h, unsigned but_for)
{
	uint32_t nr = 0;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		for (struct object *o = h->bins[cls].head; o != NULL; o = o->next)
			nr += cls != but_for;
	return nr;
}

static void fill_bins(void)
{
	void *many[64];

	for (size_t i = 0; i < NR_SIZES; i++) {
		for (unsigned k = 0; k < 64; k++)
			many[k] = shim_malloc(sizes[i]);
		for (unsigned k = 0; k < 64; k++)
			shim_free(many[k]);
	}
}

static void expect_undiverted(const struct heap *h)
{
	EXPECT(!heap_is_asked(h), "not answered");
	for (size_t size = 0; size <= SMALL_MAX; size++)
		EXPECT(h->bin_of_size[size] == class_of(size) * BIN_STEPS, "size %zu", size);
	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		EXPECT(h->gates[cls].owner == (cls < NR_SMALL_CLASSES ? thread_pointer() : 0),
		       "owner of bin %u", cls);
}

/* One call of any kind, whatever its size, is enough. */
Test(divert, the_next_call_settles, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	static const size_t all[] = {1, 500, SMALL_MAX, SMALL_MAX + 1, MEDIUM_MAX,
				     MEDIUM_MAX + 1, PAGEBLOCK_BYTES};

	for (size_t i = 0; i < 2 * sizeof(all) / sizeof(all[0]); i++) {
		size_t size = all[i / 2];
		void *p = shim_malloc(size);
		struct heap *h = heap_current;

		fill_bins();
		EXPECT(nr_cached(h, NR_CLASSES) > 0, "nothing is cached");
		divert_heap(h, DIVERT_SETTLE);
		if (i % 2 == 0) {
			shim_free(p);
			p = NULL;
		} else {
			void *q = shim_malloc(size);

			shim_free(p);
			p = q;
		}
		expect_undiverted(h);
		EXPECT(nr_cached(h, size > MEDIUM_MAX ? NR_CLASSES : class_of(size)) == 0,
		       "size %zu: objects are still cached", size);
		shim_check();
		shim_free(p);
	}
	expect_nothing_kept();
}

static _Atomic bool stop;

static void *churn(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};
	struct block mine[256] = {{NULL, 0, 0, 0}};

	while (!atomic_load(&stop)) {
		struct block *b = &mine[rng_below(&rng, 256)];

		if (b->p != NULL)
			block_free(b);
		b->size = rng_size(&rng, 2 * MEDIUM_MAX);
		b->p = shim_malloc(b->size);
		block_fill(b, b->size, rng_next(&rng));
	}
	for (size_t i = 0; i < 256; i++)
		if (mine[i].p != NULL)
			block_free(&mine[i]);
	return NULL;
}

static _Atomic(void *) hands[64];

static void *pass_on(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};

	while (!atomic_load(&stop)) {
		void *p = shim_malloc(rng_size(&rng, MEDIUM_MAX));

		shim_free(atomic_exchange(&hands[rng_below(&rng, 64)], p));
	}
	return NULL;
}

static void *come_and_go(void *arg)
{
	while (!atomic_load(&stop)) {
		fill_bins();
		shim_thread_exit();
		heap_thread_state = THREAD_STARTED;
	}
	return arg;
}

Test(divert, heaps_are_diverted_while_they_work, .timeout = TIME_BOUND_S)
{
	pthread_t threads[4];

	shim_init();
	for (uintptr_t i = 0; i < 4; i++)
		thread_start(&threads[i], i == 0 ? come_and_go : i == 1 ? churn : pass_on,
			     (void *)i);
	for (unsigned i = 0; i < 4000 / SLOWNESS; i++) {
		for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
			divert_heap(h, DIVERT_SETTLE);
		if (i % 64 == 0)
			shim_check();
		os_yield();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < 64; i++)
		shim_free(hands[i]);
	expect_nothing_kept();
}

/* A thread that ends before it answered leaves a heap like any other. */
static void *leave_diverted(void *unused)
{
	struct heap *h;

	(void)unused;
	fill_bins();
	h = heap_current;
	divert_heap(h, DIVERT_SETTLE);
	shim_thread_exit();
	EXPECT(!heap_is_asked(h) && nr_cached(h, NR_CLASSES) == 0, "left with objects");
	return h;
}

static void *take_over(void *unused)
{
	(void)unused;
	shim_free(shim_malloc(1));
	expect_undiverted(heap_current);
	return NULL;
}

Test(divert, a_thread_ends_unanswered, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	on_thread(leave_diverted, NULL);
	on_thread(take_over, NULL);
	expect_nothing_kept();
}

struct sleeper {
	struct heap *heap;
	sem_t ready, go;
};

static void *sleep_with_a_heap(void *arg)
{
	struct sleeper *sleeper = arg;

	fill_bins();
	sleeper->heap = heap_current;
	sem_post(&sleeper->ready);
	while (sem_wait(&sleeper->go) != 0)
		;
	return NULL;
}

#define NOT_YET_NS (UINT64_MAX / 2)

/* Blocks of one of 16 small sizes of 16 find the trap, others do not; medium ones do after a while. */
Test(divert, a_trap_is_for_some_sizes, .timeout = TIME_BOUND_S)
{
	test_config.decay_ns = DECAY_FOREVER_NS;
	fill_bins();
	for (size_t size = 1; size <= SMALL_MAX; size++)
		shim_free(shim_malloc(size));
	for (unsigned which = 0; which < NR_TRAPS; which++) {
		struct heap *h = heap_current;

		h->lingered_ns = NOT_YET_NS;
		divert_trap(h, which);
		for (size_t size = 1; size <= 2 * NR_TRAPS * ALIGN_MIN; size++) {
			bool found = (size - 1) / ALIGN_MIN % NR_TRAPS == which;

			EXPECT(heap_requests(h) == DIVERT_TRAPPED && !heap_is_asked(h),
			       "trap %u is gone at size %zu", which, size);
			shim_free(shim_malloc(size));
			EXPECT((heap_requests(h) == 0) == found, "trap %u, size %zu", which,
			       size);
			divert_trap(h, which);
		}
		shim_free(shim_malloc(SMALL_MAX + 1));
		EXPECT(heap_requests(h) == DIVERT_TRAPPED, "a medium size finds it at once");
		h->lingered_ns = 0;
		shim_free(shim_malloc(SMALL_MAX + 1));
		EXPECT(heap_requests(h) == 0, "a medium size never finds it");
	}
	expect_undiverted(heap_current);
}

/* Whoever asks for more gets it at once. */
Test(divert, a_trap_is_in_nobodys_way, .timeout = TIME_BOUND_S)
{
	void *p;

	test_config.decay_ns = DECAY_FOREVER_NS;
	fill_bins();
	heap_current->lingered_ns = NOT_YET_NS;
	divert_trap(heap_current, 1);
	divert_heap(heap_current, DIVERT_SETTLE);
	EXPECT(heap_is_asked(heap_current), "it is not asked");
	divert_trap(heap_current, 2);
	p = shim_malloc(1);
	expect_undiverted(heap_current);
	shim_free(p);
	divert_trap(heap_current, NR_TRAPS);
	shim_free(shim_malloc(1));
	EXPECT(heap_requests(heap_current) == DIVERT_TRAPPED, "no size leads to it");
	heap_current->lingered_ns = 0;
	heap_answer();
	expect_undiverted(heap_current);
}

static void work_in_child(void *arg)
{
	(void)arg;
	shim_check();
	shim_free(shim_malloc(1));
	expect_undiverted(heap_current);
	if (!UNDER_TSAN)
		on_thread(take_over, NULL);
	shim_trim();
	_exit(0);
}

/* Both the forking thread's heap and that of one which sleeps are diverted. */
Test(divert, fork_finds_diverted_heaps, .timeout = TIME_BOUND_S)
{
	static struct sleeper sleeper;
	pthread_t thread;
	int status;

	test_config.decay_ns = DECAY_FOREVER_NS;
	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	sem_init(&sleeper.ready, 0, 0);
	sem_init(&sleeper.go, 0, 0);
	thread_start(&thread, sleep_with_a_heap, &sleeper);
	while (sem_wait(&sleeper.ready) != 0)
		;
	fill_bins();
	divert_heap(sleeper.heap, DIVERT_SETTLE);
	divert_heap(heap_current, DIVERT_SETTLE);
	status = run_in_child(work_in_child, NULL);
	EXPECT(status == 0, "the child: %d", status);
	EXPECT(heap_is_asked(sleeper.heap), "a sleeping thread has answered");
	sem_post(&sleeper.go);
	thread_join(thread);
}
