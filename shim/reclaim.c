/*
 * Getting memory back, from what costs nobody anything to what costs most; see shim.h,
 * shim_reclaim().
 *
 *   1  wholly free blocks
 *   2  caches: what threads keep of objects and pages.  A running thread comes by at its
 *      next malloc or free (divert.h) and is waited for, a sleeping one cannot be reached
 *   3  free runs in blocks that are in use and holes in slabs: breaks huge pages
 *   4  the program's own caches, as far as it has registered them
 *   5  blocks in use, the emptiest first: cordoned, vacated, opened again
 *
 * The answer is what was resident and went back in the steps of this call; pages that were
 * handed out and never touched do not count.
 */
#include "shim/reclaim.h"

#include "core/core.h"
#include "shim/divert.h"
#include "shim/heap.h"
#include "shim/holes.h"
#include "shim/shim.h"

#define MS ((uint64_t)1000000)
/* How often to yield to running threads, and for how long at most. */
#define THREADS_YIELDS 200u
#define THREADS_NS (10 * MS)
/* Between two tries under pressure: doubles while nothing is gained. */
#define PRESSED_NS (100 * MS)
#define PRESSED_DOUBLINGS 6u

static shim_shrink_fn *_Atomic shrink;
static _Atomic uint64_t shrunk_bytes; /* what it said it freed */

uint64_t reclaim_shrunk_bytes(void)
{
	/* Relaxed: statistics. */
	return atomic_load_explicit(&shrunk_bytes, memory_order_relaxed);
}

void shim_set_shrink(shim_shrink_fn *fn)
{
	/* Release pairs with the acquire in ask_program(): what it needs is there. */
	atomic_store_explicit(&shrink, fn, memory_order_release);
}

static bool is_past(uint64_t deadline_ns)
{
	return deadline_ns == 0 || os_now_ns() >= deadline_ns;
}

static bool any_asked(void)
{
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		if (!heap_is_mine(h) && heap_is_asked(h))
			return true;
	return false;
}

/* Asks all threads to give up what they cache, and waits a little for those that run. */
static void drain_threads(uint64_t deadline_ns)
{
	uint64_t until = os_now_ns() + THREADS_NS;

	if (deadline_ns < until)
		until = deadline_ns;
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		if (!heap_is_mine(h))
			divert_heap(h, DIVERT_SETTLE);
	for (unsigned i = 0; any_asked(); i++) {
		if (i >= THREADS_YIELDS && os_now_ns() >= until)
			break;
		os_yield();
	}
	heap_drain_all();
}

static size_t ask_program(size_t nr_bytes)
{
	/* Acquire pairs with the release in shim_set_shrink(). */
	shim_shrink_fn *fn = atomic_load_explicit(&shrink, memory_order_acquire);

	size_t freed = fn == NULL ? 0 : fn(nr_bytes);

	/* Relaxed: statistics. */
	(void)atomic_fetch_add_explicit(&shrunk_bytes, freed, memory_order_relaxed);
	return freed;
}

/* Blocks in use, the emptiest first; they are opened again at once. */
static void vacate(size_t nr_bytes, uint64_t deadline_ns)
{
	struct core_stats stats;
	size_t nr_pages;

	core_stats_read(&stats);
	/* SIZE_MAX is not rounded up. */
	nr_pages = nr_bytes / PAGE_BYTES < stats.total_pages
			   ? round_up(nr_bytes, PAGEBLOCK_BYTES) / PAGE_BYTES
			   : round_down(stats.total_pages, PAGEBLOCK_PAGES);
	if (nr_pages > 0)
		(void)online_pages(offline_pages(nr_pages, deadline_ns, NULL));
}

static void purge_rest(void)
{
	(void)purge_all();
	(void)holes_purge_all();
}

size_t shim_trim(void)
{
	shim_init();
	os_released_begin();
	drain_threads(0);
	purge_rest();
	return os_released_end();
}

/* Whether so much is back by now; goes on counting. */
static bool is_enough(size_t nr_bytes, size_t *done)
{
	*done += os_released_end();
	os_released_begin();
	return *done >= nr_bytes;
}

size_t shim_reclaim(size_t nr_bytes, uint64_t deadline_ns)
{
	size_t done = 0;

	shim_init();
	os_released_begin();
	(void)purge_whole();
	if (!is_enough(nr_bytes, &done)) {
		drain_threads(deadline_ns);
		(void)purge_whole();
	}
	if (!is_enough(nr_bytes, &done))
		purge_rest();
	if (!is_enough(nr_bytes, &done) && ask_program(nr_bytes - done) > 0) {
		heap_drain_all();
		purge_rest();
	}
	if (!is_enough(nr_bytes, &done) && !is_past(deadline_ns))
		vacate(nr_bytes - done, deadline_ns);
	return done + os_released_end();
}

/* --- under pressure -------------------------------------------------------------------- */

static uint64_t pressed_run(uint64_t now_ns);

static struct work pressed_work = {.run = pressed_run};
/* Not before this time again.  Relaxed: a policy. */
static _Atomic uint64_t pressed_again_ns;

AT_START void reclaim_init(void)
{
	work_add(&pressed_work);
}

void reclaim_pressed(void)
{
	work_due(&pressed_work,
		 atomic_load_explicit(&pressed_again_ns, memory_order_relaxed));
}

void shim_pressed(void)
{
	shim_init();
	reclaim_pressed();
}

/* Everything that costs no waiting.  The program's caches are asked only by the background
 * thread: a slow path may be under the program's locks. */
static COLD uint64_t pressed_run(uint64_t now_ns)
{
	static unsigned nr_vain; /* tries in a row that gained nothing; one runs at a time */
	size_t done = purge_whole();

	drain_threads(0);
	done += purge_all();
	done += holes_purge_all();
	if (work_is_background() && ask_program(SIZE_MAX) > 0) {
		heap_drain_all();
		done += purge_all();
	}
	if (done >= PAGEBLOCK_BYTES)
		nr_vain = 0;
	else if (nr_vain < PRESSED_DOUBLINGS)
		nr_vain++;
	atomic_store_explicit(&pressed_again_ns, now_ns + (PRESSED_NS << nr_vain),
			      memory_order_relaxed);
	return WORK_NEVER;
}
