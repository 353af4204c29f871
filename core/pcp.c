/*
 * pcplists: a cache of page runs in front of the zone.
 *
 * An allocation takes the newest run of its order and type; when there is none, a refill
 * takes the zone lock once and brings several from one block, twice as many each time in
 * a row.  A free adds to the chain of its block's type, read without the zone lock as a
 * hint (R4): where the pages end up is decided by the block under the lock when they
 * leave the cache (R1).  What does not fit under `high` pushes out the oldest runs.
 *
 * high adapts: an overflow followed by a refill says that it was too small, pages that
 * were never needed between two trims that it is too large.  high = 0 sends every free
 * straight to the zone, whoever sets it, because it is read under the pcp's lock; that is
 * how pcp_disable() works.
 *
 * Invariants: pcp_check_all().  Not guaranteed: that a run freed twice into a cache is
 * noticed in release builds before it leaves it.
 */
#include "core/core.h"
#include "core/span.h"
#include "core/zone.h"

#define HIGH_MIN 32u   /* 128 KiB */
#define HIGH_START 64u /* 256 KiB */
#define HIGH_MAX 256u  /* 1 MiB */
/* A refill brings at most so many pages, unless a single run is larger. */
#define BATCH_PAGES 128u
#define REFILLS_MAX 5u
#define TRIM_OPS 512u
#define NO_SLOT 0u

/* Release when one is added: publishes its next. */
static _Atomic(struct pcp *) registered;

static _Atomic uint64_t nr_drains; /* of all registered pcps */

static inline struct pcp *first_registered(void)
{
	/* Acquire pairs with the release in pcp_init(). */
	return atomic_load_explicit(&registered, memory_order_acquire);
}

static inline void pcp_lock(struct pcp *pcp)
{
	lock_acquire(&pcp->lock, LOCK_PCP);
}

static inline void pcp_unlock(struct pcp *pcp)
{
	lock_release(&pcp->lock, LOCK_PCP);
}

static inline uint32_t nr_pages_in(const struct pcp *pcp)
{
	/* Relaxed: stable under the pcp's lock, and statistics do not need more. */
	return atomic_load_explicit(&pcp->nr_pages, memory_order_relaxed);
}

static inline void set_nr_pages(struct pcp *pcp, uint32_t nr_pages)
{
	/* Relaxed: as nr_pages_in(). */
	atomic_store_explicit(&pcp->nr_pages, nr_pages, memory_order_relaxed);
}

static inline unsigned list_order(unsigned list)
{
	return list / PCP_TYPES;
}

/* --- chains ----------------------------------------------------------------------------- */

/* Slot 0 is no slot. */
static inline unsigned free_slots(const struct pcp *pcp)
{
	return PCP_SLOTS - 1 - pcp->nr_runs;
}

static inline unsigned slot_get(struct pcp *pcp)
{
	unsigned slot = pcp->spare;

	ASSERT(free_slots(pcp) > 0);
	pcp->nr_runs++;
	if (slot == NO_SLOT)
		return ++pcp->nr_used;
	pcp->spare = pcp->older[slot];
	return slot;
}

static inline void slot_put(struct pcp *pcp, unsigned slot)
{
	pcp->nr_runs--;
	pcp->older[slot] = pcp->spare;
	pcp->spare = (uint8_t)slot;
}

static inline void push(struct pcp *pcp, unsigned list, pfn_t pfn, bool zero)
{
	unsigned slot = slot_get(pcp);
	unsigned head = pcp->head[list];

	pcp->run[slot] = pfn << 1 | zero;
	pcp->older[slot] = (uint8_t)head;
	pcp->newer[slot] = NO_SLOT;
	if (head == NO_SLOT) {
		pcp->tail[list] = (uint8_t)slot;
		pcp->nonempty |= 1u << list;
	} else {
		pcp->newer[head] = (uint8_t)slot;
	}
	pcp->head[list] = (uint8_t)slot;
	set_nr_pages(pcp, nr_pages_in(pcp) + (1u << list_order(list)));
}

/* Takes a chain's newest run out. */
static inline uint64_t pop(struct pcp *pcp, unsigned list)
{
	unsigned slot = pcp->head[list];
	unsigned older = pcp->older[slot];
	uint64_t run = pcp->run[slot];

	pcp->head[list] = (uint8_t)older;
	if (older == NO_SLOT) {
		pcp->tail[list] = NO_SLOT;
		pcp->nonempty &= ~(1u << list);
	} else {
		pcp->newer[older] = NO_SLOT;
	}
	slot_put(pcp, slot);
	set_nr_pages(pcp, nr_pages_in(pcp) - (1u << list_order(list)));
	return run;
}

/* Takes a chain's oldest run out. */
static uint64_t pop_oldest(struct pcp *pcp, unsigned list)
{
	unsigned slot = pcp->tail[list];
	unsigned newer = pcp->newer[slot];
	uint64_t run = pcp->run[slot];

	if (newer == NO_SLOT)
		return pop(pcp, list);
	pcp->tail[list] = (uint8_t)newer;
	pcp->older[newer] = NO_SLOT;
	slot_put(pcp, slot);
	set_nr_pages(pcp, nr_pages_in(pcp) - (1u << list_order(list)));
	return run;
}

/* --- to the zone ---------------------------------------------------------------------------- */

/* The chain to take from next: each in turn that has something. */
static unsigned next_list(struct pcp *pcp)
{
	uint32_t after = pcp->nonempty & ~((1u << pcp->flush_next) - 1);
	unsigned list = (unsigned)__builtin_ctz(after != 0 ? after : pcp->nonempty);

	pcp->flush_next = (uint8_t)((list + 1) % PCP_LISTS);
	return list;
}

/* Gives the oldest runs to the zone until at most `keep` pages are left and `slots` are free. */
static NOINLINE void flush(struct pcp *pcp, uint32_t keep, unsigned slots)
{
	if (pcp->nonempty == 0)
		return;
	PAUSE(PCP_FLUSH);
	zone_lock();
	while (pcp->nonempty != 0 && (nr_pages_in(pcp) > keep || free_slots(pcp) < slots)) {
		unsigned list = next_list(pcp);
		uint64_t run = pop_oldest(pcp, list);

		/* R1, R4: the block's type and isolation are looked at in there. */
		zone_free_locked(run >> 1, (size_t)1 << list_order(list), (run & 1) != 0);
	}
	zone_unlock();
}

void pcp_drain(struct pcp *pcp)
{
	pcp_lock(pcp);
	flush(pcp, 0, 0);
	pcp->refills = 0;
	pcp->low = 0;
	pcp_unlock(pcp);
}

static void count_drain(void)
{
	/* Relaxed: statistics. */
	(void)atomic_fetch_add_explicit(&nr_drains, 1, memory_order_relaxed);
}

uint64_t pcp_count_drains(void)
{
	return atomic_load_explicit(&nr_drains, memory_order_relaxed);
}

void pcp_drain_all(void)
{
	count_drain();
	for (struct pcp *pcp = first_registered(); pcp != NULL; pcp = pcp->next) {
		pcp_drain(pcp);
		PAUSE(PCP_DRAIN_NEXT);
	}
}

/* --- disabling ------------------------------------------------------------------------------- */

/*
 * As the kernel does it: while somebody wants the caches disabled, every pcp has high = 0,
 * so that pcp_free() finds no room and pcp_alloc() an empty chain, and each goes to the
 * zone by its slow path.  The fast paths do not know of it.
 *
 * Whoever sets high does so under the pcp's lock by what nr_disabled says then.  A caller
 * of pcp_disable() counts itself first, so that an enabler that comes to a pcp after it
 * sees the count: the pcp's lock is between them.
 */

/* Callers that want the caches disabled. */
static _Atomic uint32_t nr_disabled;
/* Those of them that are this thread: the only ones there are in the child of a fork. */
static __thread uint32_t disabled_here;

/* Under the pcp's lock. */
static void adjust_high(struct pcp *pcp)
{
	/* Seq_cst pairs with pcp_disable() and pcp_init(). */
	if (atomic_load_explicit(&nr_disabled, memory_order_seq_cst) > 0) {
		if (pcp->high != 0) {
			pcp->high_saved = pcp->high;
			pcp->high = 0;
		}
	} else if (pcp->high_saved != 0) {
		pcp->high = pcp->high_saved;
		pcp->high_saved = 0;
	}
}

static void adjust_all(bool drain)
{
	/*
	 * Seq_cst pairs with pcp_init(), which puts a pcp in front and then looks at
	 * nr_disabled, while pcp_disable() counts itself and then looks here: one of the
	 * two sees the other.
	 */
	struct pcp *pcp = atomic_load_explicit(&registered, memory_order_seq_cst);

	for (; pcp != NULL; pcp = pcp->next) {
		pcp_lock(pcp);
		adjust_high(pcp);
		if (drain)
			flush(pcp, 0, 0);
		pcp_unlock(pcp);
		PAUSE(PCP_DRAIN_NEXT);
	}
}

void pcp_disable(void)
{
	disabled_here++;
	/* Seq_cst: see adjust_all(). */
	(void)atomic_fetch_add_explicit(&nr_disabled, 1, memory_order_seq_cst);
	PAUSE(PCP_DISABLE);
	count_drain();
	adjust_all(true);
}

void pcp_enable(void)
{
	bool was_disabled = disabled_here > 0;

	CHECK(was_disabled);
	disabled_here--;
	/* Seq_cst: see adjust_all(). */
	if (atomic_fetch_sub_explicit(&nr_disabled, 1, memory_order_seq_cst) == 1) {
		PAUSE(PCP_ENABLE);
		adjust_all(false);
	}
}

/* --- trimming -------------------------------------------------------------------------------- */

/* Gives back half of what was not needed for a while. */
static COLD void trim(struct pcp *pcp)
{
	uint32_t nr_pages = nr_pages_in(pcp);
	uint32_t unused = pcp->low;

	pcp->until_trim = TRIM_OPS;
	if (pcp->high != 0 && unused > nr_pages / 4 && unused >= HIGH_MIN / 2) {
		flush(pcp, nr_pages - unused / 2, 0);
		pcp->high -= pcp->high / 4;
		if (pcp->high < HIGH_MIN)
			pcp->high = HIGH_MIN;
	}
	pcp->low = nr_pages_in(pcp);
}

static inline void count_operation(struct pcp *pcp)
{
	if (unlikely(--pcp->until_trim == 0))
		trim(pcp);
}

/* --- from the zone ---------------------------------------------------------------------------- */

/* How many runs beside the one asked for a refill may bring. */
static unsigned refill_extra(struct pcp *pcp, unsigned order)
{
	uint32_t nr_pages = nr_pages_in(pcp);
	uint32_t room = pcp->high > nr_pages ? pcp->high - nr_pages : 0;
	unsigned extra = (1u << pcp->refills) - 1;
	unsigned most = BATCH_PAGES >> order;

	if (pcp->refills < REFILLS_MAX)
		pcp->refills++;
	if (extra >= most)
		extra = most - 1;
	if (extra > room >> order)
		extra = room >> order;
	if (extra > free_slots(pcp))
		extra = free_slots(pcp);
	return extra;
}

/* The chain is empty: one run for the caller, others for the chain.  pfn << 1 | zeroed or 0. */
static NOINLINE uint64_t refill(struct pcp *pcp, unsigned order, enum migratetype mt)
{
	uint64_t runs[BATCH_PAGES];
	unsigned nr;

	if (pcp->overflowed && pcp->high != 0 && pcp->high < HIGH_MAX) {
		pcp->high += pcp->high / 2;
		if (pcp->high > HIGH_MAX)
			pcp->high = HIGH_MAX;
	}
	pcp->overflowed = false;
	nr = refill_extra(pcp, order) + 1;
	zone_lock();
	nr = zone_alloc_bulk_locked(order, mt, pcp->kind, nr, runs);
	zone_unlock();
	PAUSE(PCP_REFILL);
	if (nr == 0)
		return 0;
	/* Backwards: so that they are handed out in the order in which they were taken. */
	while (--nr > 0)
		push(pcp, order * PCP_TYPES + (unsigned)mt, runs[nr] >> 1, (runs[nr] & 1) != 0);
	return runs[0];
}

pfn_t pcp_alloc(struct pcp *pcp, unsigned order, enum migratetype mt, bool *zeroed)
{
	unsigned list = order * PCP_TYPES + (unsigned)mt;
	uint64_t run;

	if (unlikely(order >= PCP_ORDERS || mt >= PCP_TYPES))
		return zone_alloc((size_t)1 << order, order, mt, zeroed);
	pcp_lock(pcp);
	if (likely(pcp->head[list] != NO_SLOT)) {
		run = pop(pcp, list);
		if (nr_pages_in(pcp) < pcp->low)
			pcp->low = nr_pages_in(pcp);
	} else {
		run = refill(pcp, order, mt);
		pcp->low = 0;
	}
	count_operation(pcp);
	pcp_unlock(pcp);
	/* The zone's own last resorts need the pcp's lock dropped. */
	if (unlikely(run == 0))
		return zone_alloc((size_t)1 << order, order, mt, zeroed);
	if (zeroed != NULL)
		*zeroed = (run & 1) != 0;
	return run >> 1;
}

/* --- freeing ------------------------------------------------------------------------------------ */

/* Debug builds: the run is not cached here already. */
static void assert_not_cached(const struct pcp *pcp, pfn_t pfn)
{
	for (unsigned list = 0; list < PCP_LISTS; list++)
		for (unsigned slot = pcp->head[list]; slot != NO_SLOT; slot = pcp->older[slot])
			CHECK(pcp->run[slot] >> 1 != pfn);
}

/* Makes room for n pages; false: they go to the zone. */
static NOINLINE bool make_room(struct pcp *pcp, uint32_t n)
{
	pcp->overflowed = true;
	pcp->refills = 0;
	if (n > pcp->high)
		return false;
	/* More than needed, so that the next few frees find room. */
	flush(pcp, (pcp->high - n) - (pcp->high - n) / 4, PCP_SLOTS / 8);
	return true;
}

void pcp_free(struct pcp *pcp, pfn_t pfn, unsigned order)
{
	struct pageblock *block = span_block(pfn);
	bool page_is_ours = block != NULL;
	uint32_t n = 1u << order;
	enum migratetype mt;
	bool cached = false;

	CHECK(page_is_ours);
	ASSERT((pfn & (n - 1)) == 0);
	mt = pageblock_type(block);
	if (mt >= PCP_TYPES)
		mt = MIGRATE_MOVABLE;
	PAUSE(PCP_FREE_TYPE_READ);
	pcp_lock(pcp);
	if (PB_DEBUG >= 1)
		assert_not_cached(pcp, pfn);
	if (likely(order < PCP_ORDERS) && !pageblock_isolated(block))
		cached = likely(nr_pages_in(pcp) + n <= pcp->high && free_slots(pcp) > 0) ||
			 make_room(pcp, n);
	if (likely(cached)) {
		PAUSE(PCP_FREE_PUSH);
		push(pcp, order * PCP_TYPES + (unsigned)mt, pfn, false);
		count_operation(pcp);
	}
	pcp_unlock(pcp);
	if (unlikely(!cached)) {
		PAUSE(PCP_FREE_UNCACHED);
		zone_free(pfn, n);
	}
}

/* --- all of them ----------------------------------------------------------------------------------- */

void pcp_init(struct pcp *pcp)
{
	struct pcp *first;

	if (pcp->registered) {
		pcp_drain(pcp);
		return;
	}
	pcp->registered = true;
	/* Caches nothing until it is known that it may. */
	pcp->high_saved = HIGH_START;
	pcp->until_trim = TRIM_OPS;
	first = first_registered();
	do {
		pcp->next = first;
		/*
		 * Release (seq_cst is more) pairs with first_registered(): all of the pcp is
		 * there.  Seq_cst: see adjust_all().
		 */
	} while (!atomic_compare_exchange_weak_explicit(&registered, &first, pcp,
							memory_order_seq_cst,
							memory_order_acquire));
	PAUSE(PCP_INIT);
	pcp_lock(pcp);
	adjust_high(pcp);
	pcp_unlock(pcp);
}

void pcp_inspect(void)
{
	inspect_show("pcps", &registered, sizeof(registered));
	inspect_show("pcp_drains", &nr_drains, sizeof(nr_drains));
	inspect_show("pcp_disabled", &nr_disabled, sizeof(nr_disabled));
}

uint64_t pcp_count_all(void)
{
	uint64_t nr_pages = 0;

	for (struct pcp *pcp = first_registered(); pcp != NULL; pcp = pcp->next)
		nr_pages += nr_pages_in(pcp);
	return nr_pages;
}

/* A cached run is aligned, lies in a block and is free for nobody else. */
static void check_run(uint64_t run, unsigned order)
{
	struct pageblock *block = span_block(run >> 1);
	unsigned from;

	CHECK(block != NULL);
	from = (unsigned)((run >> 1) - block->pfn);
	CHECK(from % (1u << order) == 0);
	CHECK(pageblock_bits_none(block->free, from, 1u << order));
	CHECK(pageblock_bits_none(block->purging, from, 1u << order));
	/* It was handed out or is kept as zeroed: either way it counts as written to. */
	CHECK(pageblock_bits_all(block->dirty, from, 1u << order));
}

static void pcp_check(struct pcp *pcp)
{
	uint32_t nr_pages = 0;
	unsigned nr_runs = 0;

	for (unsigned list = 0; list < PCP_LISTS; list++) {
		unsigned newer = NO_SLOT;

		CHECK((pcp->nonempty >> list & 1) == (pcp->head[list] != NO_SLOT));
		for (unsigned slot = pcp->head[list]; slot != NO_SLOT; slot = pcp->older[slot]) {
			CHECK(slot <= pcp->nr_used && nr_runs < PCP_SLOTS);
			nr_runs++;
			CHECK(pcp->newer[slot] == newer);
			check_run(pcp->run[slot], list_order(list));
			nr_pages += 1u << list_order(list);
			newer = slot;
		}
		CHECK(pcp->tail[list] == newer);
	}
	CHECK_COUNT(nr_pages_in(pcp), nr_pages);
	CHECK_COUNT(pcp->nr_runs, nr_runs);
	CHECK(nr_pages <= HIGH_MAX);
}

void pcp_check_all(void)
{
	for (struct pcp *pcp = first_registered(); pcp != NULL; pcp = pcp->next) {
		pcp_lock(pcp);
		zone_lock();
		pcp_check(pcp);
		zone_unlock();
		pcp_unlock(pcp);
	}
}

/* --- fork --------------------------------------------------------------------------------------------- */

void pcp_fork_prepare(void)
{
	struct pcp *locked = NULL;

	for (;;) {
		struct pcp *first = first_registered();

		/* New ones are put in front: those up to the last first are locked already. */
		for (struct pcp *pcp = first; pcp != locked; pcp = pcp->next)
			pcp_lock(pcp);
		locked = first;
		zone_lock();
		if (first_registered() == locked)
			return;
		zone_unlock();
	}
}

void pcp_fork_parent(void)
{
	for (struct pcp *pcp = first_registered(); pcp != NULL; pcp = pcp->next)
		pcp_unlock(pcp);
}

void pcp_fork_child(void)
{
	for (struct pcp *pcp = first_registered(); pcp != NULL; pcp = pcp->next)
		lock_reset(&pcp->lock);
	/* Other threads that had the caches disabled are not here to enable them again.
	 * Relaxed: neither is anybody else. */
	atomic_store_explicit(&nr_disabled, disabled_here, memory_order_relaxed);
	adjust_all(false);
}
