/* Sites: who gets a place of its own, and that nobody else pays for it. */
#include "shim/sites.h"

#include "preload/sited.h"
#include "shim/slab.h"
#include "tests/shim/support.h"

#include <string.h>
#include <unistd.h>

#define FROM_BYTES ((size_t)4 << 20)
#define BLOCKS_MAX 400000u
static void *blocks[BLOCKS_MAX];

static const uintptr_t no_stack[64];

static struct sites_stats sites_now(void)
{
	struct sites_stats stats;

	sites_stats_read(&stats);
	return stats;
}

/* A block for a made-up return address; no stack to look through. */
static void *alloc_at(uintptr_t site, size_t size)
{
	void *p = sites_malloc(size, &(struct sites_caller){site, no_stack, 0, false});

	EXPECT(p != NULL, "no memory");
	return p;
}

static unsigned place_of(const void *p)
{
	return slab_heap(slab_of(p))->place;
}

static void start(void)
{
	shim_free(shim_malloc(1));
	EXPECT(sites_make_table(), "no table");
	sites_init(FROM_BYTES);
}

/* Grows by nr_bytes of blocks of one size, every tenth of them from another site. */
static unsigned grow(size_t nr_bytes, size_t size, uintptr_t most, uintptr_t tenth)
{
	unsigned nr = (unsigned)(nr_bytes / size);

	EXPECT(nr <= BLOCKS_MAX, "%u blocks", nr);
	for (unsigned i = 0; i < nr; i++)
		blocks[i] = alloc_at(i % 10 == 0 ? tenth : most, size);
	return nr;
}

Test(sites, nothing_is_kept_apart_in_a_small_heap, .timeout = TIME_BOUND_S)
{
	unsigned nr;

	start();
	nr = grow(FROM_BYTES - (1 << 20), 128, 0x401000, 0x402000);
	for (unsigned i = 0; i < nr; i++) {
		EXPECT(place_of(blocks[i]) == PLACE_ANY, "block %u is in place %u", i,
		       place_of(blocks[i]));
		shim_free(blocks[i]);
	}
	EXPECT(sites_now().nr_places == 0, "%u places", sites_now().nr_places);
	expect_nothing_kept();
}

/* The survivors of one site do not share a page with what the other leaves. */
Test(sites, two_sites_part, .timeout = TIME_BOUND_S)
{
	unsigned nr, apart = 0;
	unsigned place;

	start();
	nr = grow(4 * FROM_BYTES, 128, 0x401000, 0x402000);
	place = place_of(blocks[nr - nr % 10 - 10]);
	EXPECT(place != PLACE_ANY, "the tenth has no place");
	for (unsigned i = nr / 2; i < nr; i++)
		apart += place_of(blocks[i]) == PLACE_WATCHED ||
			 (place_of(blocks[i]) == place) == (i % 10 == 0);
	EXPECT(apart == nr - nr / 2, "%u of %u blocks are where they belong", apart,
	       nr - nr / 2);
	for (unsigned i = 0; i < nr; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* What keeping apart may cost is bounded: many classes in a heap that has just begun, most of
 * which both sites are known to ask for. */
Test(sites, many_classes_wait_for_a_larger_heap, .timeout = TIME_BOUND_S)
{
	size_t bytes = 0;
	unsigned nr = 0;

	start();
	for (; bytes < FROM_BYTES + FROM_BYTES / 4; nr++) {
		size_t size = 1 + nr * 769u % SMALL_MAX;

		blocks[nr] = alloc_at(nr / 3 % 2 == 0 ? 0x401000 : 0x402000, size);
		bytes += size;
	}
	EXPECT(sites_now().nr_places == 0, "%u places at %zu bytes", sites_now().nr_places,
	       bytes);
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}

/* Twice as many heavy sites as places, all of them short lived: they share. */
Test(sites, places_of_sites_that_live_alike_are_merged, .timeout = TIME_BOUND_S)
{
	struct sites_stats stats;

	start();
	for (unsigned i = 0; i < 10000; i++)
		blocks[i] = alloc_at(0x300000, 1024);
	for (unsigned round = 0; round < 40 / SLOWNESS + 20; round++) {
		for (unsigned i = 10000; i < 40000; i++)
			blocks[i] = alloc_at(0x400000 + (i / 100 % 28) * 0x1004, 512);
		for (unsigned i = 10000; i < 40000; i++)
			shim_free(blocks[i]);
	}
	stats = sites_now();
	EXPECT(stats.nr_merges > 0, "no places were merged");
	EXPECT(stats.nr_places <= 1, "%u places", stats.nr_places);
	for (unsigned i = 0; i < 10000; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* --- against it ------------------------------------------------------------------------ */

Test(sites, ten_thousand_sites, .timeout = TIME_BOUND_S)
{
	struct sites_stats stats;
	unsigned nr = BLOCKS_MAX / SLOWNESS;

	start();
	for (unsigned i = 0; i < nr; i++)
		blocks[i] = alloc_at(0x400000 + i * 7919u % 10000 * 16, 16 + i % 256);
	stats = sites_now();
	EXPECT(stats.nr_sites <= 256, "%u sites are known", stats.nr_sites);
	EXPECT(stats.nr_replaced > 0, "none was forgotten");
	EXPECT(stats.nr_places <= 2, "%u places for sites that are all alike", stats.nr_places);
	shim_check();
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}

/* --- companions ------------------------------------------------------------------------- */

/*
 * Of twenty blocks of one class three each are two sites' that ask in turns, and fourteen are
 * others'.  Whether all that the two have asked for lately lies in one place that the others are
 * not in; nr: how many of that.
 */
static unsigned companions_apart(unsigned nr_blocks, unsigned nr_of_b, unsigned *nr)
{
	unsigned place = PLACE_ANY, apart = 0;

	for (unsigned i = 0; i < nr_blocks; i++) {
		unsigned k = i % 20;
		bool of_a = k < 6 && k % 2 == 0, of_b = k < 2 * nr_of_b && k % 2 == 1;

		blocks[i] = alloc_at(of_a ? 0x401000 : of_b ? 0x402000 : 0x403000, 128);
		if (i < nr_blocks / 4 * 3 || !(of_a || of_b) ||
		    place_of(blocks[i]) == PLACE_WATCHED)
			continue;
		if (*nr == 0)
			place = place_of(blocks[i]);
		(*nr)++;
		apart += place == PLACE_ANY || place_of(blocks[i]) != place;
	}
	return apart;
}

Test(sites, companions_stay_together, .timeout = TIME_BOUND_S)
{
	unsigned nr_blocks = 250000, nr = 0, apart;

	start();
	apart = companions_apart(nr_blocks, 3, &nr);
	EXPECT(sites_now().nr_places == 1, "%u places", sites_now().nr_places);
	EXPECT(nr > nr_blocks / 16 && apart == 0, "%u of %u blocks are not where the others are",
	       apart, nr);
	shim_check();
	for (unsigned i = 0; i < nr_blocks; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* Sites of which one asks for a third of what the other does have nothing to do with each other. */
Test(sites, sites_of_unequal_numbers_are_no_companions, .timeout = TIME_BOUND_S)
{
	unsigned nr_blocks = 250000, nr = 0;

	start();
	(void)companions_apart(nr_blocks, 1, &nr);
	EXPECT(sites_now().nr_places == 2, "%u places", sites_now().nr_places);
	for (unsigned i = 0; i < nr_blocks; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* Sites that ask in turns find the bin empty in turns: all are known, though only a refill is
 * seen, and one batch is as long as sixteen or four rounds. */
Test(sites, sites_that_ask_in_turns_are_all_seen, .timeout = TIME_BOUND_S)
{
	enum { NR_TURNS = 32, NR = 128 * 32 * 40 };

	shim_free(shim_malloc(1));
	EXPECT(sites_make_table(), "no table");
	sites_init(SIZE_MAX);
	for (unsigned i = 0; i < NR; i++)
		blocks[i] = alloc_at(0x400000 + i % NR_TURNS * 0x1004, 64);
	EXPECT(sites_now().nr_sites == NR_TURNS, "%u of %u sites are known",
	       sites_now().nr_sites, (unsigned)NR_TURNS);
	for (unsigned i = 0; i < NR; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* --- lifetimes ------------------------------------------------------------------------- */

/*
 * Peaks of two sites' blocks: what one asks for goes at the end of each, what the other asks
 * for at the end of the next.  The first time nothing tells them apart; from the second on
 * they have no slab in common.
 */
Test(sites, what_outlives_a_peak_is_told_from_what_does_not, .timeout = TIME_BOUND_S)
{
	enum { NR = 100000, NR_PEAKS = 4 };
	void **kept = blocks + NR, **older = blocks + 2 * NR;
	struct sites_stats stats;
	unsigned misplaced = 0;

	start();
	for (unsigned peak = 0; peak < NR_PEAKS; peak++) {
		for (unsigned i = 0; i < NR; i++) {
			bool stays = i % 10 == 0;
			void *p = alloc_at(stays ? 0x402000 : 0x401000, 160);
			bool apart = place_of(p) != PLACE_ANY;

			*(stays ? &kept[i / 10] : &blocks[i]) = p;
			/* A batch may be left in the bin from before it was known. */
			if (peak >= 2 && i >= NR / 4)
				misplaced += place_of(p) != PLACE_WATCHED && apart != stays;
		}
		for (unsigned i = 0; i < NR; i++) {
			if (i % 10 != 0)
				shim_free(blocks[i]);
		}
		for (unsigned i = 0; i < NR / 10; i++) {
			shim_free(older[i]);
			older[i] = kept[i];
		}
	}
	stats = sites_now();
	EXPECT(stats.nr_long == 1 && stats.nr_short == 1, "%u long, %u short", stats.nr_long,
	       stats.nr_short);
	EXPECT(misplaced == 0, "%u are in the wrong place", misplaced);
	EXPECT(stats.nr_died > 100 && stats.nr_born >= stats.nr_died, "%llu of %llu died",
	       (unsigned long long)stats.nr_died, (unsigned long long)stats.nr_born);
	shim_check();
	for (unsigned i = 0; i < NR / 10; i++)
		shim_free(older[i]);
	expect_nothing_kept();
}

/* A block takes the place of one that goes; whether it is in a place that was given to its site. */
static bool replace(struct rng *rng, void **slot, uintptr_t site)
{
	unsigned place;

	shim_free(*slot);
	*slot = alloc_at(site, 16 + rng_below(rng, 500));
	place = place_of(*slot);
	return place != PLACE_ANY && place != PLACE_WATCHED;
}

enum { NR_LONG = 60000, NR_SHORT = 15000 };
static void **const ring = blocks + NR_LONG;

/* Every tenth block is long lived and from a site of its own, and each takes the place of another;
 * how many of these are in a place that was given. */
static unsigned churn(struct rng *rng, unsigned nr_ops)
{
	unsigned moved = 0;

	for (unsigned i = 0; i < NR_LONG; i++)
		(void)replace(rng, &blocks[i], 0x402000);
	for (unsigned i = 0; i < nr_ops; i++) {
		if (i % 10 == 0)
			moved += replace(rng, &blocks[rng_below(rng, NR_LONG)], 0x402000);
		else
			(void)replace(rng, &ring[i % NR_SHORT], 0x401000);
	}
	return moved;
}

/* What is long lived stays where it is, because nobody would use what it left: a place is given
 * only while the heap grows. */
Test(sites, a_heap_that_does_not_grow_is_left_as_it_is, .timeout = TIME_BOUND_S)
{
	enum { NR_OPS = 2000000 / SLOWNESS_MILD };
	struct rng rng = {1};
	unsigned moved;

	start();
	moved = churn(&rng, NR_OPS);
	EXPECT(sites_now().nr_short > 0, "what is short lived is not known");
	EXPECT(moved == 0, "%u of %u blocks are elsewhere", moved, NR_OPS / 10);
	shim_check();
	for (unsigned i = 0; i < NR_LONG + NR_SHORT; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* A heap that does not grow says nothing about old age, and nothing wrong: what is long lived is
 * apart from the others as soon as it grows. */
Test(sites, a_heap_that_stood_still_and_grows, .timeout = TIME_BOUND_S)
{
	enum { NR_MORE = 200000 };
	void **more = ring + NR_SHORT;
	struct rng rng = {1};
	unsigned misplaced = 0;

	start();
	(void)churn(&rng, 2000000 / SLOWNESS_MILD);
	EXPECT(sites_now().nr_short == 1, "%u short lived sites", sites_now().nr_short);
	for (unsigned i = 0; i < NR_MORE; i++) {
		bool stays = i % 10 == 0;
		bool apart = replace(&rng, &more[i], stays ? 0x402000 : 0x401000);

		if (i >= NR_MORE / 4)
			misplaced += place_of(more[i]) != PLACE_WATCHED && apart != stays;
	}
	EXPECT(misplaced < NR_MORE / 1000, "%u are in the wrong place", misplaced);
	shim_check();
	for (unsigned i = 0; i < NR_LONG + NR_SHORT + NR_MORE; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

/* Slabs of places that sites are given. */
static unsigned nr_slabs_apart(void)
{
	unsigned nr = 0;

	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		nr += h->place > PLACE_ANY && h->place < PLACE_WRAPPED ? h->nr_slabs : 0;
	return nr;
}

/*
 * A site begins when much is in use, grows, and has a place until it turns out to be short lived.
 * What it leaves there is used up by others, of which none is worth a place.
 */
Test(sites, what_a_left_place_has_is_for_others, .timeout = TIME_BOUND_S)
{
	enum { NR_OPS = 300000, NR_MORE = 30000 };
	void **more = ring + NR_SHORT;
	struct rng rng = {1};
	unsigned most = 0, nr;

	start();
	for (unsigned i = 0; i < NR_LONG; i++)
		(void)replace(&rng, &blocks[i], 0x402000);
	for (unsigned i = 0; i < NR_OPS; i++) {
		(void)replace(&rng, &ring[i % NR_SHORT], 0x401000);
		if (i % (NR_OPS / NR_MORE) == 0)
			(void)replace(&rng, &more[i / (NR_OPS / NR_MORE)],
				      0x500000 + i * 16);
		nr = i % 1000 == 0 ? nr_slabs_apart() : 0;
		most = nr > most ? nr : most;
	}
	EXPECT(most > 32, "%u slabs were apart", most);
	EXPECT(sites_now().nr_short == 1, "%u are short lived", sites_now().nr_short);
	EXPECT(nr_slabs_apart() < most / 4, "%u slabs of %u are left", nr_slabs_apart(), most);
	shim_check();
	for (unsigned i = 0; i < NR_LONG + NR_SHORT + NR_MORE; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

static void *watched_block(void)
{
	for (unsigned i = 0; i < BLOCKS_MAX; i++) {
		blocks[i] = alloc_at(0x401000 + i / 1000 % 4 * 16, 100);
		if (place_of(blocks[i]) == PLACE_WATCHED)
			return blocks[i];
	}
	EXPECT(false, "none is watched");
	return NULL;
}

static void free_twice(void *unused)
{
	void *p;

	(void)unused;
	start();
	p = watched_block();
	shim_free(p);
	shim_free(p);
}

static void *free_it(void *p)
{
	shim_free(p);
	return NULL;
}

/* It is a block like any other, but that its end is seen, by whichever thread. */
Test(sites, a_watched_block_is_a_block, .timeout = TIME_BOUND_S)
{
	char *p, *moved;
	uint64_t nr_died;

	start();
	p = watched_block();
	EXPECT(shim_usable_size(p) == 128, "%zu bytes", shim_usable_size(p));
	memset(p, 0x5a, 100);
	nr_died = sites_now().nr_died;
	moved = shim_realloc(p, 1000);
	EXPECT(moved[0] == 0x5a && moved[99] == 0x5a, "contents");
	EXPECT(sites_now().nr_died == nr_died, "moving is not dying");
	EXPECT(place_of(moved) != PLACE_WATCHED, "moved where it is watched");
	p = watched_block();
	on_thread(free_it, p);
	EXPECT(sites_now().nr_died == nr_died + 1, "a death was not seen");
	EXPECT(dies_saying(free_twice, NULL, "double free"), "freed twice");
}

/* Return addresses that agree in their low bits: said, and nothing breaks. */
Test(sites, collisions_are_counted, .timeout = TIME_BOUND_S)
{
	unsigned nr;

	start();
	nr = grow(4 * FROM_BYTES, 128, 0x401000, 0x402000);
	for (unsigned i = 0; i < 1000; i++)
		shim_free(alloc_at(0x7f0000002000, 100 + i));
	for (unsigned i = 0; i < 1000; i++)
		blocks[nr + i] = alloc_at(0x7f0000002000, 1000);
	EXPECT(sites_now().nr_collisions > 0, "none was seen");
	for (unsigned i = 0; i < nr + 1000; i++)
		shim_free(blocks[i]);
	expect_nothing_kept();
}

Test(sites, a_site_that_alternates_and_phases_that_change, .timeout = TIME_BOUND_S)
{
	struct rng rng = {seed_begin("sites/a_site_that_alternates_and_phases_that_change",
				     nr_ops_of(200))};
	uint64_t nr_rounds = nr_ops_of(200);

	start();
	for (uint64_t round = 0; round < nr_rounds; round++) {
		uintptr_t base = 0x400000 + rng_below(&rng, 64) * 0x1010;

		for (unsigned i = 0; i < 2000; i++) {
			size_t k = rng_below(&rng, BLOCKS_MAX / 8);

			shim_free(blocks[k]);
			blocks[k] = rng_below(&rng, 3) == 0
					    ? NULL
					    : alloc_at(base + rng_below(&rng, 3) * 16,
						       1 + rng_size(&rng, 4000));
		}
		if (round % 32 == 0)
			shim_check();
	}
	for (unsigned k = 0; k < BLOCKS_MAX / 8; k++)
		shim_free(blocks[k]);
	expect_nothing_kept();
}

static void fork_and_go_on(void *unused)
{
	unsigned nr;

	(void)unused;
	nr = grow(4 * FROM_BYTES, 144, 0x401000, 0x402000);
	shim_check();
	while (nr > 0)
		shim_free(blocks[--nr]);
	_exit(sites_now().nr_places == 0);
}

#if !UNDER_TSAN
Test(sites, fork_in_the_middle, .timeout = TIME_BOUND_S)
{
	unsigned nr;
	int status;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	start();
	nr = grow(4 * FROM_BYTES, 128, 0x401000, 0x402000);
	status = run_in_child(fork_and_go_on, NULL);
	EXPECT(status == 0, "the child: %d", status);
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}
#endif

/* --- wrappers -------------------------------------------------------------------------- */

/* A wrapper with a frame of its own, as programs have them. */
static NOINLINE void *xmalloc(size_t size)
{
	volatile size_t kept = size;
	void *p = sites_malloc(size, &SITES_CALLER());

	EXPECT(p != NULL && kept == size, "no memory");
	return p;
}

/* What is between the wrapper and whoever asks. */
static NOINLINE void *wrap(size_t size)
{
	volatile char frame[24];
	void *p;

	frame[0] = (char)size;
	p = xmalloc(size);
	EXPECT(frame[0] == (char)size, "frame");
	return p;
}

static NOINLINE void *ask_short(size_t size)
{
	char *p = wrap(size);

	*p = 1;
	return p;
}

static NOINLINE void *ask_long(size_t size)
{
	char *p = wrap(size);

	*p = 2;
	return p;
}

Test(sites, a_wrapper_is_looked_through, .timeout = TIME_BOUND_S)
{
	unsigned nr = 300000, half = nr / 2, wrong = 0;
	unsigned place;

	start();
	for (unsigned i = 0; i < nr; i++) {
		size_t size = 16 * (1 + i * 7u % 12);

		blocks[i] = i % 10 == 0 ? ask_long(size) : ask_short(size);
	}
	EXPECT(sites_now().nr_wrappers == 1, "%u wrappers", sites_now().nr_wrappers);
	place = place_of(blocks[nr - 10]);
	for (unsigned i = half; i < nr; i++)
		wrong += (place_of(blocks[i]) == place) != (i % 10 == 0);
	EXPECT(wrong < half / 50, "%u of %u blocks are in the wrong place", wrong, half);
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}

/* What a wrapper asks for counts for its callers: that it does not grow is no reason to forget it. */
Test(sites, a_crowd_of_sites_pushes_no_wrapper_out, .timeout = TIME_BOUND_S)
{
	unsigned nr = 300000 / SLOWNESS;

	start();
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < nr; i++) {
			size_t size = 16 * (1 + i * 7u % 12);

			blocks[i] = i % 10 == 0 ? ask_long(size) : ask_short(size);
		}
		EXPECT(sites_now().nr_wrappers == 1, "round %u: %u wrappers", round,
		       sites_now().nr_wrappers);
		while (nr > 0)
			shim_free(blocks[--nr]);
		for (nr = 0; nr < 40000; nr++)
			blocks[nr] = alloc_at(0x500000 + nr % 10000 * 0x1004, 512);
		while (nr > 0)
			shim_free(blocks[--nr]);
		nr = 300000 / SLOWNESS;
	}
	expect_nothing_kept();
}

/* An address that follows a call; another one for each of these functions. */
#define AFTER_CALL(name)                                                                       \
	static uintptr_t after_call_##name;                                                    \
	static NOINLINE void leave_##name(void)                                                \
	{                                                                                      \
		after_call_##name = (uintptr_t)__builtin_return_address(0);                    \
	}                                                                                      \
	static NOINLINE uintptr_t find_##name(void)                                            \
	{                                                                                      \
		leave_##name();                                                                \
		__asm__ volatile("" : : : "memory");                                           \
		return after_call_##name;                                                      \
	}
AFTER_CALL(one)
AFTER_CALL(two)

/*
 * Blocks from a site above which a return address stands on the stack, of two callers in turns;
 * from the refill `until` on there stands something else.
 */
static void ask_with_stack(unsigned nr_blocks, uint64_t until)
{
	uintptr_t stack[64] = { 0 };
	uint64_t nr_refills = 0, clock = 0;

	for (unsigned i = 0; i < nr_blocks; i++) {
		stack[3] = nr_refills >= until ? 0x10
			   : i / 7 % 2 == 0    ? find_one()
					       : find_two();
		blocks[i] = sites_malloc(16 * (1 + i * 7u % 12),
					 &(struct sites_caller){ 0x401000, stack, 0, false });
		EXPECT(blocks[i] != NULL, "no memory");
		nr_refills += sites_now().clock_bytes != clock;
		clock = sites_now().clock_bytes;
	}
}

/* What stood on the stack by chance when it was looked for is not taken for its caller. */
static void expect_wrappers(uint64_t until, unsigned nr_wrappers)
{
	unsigned nr = 100000;

	start();
	ask_with_stack(nr, until);
	EXPECT(sites_now().nr_wrappers == nr_wrappers, "%u wrappers", sites_now().nr_wrappers);
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}

Test(sites, a_distance_that_holds_makes_a_wrapper, .timeout = TIME_BOUND_S)
{
	expect_wrappers(UINT64_MAX, 1);
}

Test(sites, a_distance_that_held_a_hundred_times_makes_none, .timeout = TIME_BOUND_S)
{
	expect_wrappers(100, 0);
}

/* --- the short way ----------------------------------------------------------------------- */

static unsigned nr_slower;

static NOINLINE void *count_slower(size_t size, uintptr_t site, const uintptr_t *stack)
{
	nr_slower++;
	return sites_malloc(size, &(struct sites_caller){ site, stack, 0, false });
}

/* What a twin of malloc leaves for, in programs by a jump. */
static NOINLINE void *twin(size_t size)
{
	void *volatile p = sited_slow_or(size, count_slower);

	return p;
}

/* The wrappers' homes follow from the last 12 bits of their addresses: apart in any build. */
static NOINLINE __attribute__((aligned(PAGE_BYTES))) void *inner(size_t size)
{
	char *p = twin(size);

	EXPECT(p != NULL, "no memory");
	return p;
}

static NOINLINE __attribute__((aligned(PAGE_BYTES))) void *outer(size_t size)
{
	volatile char frame[24];
	void *p;

	frame[0] = (char)size;
	p = inner(size);
	EXPECT(frame[0] == (char)size, "frame");
	return p;
}

static NOINLINE void *inner_short(size_t size)
{
	char *p = inner(size);

	*p = 3;
	return p;
}

static NOINLINE void *outer_short(size_t size)
{
	char *p = outer(size);

	*p = 1;
	return p;
}

static NOINLINE void *outer_long(size_t size)
{
	char *p = outer(size);

	*p = 2;
	return p;
}

/* malloc's caller is a wrapper, and one of its callers too: what is at hand is found at once, in
 * the place of who asks. */
static bool is_long[BLOCKS_MAX];

Test(sites, two_wrappers_are_looked_through_at_once, .timeout = TIME_BOUND_S)
{
	unsigned nr = 300000, half = nr / 2, wrong = 0, place = PLACE_ANY;
	struct rng rng = {1};

	start();
	for (unsigned i = 0; i < nr; i++) {
		size_t size = 16 * (1 + rng_below(&rng, 12)), k = rng_below(&rng, 10);

		if (i == half)
			nr_slower = 0;
		is_long[i] = k == 0;
		blocks[i] = k == 0  ? outer_long(size)
			    : k < 3 ? inner_short(size)
				    : outer_short(size);
	}
	EXPECT(sites_now().nr_wrappers == 2, "%u wrappers", sites_now().nr_wrappers);
	for (unsigned i = half; i < nr; i++) {
		unsigned at = place_of(blocks[i]);

		if (at == PLACE_WATCHED)
			continue;
		if (place == PLACE_ANY && is_long[i])
			place = at;
		wrong += (at == place) != is_long[i];
	}
	EXPECT(place != PLACE_ANY && wrong < half / 50,
	       "%u of %u blocks are in the wrong place (%u)", wrong, half, place);
	EXPECT(nr_slower < half / 10, "%u of %u blocks took the long way", nr_slower, half);
	while (nr > 0)
		shim_free(blocks[--nr]);
	expect_nothing_kept();
}
