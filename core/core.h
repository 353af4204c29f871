/*
 * The page allocator, as the layer above sees it.
 *
 * Core hands out runs of 4 KiB pages from spans of 2 MiB pageblocks, grouped by
 * what it takes to vacate them, the fullest block first, and gives whole blocks
 * back to the system when they have been idle.  It knows nothing of malloc.
 * Every function is safe to call from any thread after core_init().
 */
#ifndef PB_CORE_CORE_H
#define PB_CORE_CORE_H

#include "core/config.h"
#include "core/pause.h"
#include "core/util.h"
#include "core/work.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/single_threaded.h>

/* A page's number: its address >> PAGE_SHIFT.  0 is no page. */
typedef uint64_t pfn_t;

static inline pfn_t pfn_of(const void *addr)
{
	return (uintptr_t)addr >> PAGE_SHIFT;
}

static inline void *pfn_to_addr(pfn_t pfn)
{
	return (void *)(uintptr_t)(pfn << PAGE_SHIFT);
}

enum migratetype {
#define MIGRATETYPE(name, label, f1, f2) MIGRATE_##name,
#include "core/migratetype.def"
#undef MIGRATETYPE
	NR_MIGRATETYPES,
	MIGRATE_NONE = NR_MIGRATETYPES
};

/*
 * Kinds: beside what it takes to vacate them (the migratetype), UNMOVABLE blocks are grouped
 * by what the layer above expects of their contents, their lifetime above all, so that what
 * goes together empties whole blocks.  0: nothing is expected.  A kind is lent from and to
 * as types are, and a block that becomes wholly free has none any more.
 */
#define NR_KINDS 18u

/* --- locks ------------------------------------------------------------------ */

enum lock_rank {
#define LOCK(name, what) LOCK_##name,
#include "core/locks.def"
#undef LOCK
	NR_LOCK_RANKS
};

/*
 * A small mutex: spins shortly, yields, then sleeps on a futex.  Zero is unlocked.  Debug
 * builds check the rank order: a lock is taken only while all held ones rank lower;
 * several of one rank only while holding the heaps lock, as fork does.  Works before
 * constructors and in a fork child.
 *
 * state:  0 free, 1 held, 2 held and somebody may sleep; debug builds keep rank + 1
 *         in bits 8 to 15 while it is held.
 * generation:  how often it was released, for readers outside of the process (inspect.h);
 *         written under the lock and read by nobody inside.
 */
struct lock {
	_Atomic uint32_t state;
	uint32_t generation;
};

#define LOCK_FREE 0u
#define LOCK_HELD 1u
#define LOCK_SLEPT_ON 2u

/* The slow paths, and what debug builds check. */
void lock_wait(struct lock *lock, enum lock_rank rank);
void lock_wake(struct lock *lock);
void lock_debug_acquire(enum lock_rank rank);
void lock_debug_release(enum lock_rank rank);

static inline uint32_t lock_tag(enum lock_rank rank)
{
	return PB_DEBUG >= 1 ? ((uint32_t)rank + 1) << 8 : 0;
}

/*
 * Whether there is nobody to be kept out.  It is libc's word, which it gives up before it makes
 * a second thread and on which its own malloc relies too (sys/single_threaded.h).
 */
static inline bool lock_is_alone(void)
{
	return __libc_single_threaded != 0;
}

static inline void lock_acquire(struct lock *lock, enum lock_rank rank)
{
	uint32_t expected = LOCK_FREE;

	if (PB_DEBUG >= 1)
		lock_debug_acquire(rank);
	/* Relaxed: whoever could read it is not there yet. */
	if (lock_is_alone() &&
	    atomic_load_explicit(&lock->state, memory_order_relaxed) == LOCK_FREE) {
		atomic_store_explicit(&lock->state, LOCK_HELD | lock_tag(rank),
				      memory_order_relaxed);
		return;
	}
	/*
	 * Acquire pairs with the release in lock_release(): what the last holder wrote
	 * is visible here.  Relaxed on failure: lock_wait() tries again with acquire.
	 */
	if (unlikely(!atomic_compare_exchange_strong_explicit(
		    &lock->state, &expected, LOCK_HELD | lock_tag(rank), memory_order_acquire,
		    memory_order_relaxed)))
		lock_wait(lock, rank);
}

static inline void lock_release(struct lock *lock, enum lock_rank rank)
{
	uint32_t was;

	PAUSE(LOCK_RELEASE);
	if (PB_DEBUG >= 1)
		lock_debug_release(rank);
	lock->generation++;
	if (lock_is_alone()) {
		/* Release: what was written stays before it, also for a thread made hereafter. */
		atomic_store_explicit(&lock->state, LOCK_FREE, memory_order_release);
		return;
	}
	/* Release pairs with the acquires in lock_acquire(), lock_try() and lock_wait(). */
	was = atomic_exchange_explicit(&lock->state, LOCK_FREE, memory_order_release);
	if (unlikely((was & 0xff) == LOCK_SLEPT_ON))
		lock_wake(lock);
	PAUSE(LOCK_RELEASED);
}

bool lock_try(struct lock *lock, enum lock_rank rank);
/* In the child of fork: as new, whoever held it. */
void lock_reset(struct lock *lock);
/* Debug builds: whether this thread holds a lock of the rank; release: true. */
bool lock_held(enum lock_rank rank);

/* --- the operating system --------------------------------------------------- */

/* All of these leave errno as it was, and none of them is a cancellation point. */

/* Reserves address space without access or accounting; align a power of two. NULL: cannot. */
void *os_reserve(size_t bytes, size_t align);
/* Reserves exactly at addr; false when something is there or it cannot be had. */
bool os_reserve_at(void *addr, size_t bytes);
/* Reserves zero pages that can be read but not written (no accounting). */
void *os_reserve_readable(size_t bytes, size_t align);
/* Zero pages within the first 2 GiB of addresses, which fit an instruction's displacement, where
 * the machine has such instructions; NULL: cannot. */
void *os_map_low(size_t bytes);
void os_unreserve(void *addr, size_t bytes);
/* Makes part of a reservation writable; 0 or -ENOMEM. Contents are kept (zero at first). */
int os_commit(void *addr, size_t bytes) MUST_CHECK;
/* The same for what is used sparsely: asks for no huge pages first, so that a write costs one
 * small page.  For windows of os_reserve_readable() and for metadata. */
int os_commit_small(void *addr, size_t bytes) MUST_CHECK;
/* Undoes a commit: contents dropped, no access, no accounting. */
void os_uncommit(void *addr, size_t bytes);
/* Advice: whether huge pages should back this part.  False: the system does not take it. */
bool os_hugepage(void *addr, size_t bytes, bool on);
/* Drops the contents (MADV_DONTNEED): reads as zero from now on; 0 or -errno. */
int os_purge(void *addr, size_t bytes) MUST_CHECK;
/* A part of memory, and whether it was given back: 0 or -errno. */
struct os_range {
	void *addr;
	size_t bytes;
	int err;
};
/*
 * Gives several parts back, by one call where the kernel takes vectors.  lazily: the system
 * takes them when it needs them (MADV_FREE), until then they may keep their contents; where
 * it cannot, as os_purge().  Returns how many calls it took.
 */
unsigned os_purge_ranges(struct os_range *ranges, unsigned nr, bool lazily);
/*
 * From here to the end, how many bytes that were resident are given back by the calling
 * thread, as the system counts them (mincore).  Costs a look at each page.
 */
void os_released_begin(void);
size_t os_released_end(void);
/*
 * Moves pages: dst's contents become src's, src reads as zero; both stay mapped and
 * writable.  0 or -errno, and then only dst's contents may have been lost.  A moved mapping
 * never merges with its neighbours again: the caller bounds how many it makes.
 */
int os_move(void *dst, void *src, size_t bytes) MUST_CHECK;
/* Makes pages resident and writable now; 0 or -errno, and then some may be. */
int os_populate(void *addr, size_t bytes) MUST_CHECK;
/* Gathers pages, resident or not, into huge pages; 0 or -errno, and then some may be. */
int os_collapse(void *addr, size_t bytes) MUST_CHECK;
/* How many bytes of a range are resident, as the page tables say (mincore); 0 or -errno. */
int os_resident(void *addr, size_t bytes, size_t *resident) MUST_CHECK;
/* Whether another process has some of a block's pages too, as after a fork, so that to write to
 * them is to copy them; also true where nobody can tell. */
bool os_shared(void *block);
/* How many bytes of a range are resident, and of these in huge pages, as the kernel says;
 * 0, or -errno where it cannot be asked.  Slow. */
int os_residency(void *addr, size_t bytes, size_t *resident, size_t *huge) MUST_CHECK;
size_t os_page_bytes(void);
/* Physical memory in bytes. */
size_t os_memory_bytes(void);
/* RLIMIT_AS in bytes, SIZE_MAX when there is none. */
size_t os_address_limit(void);
/* Address space in use, in bytes; 0 when it cannot be told.  Slow. */
size_t os_address_used(void);
/* Coarse monotonic clock, a few ms of resolution, no system call. */
uint64_t os_now_ns(void);
void os_write_stderr(const char *text, size_t len);
/* Sleeps while *word is value; may return early.  Wakes at most nr sleepers. */
void os_futex_wait(_Atomic uint32_t *word, uint32_t value);
void os_futex_wake(_Atomic uint32_t *word, int nr);
void os_yield(void);
/* Whether the byte can be read. */
bool os_readable(const void *addr);
/* Writes over the program's text, which nobody executes meanwhile; false: not allowed. */
bool os_patch(void *at, const void *bytes, size_t nr_bytes) MUST_CHECK;
/* The nr_naps-th rest of a caller that looks for something again and again: yields at first,
 * later sleeps for 0.1 ms. */
void os_nap(unsigned nr_naps);

/* --- the zone: runs of pages ------------------------------------------------- */

struct core_config {
	/* Bytes of metadata of the layer above for each pageblock; a multiple of PAGE_BYTES. */
	size_t client_bytes;
	/* Of these the first so many are of no use while the block is wholly free: they go
	 * back to the system with it and then read as zero. */
	size_t client_droppable_bytes;
	/*
	 * Called once for each new span before a page of it is handed out, under the
	 * zone lock: the layer above maps what it needs for these addresses.
	 * 0 or -errno (the span is then given up).  May be NULL.
	 */
	int (*span_added)(void *start, size_t nr_bytes);
	/*
	 * Called without core's locks by contiguous allocation and by offlining: the pages
	 * are cordoned, and whoever holds some of them in the layer above shall free or move
	 * them and what its caches hold of them.  deadline_ns as of os_now_ns(); 0: only what
	 * can be done at once.  What it answers is not relied on: core looks for itself.
	 * May call everything in core.  NULL: core only waits.  Called once for each cordoned
	 * range: what cannot go at once shall go as soon as it can.
	 */
	int (*vacate)(pfn_t pfn, size_t nr_pages, uint64_t deadline_ns);
	/*
	 * Called without core's locks for every range that vacate() was called for, when its
	 * blocks are open again or out of use; others may have isolated some of them anew
	 * (isolate_is_marked()).  Not in the child of a fork, where all of them are open.
	 * May be NULL.
	 */
	void (*vacate_end)(pfn_t pfn, size_t nr_pages);
	/* Address space of the first span; 0: 16 times the memory, at least 64 GiB. */
	size_t reserve_bytes;
	/* How long a wholly free block stays resident; 0: until the next work_tick(). */
	uint64_t decay_ns;
	/* Whole blocks are given back by MADV_FREE. */
	bool purge_lazily;
	/* Of pages handed out and of free ones that may be resident; 0: none.  See limit.c. */
	size_t soft_limit_bytes;
	size_t hard_limit_bytes;
	/* Called under the zone lock when more is taken above the soft limit: takes no locks and
	 * makes work due.  May be NULL. */
	void (*pressed)(void);
	/* From how many committed bytes on new chunks ask for huge pages; SIZE_MAX: never. */
	size_t thp_from_bytes;
	/* How much of what is handed out may be resident beside it because of huge pages. */
	unsigned thp_extra_percent;
	/* Wholly free memory that the background thread keeps resident. */
	size_t ready_bytes;
	/* A fork child gives what it frees back at once, as much as it has inherited. */
	bool fork_child_purges;
};

/* 0 or -errno.  Once, single-threaded, before anything else. */
int core_init(const struct core_config *config) MUST_CHECK;
/* Takes over those of the config that may change at any time: decay_ns, thp_from_bytes. */
void core_reconfigure(const struct core_config *config);

/*
 * Allocates exactly nr_pages contiguous pages aligned to 2^align_order pages
 * (align_order may exceed PAGEBLOCK_ORDER).  Returns the first pfn or 0 when
 * there is no room.  *zeroed (may be NULL): whether all of it reads as zero.
 */
pfn_t zone_alloc(size_t nr_pages, unsigned align_order, enum migratetype mt, bool *zeroed);

/* Frees a run or any part of one.  Every page must be allocated: a free page stops the program. */
void zone_free(pfn_t pfn, size_t nr_pages);

/*
 * Grows the run [pfn, pfn + nr_pages) in place to new_nr_pages when the pages
 * behind it are free.  *zeroed: whether the added pages read as zero.
 */
bool zone_extend(pfn_t pfn, size_t nr_pages, size_t new_nr_pages, bool *zeroed);

/*
 * Tells the zone that these allocated pages have been replaced by zero pages
 * (os_move took them away): they are clean when freed.  Nobody may write to them any
 * more, and they must be freed by zone_free(), not to a pcplist.
 */
void zone_mark_clean(pfn_t pfn, size_t nr_pages);

/*
 * Whether memory asked for a page run at a time is being filled densely, as far as the
 * layer above can tell: a hint, true at first.  While it is not, the zone does not ask
 * for huge pages when it grows for UNMOVABLE pages, unless for a run of blocks.
 */
void zone_set_dense(bool dense);

/* Whether the address lies in a span's committed part, the only part pages come from.
 * Lock-free. */
bool zone_owns(const void *addr);

/* The committed block after the one at this address (NULL: the very first) that is of the
 * type, as a hint; NULL: there is none.  Lock-free. */
void *zone_next_block(const void *block, enum migratetype mt);

/* Metadata of the layer above for the pageblock of an address that zone_owns(). Lock-free. */
void *zone_client(const void *addr);
/* Both in one: NULL when it does not own the address. */
void *zone_find_client(const void *addr);

/* --- pcplists: a thread's page cache ------------------------------------------ */

#define PCP_ORDERS 8u /* 4 KiB to 512 KiB */
#define PCP_TYPES 3u  /* no thread cache holds CMA as a type of its own */

struct pcp; /* see core/pcp.h, which core.h includes for its size */
#include "core/pcp.h"

/*
 * The pcp lives in zeroed memory that is never given back: it is registered for good, so
 * that statistics, fork and an allocation that would fail reach it.  A zeroed pcp without
 * pcp_init() works and caches nothing.  Doing it again drains it and changes nothing else.
 */
void pcp_init(struct pcp *pcp);
/* A naturally aligned run of 2^order pages; 0 when there is no room. */
pfn_t pcp_alloc(struct pcp *pcp, unsigned order, enum migratetype mt, bool *zeroed);
void pcp_free(struct pcp *pcp, pfn_t pfn, unsigned order);
/* Gives everything in it to the zone; any thread may call it. */
void pcp_drain(struct pcp *pcp);
/* The same for every registered pcp. */
void pcp_drain_all(void);

/*
 * Disables the caches: when it returns, no registered pcp holds anything, nor will until
 * the last of those who called it has called pcp_enable(), in the same thread.  Frees and
 * allocations go to the zone meanwhile, by the slow paths they have anyway.
 */
void pcp_disable(void);
void pcp_enable(void);

/* --- isolation ---------------------------------------------------------------- */

/*
 * Ranges are whole pageblocks: start and nr_pages multiples of PAGEBLOCK_PAGES, within
 * the committed part of one span.  Every function here may be called by any thread,
 * without locks; all of them answer 0 or a negative errno, and then nothing has changed:
 *   -EINVAL   empty, unaligned, no owner
 *   -ERANGE   not all of it is in the committed part of one span
 *   -EBUSY    a part is isolated, offline, or being given back at this moment
 *   -EPERM    a part is not isolated by this owner
 */

/* A token nobody else has, never 0. */
uint32_t isolate_owner(void);

/*
 * Isolates a range, all of it or nothing: nothing is handed out from it any more, what is
 * freed to it stays there, and its free pages leave free_pages.  Does not wait.  What
 * threads' page caches hold of it stays there until they are drained: after one
 * pcp_drain_all(), or inside of pcp_disable(), none of them has or gets a page of it.
 */
int isolate_range(pfn_t start, size_t nr_pages, uint32_t owner) MUST_CHECK;
/* Opens a range again, wholly the owner's.  Its free pages are as if never isolated. */
int isolate_undo(pfn_t start, size_t nr_pages, uint32_t owner) MUST_CHECK;
/*
 * Whether every page of the range, of any alignment, is free on its block: neither held,
 * cached, nor being given back.  False for what is not in one span's committed part.
 */
bool isolate_test(pfn_t start, size_t nr_pages);
/*
 * Whether the pageblock of an address, which zone_owns(), is isolated.  Lock-free: a hint,
 * but for who published something of a page before and asks after a sequentially
 * consistent fence; vacate() sees it then, or this is true.
 */
bool isolate_is_marked(const void *addr);
/* Whether any block is; false says the same of every address, as isolate_is_marked(). */
bool isolate_any(void);

/* --- contiguous allocation ------------------------------------------------------ */

#define CONTIG_MAX_PAGES ((size_t)1 << (30 - PAGE_SHIFT)) /* 1 GiB */
/* Disable the caches and wait, window after window, until the deadline. */
#define CONTIG_HARD 1u
/* From a reserve; without it never from one. */
#define CONTIG_CMA 2u

/*
 * Up to 1 GiB of contiguous pages, the first of which begins a pageblock; contents as they
 * were.  What the last block has beyond them stays free.  Vacates blocks where it must:
 * without CONTIG_HARD by draining the caches, at most a few times, and with no waiting.
 * deadline_ns as of os_now_ns(); 0 without CONTIG_HARD: none.  Any thread, no locks held.
 *
 * Returns 0 when there is none, and *err (may be NULL) says why, with nothing changed:
 *   -EINVAL     nr_pages is 0 or more than CONTIG_MAX_PAGES, unknown flags
 *   -ENOMEM     no such window: too little is there, or what is there cannot be vacated
 *   -EBUSY      not now: what was tried is in use (without CONTIG_HARD)
 *   -ETIMEDOUT  the deadline has passed, before the call or in it
 */
pfn_t contig_alloc(size_t nr_pages, unsigned flags, uint64_t deadline_ns, int *err);

/*
 * The same for these very pages, of any alignment and type of block; the blocks' other
 * pages may be in use and are left alone.  0 or as above, -ENOMEM apart, and -ERANGE
 * when they are not in the committed part of one span.  flags: 0 or CONTIG_HARD.
 */
int contig_alloc_range(pfn_t pfn, size_t nr_pages, unsigned flags,
		       uint64_t deadline_ns) MUST_CHECK;

/* Frees all of a contiguous allocation; -EINVAL, and nothing has happened, when it is none. */
int contig_free(pfn_t pfn, size_t nr_pages) MUST_CHECK;

/* The pages become like those of zone_alloc(), for whoever has them from contig_alloc(). */
void contig_keep(pfn_t pfn, size_t nr_pages);

/* For who looks for blocks to vacate: the first page of the nearest block that begins before
 * this page, or behind it; 0: there is none.  And whether a block is wholly free: a hint. */
pfn_t contig_block_below(pfn_t pfn);
pfn_t contig_block_above(pfn_t pfn);
bool contig_block_is_free(pfn_t block);

/*
 * Reserves whole blocks for CONTIG_CMA, best at the start.  They are lent to MOVABLE and
 * RECLAIMABLE requests when there is nothing else, growth included, and never to UNMOVABLE
 * ones.  For good.  0; -EINVAL for 0 or too many bytes, -ENOMEM, -ENOSPC after 16 times.
 */
int cma_reserve(size_t nr_bytes) MUST_CHECK;

/* --- taking blocks out of use ---------------------------------------------------- */

/*
 * Takes whole blocks out of use and gives them back to the system, free ones first, then
 * the emptiest; never reserves.  deadline_ns as of os_now_ns(): until when to wait for
 * blocks in use to be vacated; 0: only free ones.  Returns how many pages went, a multiple
 * of PAGEBLOCK_PAGES.  *err (may be NULL): 0 when all did, else
 *   -EINVAL     nr_pages is 0 or no multiple of PAGEBLOCK_PAGES: nothing changed
 *   -EBUSY      no more are free (no deadline)
 *   -ETIMEDOUT  the deadline has passed: before the call, nothing changed; or in it
 */
size_t offline_pages(size_t nr_pages, uint64_t deadline_ns, int *err);
/* Takes up to nr_pages, rounded down to blocks, back into use; returns how many. */
size_t online_pages(size_t nr_pages);

/* --- giving back ------------------------------------------------------------- */

/*
 * Wholly free blocks that have been idle for longer than the decay are given back by
 * work_tick(), a few at a time, or by the background thread: see core/work.h.
 */

/* Purges every wholly free block that is dirty; returns the bytes given back. */
size_t purge_whole(void);
/* Purges every free dirty page, whole blocks first; returns the bytes given back. */
size_t purge_all(void);
/*
 * The layer above has given back a part of what it holds of the block of this address, and
 * goes on holding it until this call is over: no huge page shall fill the hole again.
 * Without locks.
 */
void thp_hole(const void *addr);
/* So many pages of such holes are in use again.  Without core's locks. */
void thp_refilled(unsigned nr_pages);

/* --- statistics and self-check ------------------------------------------------ */

struct core_stats {
#define STAT(name, unit, help) uint64_t name;
#include "core/stats.def"
#undef STAT
};
void core_stats_read(struct core_stats *out);

/* What readers outside of the process see, and what they may ask for. */
#include "core/inspect.h"

/* Walks everything under the zone lock and compares it with the counters: the conservation
 * equation of stats.def.  Stops the program with one line on the first difference. */
void core_check(void);

/*
 * Debug builds do the same, caches apart, when the zone lock is dropped: every n-th time;
 * 0: never.  From the start about once for each 1,024 drops, more rarely with many blocks.
 */
void core_check_every(uint32_t n);

/* --- fork -------------------------------------------------------------------- */

/* Takes the locks of all registered pcps and the zone lock, in this order. */
void core_fork_prepare(void);
void core_fork_parent(void);
void core_fork_child(void);

#endif
