/*
 * pageblock: what a program may ask of libpageblock.so beyond malloc and free.
 *
 * No program needs this header to use the allocator.  One that wants to run with and
 * without the library defines PB_OPTIONAL before including it, does not link with
 * -lpageblock, and asks whether a function is there:
 *
 *	#define PB_OPTIONAL
 *	#include <pageblock.h>
 *
 *	void when_idle(void)
 *	{
 *		if (pb_trim)
 *			pb_trim();
 *	}
 *
 * (Programs linked with -no-pie also need -Wl,-z,dynamic-undefined-weak for that.)
 *
 * All functions may be called from any thread at any time, but not from signal handlers.
 * None changes errno except where it says so.
 */
#ifndef PAGEBLOCK_H
#define PAGEBLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; of the library that is loaded: pb_version(). */
#define PAGEBLOCK_VERSION_MAJOR 0
#define PAGEBLOCK_VERSION_MINOR 1
#define PAGEBLOCK_VERSION_PATCH 0
/* For comparisons: 1.2.3 is 10203. */
#define PAGEBLOCK_VERSION_NUMBER                                                               \
	(PAGEBLOCK_VERSION_MAJOR * 10000 + PAGEBLOCK_VERSION_MINOR * 100 +                     \
	 PAGEBLOCK_VERSION_PATCH)

#ifdef PB_OPTIONAL
#define PB_FUNCTION __attribute__((weak, visibility("default")))
#else
#define PB_FUNCTION __attribute__((visibility("default")))
#endif

/* The version of the library, such as "0.1.0".  Never NULL; never changes. */
PB_FUNCTION const char *pb_version(void);

/*
 * Counters of the whole process, in bytes unless the name says otherwise.  They are
 * read one after the other while other threads go on, so sums may be off by what
 * happened meanwhile.  Later versions only add fields at the end.
 */
struct pb_stats {
	size_t size;                 /* set to sizeof(struct pb_stats) before the call */
	uint64_t live_bytes;         /* in blocks the program has, or threads keep for it */
	uint64_t large_bytes;        /* of live_bytes: in page runs, one a block */
	uint64_t slab_bytes;         /* pages that hold small blocks, free ones included */
	uint64_t slab_free_bytes;    /* of slab_bytes: free */
	uint64_t committed_bytes;    /* address space made usable; not all of it is resident */
	uint64_t dirty_free_bytes;   /* free pages not given back yet */
	uint64_t purged_bytes;       /* given back to the system since the start */
	uint64_t nr_heaps;           /* heaps ever made; a thread that allocates has one */
	uint64_t nr_ownerless_heaps; /* heaps whose thread has ended, waiting for another */
	uint64_t cached_page_bytes;  /* free pages that threads keep for their next slabs */
	uint64_t metadata_bytes;     /* set apart for the allocator's own data; an upper bound */
	uint64_t shrunk_bytes;       /* what shrinkers said they freed */
};

/*
 * Fills in *stats, as much of it as stats->size says; fields this library does not have
 * are set to 0.  Returns 0, or -1 with errno = EINVAL when size is too small for itself.
 */
PB_FUNCTION int pb_get_stats(struct pb_stats *stats);

/*
 * Gives all free memory back to the system at once, whatever the option decay says, and
 * returns how many bytes that was.  Takes time in proportion to the memory that is
 * free, and the next use of it costs page faults.
 */
PB_FUNCTION size_t pb_trim(void);

/*
 * Gives memory back until it is nr_bytes (SIZE_MAX: as much as there is), from what costs
 * least to what costs most: free blocks, what threads cache, free pages in blocks that are
 * in use, the program's own caches (see below), and at last blocks in use that can be
 * vacated, the emptiest first.  Returns the bytes that the system really took back, which
 * may be more or fewer.  deadline: as of pb_deadline(), until when it may wait for other
 * threads and for blocks to be vacated; 0: it does not wait.
 */
PB_FUNCTION size_t pb_reclaim(size_t nr_bytes, uint64_t deadline);

/*
 * A cache of the program's own that can be dropped.  The function shall free up to nr_bytes
 * (SIZE_MAX: as much as it can) and return how many it has freed.  It is called when
 * memory is short: by pb_reclaim(), in the thread that calls that, and by the library's
 * background thread; never from inside malloc or free, never twice at a time, and with no
 * lock of the library held, so that it may take the program's locks, malloc and free.
 */
typedef size_t pb_shrinker_fn(size_t nr_bytes, void *arg);

/*
 * Registers one, and makes the background thread unless the option background says false.
 * Returns its number, or -1 with errno = EINVAL (no function), ENOSPC (there are 64).
 */
PB_FUNCTION int pb_register_shrinker(pb_shrinker_fn *fn, void *arg);
/*
 * It is not called any more when this returns: waits for a call in progress, unless it is
 * that call that unregisters.  0, or -1 with errno = EINVAL when there is no such number.
 */
PB_FUNCTION int pb_unregister_shrinker(int number);

/*
 * How long blocks live.  A program that knows says so for a stretch of its code: what is
 * allocated from here to the matching pop, by the calling thread, is placed among what lives
 * as long, so that what goes leaves whole pages, and pageblocks, behind:
 *
 *	pb_lifetime_push(PB_LONG_LIVED);
 *	entry = make_index_entry(key);
 *	pb_lifetime_pop();
 *
 * Nests (the outermost of more than 32 levels are forgotten).  Only a hint: blocks are freed by
 * anybody and at any time as others are, and a block that realloc moves stays among its
 * like.  Costs a thread a heap of its own for each lifetime it has said, of which a slab for
 * each size in use; a thread that says nothing pays nothing.  Blocks of more than 32 KiB are
 * placed as ever.  A pop too many does nothing.  Returns 0, or -1 with errno = EINVAL for a
 * lifetime that is none; it counts as unknown then and has to be popped all the same.
 */
enum pb_lifetime { PB_LIFETIME_UNKNOWN, PB_SHORT_LIVED, PB_LONG_LIVED };
PB_FUNCTION int pb_lifetime_push(enum pb_lifetime lifetime);
PB_FUNCTION void pb_lifetime_pop(void);

/*
 * Walks all of the allocator's structures and compares them with one another.  Returns
 * when all is well, else writes one line to standard error and calls abort().  Slow, and
 * other threads wait meanwhile: for tests and for hunting memory corruption.
 */
PB_FUNCTION void pb_check(void);

/*
 * Writes the heap profile of this moment to a file, made anew, in the form that
 * google-pprof reads.  Returns 0, or -1 with errno: ENODATA when the program does not run
 * with the option prof, else why the file cannot be written.
 */
PB_FUNCTION int pb_prof_write(const char *path);

/* --- contiguous memory, and memory out of use: pageblock(3) ------------------------- */

/* The unit of all of it. */
#define PB_PAGEBLOCK_BYTES ((size_t)2 << 20)

/*
 * Deadlines are points in time: nanoseconds of CLOCK_MONOTONIC, to about 4 ms.  This is
 * that of ms milliseconds from now on.
 */
PB_FUNCTION uint64_t pb_deadline(uint64_t ms);

/* Disables threads' page caches, asks for blocks to be vacated and waits, until the deadline. */
#define PB_CONTIG_HARD 1u
/* From the reserve of the option cma; without it never from there. */
#define PB_CONTIG_CMA 2u
/* All of it is made resident at once. */
#define PB_CONTIG_PREFAULT 4u
/* The system is asked for huge pages behind its whole pageblocks. */
#define PB_CONTIG_COLLAPSE 8u

/*
 * nr_bytes of contiguous memory, up to 1 GiB, that begin a pageblock.  Contents are
 * indeterminate.  The rest of the last page is the caller's, the rest of the last block stays
 * in use for others.  Belongs to the caller until pb_free_contig(); free() and realloc() do
 * not take it.  Without PB_CONTIG_HARD there is no waiting, and deadline may be 0.
 *
 * NULL and errno, and then nothing has changed:
 *   EINVAL     no or too many bytes, unknown flags
 *   ENOMEM     there is no such stretch, or no memory
 *   EBUSY      what was tried is in use (without PB_CONTIG_HARD)
 *   ETIMEDOUT  the deadline has passed, before the call or in it
 */
PB_FUNCTION void *pb_alloc_contig(size_t nr_bytes, unsigned flags, uint64_t deadline);

/* 0, or -1 with errno = EINVAL: p, which may be anything, is no live contiguous memory. */
PB_FUNCTION int pb_free_contig(void *p);

struct pb_contig_info {
	size_t size;           /* set to sizeof(struct pb_contig_info) before the call */
	size_t nr_bytes;       /* whole pages */
	size_t resident_bytes; /* of nr_bytes; as the kernel says at this moment */
	size_t huge_bytes;     /* of resident_bytes: mapped by huge pages */
};

/*
 * What backs contiguous memory at this moment, read from /proc/self/pagemap.  0, or -1 with
 * errno: EINVAL: p is none, or info->size is too small for itself; ENOSYS: nr_bytes is set,
 * but the system cannot tell the rest (before Linux 6.7, or without /proc).  Slow.
 */
PB_FUNCTION int pb_contig_info(void *p, struct pb_contig_info *info);

/*
 * Takes nr_bytes of pageblocks out of use and gives them back to the system: free ones first,
 * then, until the deadline, those that can be vacated, the emptiest first.  deadline 0: free
 * ones only.  They are not used again before pb_online(), but the process may still grow:
 * it is no limit.  Returns how many bytes went, and errno is set when these are less:
 *   EINVAL     nr_bytes is 0 or no multiple of PB_PAGEBLOCK_BYTES; nothing changed
 *   EBUSY      no more are free (without a deadline)
 *   ETIMEDOUT  the deadline has passed: before the call, nothing changed; or in it
 */
PB_FUNCTION size_t pb_offline(size_t nr_bytes, uint64_t deadline);

/* Takes up to nr_bytes, rounded down to pageblocks, back into use; returns how many. */
PB_FUNCTION size_t pb_online(size_t nr_bytes);

/*
 * For programs that defragment their own memory: whether it would help to empty a pageblock
 * if this block, which malloc gave, were copied to a new one and freed.  Cheap enough to be
 * asked for every block: a few tens of instructions, but for the first time that the answer
 * is 1 for one of a group of small blocks, when the group is set apart: malloc places copies
 * elsewhere, as long as there is room elsewhere.  0 for anything else.
 */
PB_FUNCTION int pb_defrag_hint(const void *p);

/* --- memory that can move: pageblock(3) ----------------------------------------------- */

/*
 * Names an object that has no address while it is not pinned, so that it can be moved when
 * its pageblock is wanted.  0 is none.  Handles may be copied and passed on at will.
 */
typedef uint64_t pb_handle_t;

/* An object of nr_bytes, contents indeterminate; 0 and errno = ENOMEM when there is no room. */
PB_FUNCTION pb_handle_t pb_handle_alloc(size_t nr_bytes);

/*
 * The object's address, aligned to 16, until it is unpinned as often as it was pinned; by
 * any threads.  Short of a move under way it takes no lock.  NULL and errno: EINVAL: no
 * handle; ESTALE: its object has been freed; EOVERFLOW: it is pinned 2^24 - 1 times.
 */
PB_FUNCTION void *pb_handle_pin(pb_handle_t handle);

/* 0, or -1 and errno: EINVAL and ESTALE as above; EPERM: it is not pinned. */
PB_FUNCTION int pb_handle_unpin(pb_handle_t handle);

/* 0, or -1 and errno: EINVAL and ESTALE as above; EBUSY: it is pinned, and stays. */
PB_FUNCTION int pb_handle_free(pb_handle_t handle);

/* The object's size as asked for, or 0 and errno: EINVAL and ESTALE as above. */
PB_FUNCTION size_t pb_handle_size(pb_handle_t handle);

/*
 * Moves objects of handles together, until the deadline (0: as long as it helps), and
 * returns how many bytes of pageblocks became free by it.
 */
PB_FUNCTION size_t pb_compact(uint64_t deadline);

#ifdef __cplusplus
}
#endif

#endif
