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

#ifdef __cplusplus
}
#endif

#endif
