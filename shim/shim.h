/*
 * malloc, as the layer above sees it: everything that C's allocation functions
 * need, without their exported names.
 *
 * All functions are safe from any thread and before constructors ran; the first
 * call sets everything up.  None changes errno except where it says so.
 */
#ifndef PB_SHIM_SHIM_H
#define PB_SHIM_SHIM_H

#include "core/util.h"

#include <stdbool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shim_config {
	size_t reserve_bytes;  /* see core_config */
	uint64_t decay_ns;     /* see core_config */
	bool purge_lazily;     /* see core_config */
	size_t thp_from_bytes; /* see core_config */
	size_t cma_bytes;      /* a reserve, see cma_reserve(); 0: none */
	unsigned thp_extra_percent; /* see core_config */
	bool fork_child_purges;  /* see core_config */
	size_t ready_bytes;      /* see core_config */
	size_t soft_limit_bytes; /* see core_config */
	size_t hard_limit_bytes; /* see core_config */
	bool lingers; /* see linger.h */
	/*
	 * Changes an option while the program runs: text says NAME:VALUE.  0 or a negative
	 * errno, and then text says why not.  May be NULL.  See core/inspect.h.
	 */
	int (*set_option)(char *text, size_t nr_bytes);
	bool sample; /* whether samples are taken, once shim_sample_setup() was called */
};

/*
 * Provided by whoever links the shim (the preload library, a test): called once,
 * before the first allocation, perhaps before constructors and before libc has
 * set environ.  Must not allocate.
 */
const struct shim_config *shim_config(void);

/*
 * Provided by whoever links the shim: called when a thread gets its first heap, to
 * arrange that shim_thread_exit() is called late in the thread's exit.  May
 * allocate (the heap is ready).
 */
void shim_thread_started(void);

/* Takes over those options of the config that may change at any time. */
void shim_reconfigure(const struct shim_config *config);

/* Sets up; happens by itself at the first allocation, harmless to call again. */
void shim_init(void);

/* NULL and errno = ENOMEM when there is no room.  Never returns NULL for size 0. */
void *shim_malloc(size_t size);
void *shim_calloc(size_t nr, size_t size);
/* realloc(NULL, n) is malloc(n); realloc(p, 0) frees p and returns NULL, as glibc does. */
void *shim_realloc(void *p, size_t size);
/* align: a power of two (checked by the caller). */
void *shim_aligned_alloc(size_t align, size_t size);
/* Keeps errno.  NULL is fine; anything not allocated here and live stops the program. */
void shim_free(void *p);
/* Bytes that may be written at p; 0 for NULL. */
size_t shim_usable_size(const void *p);

/* Whether the address is in memory that blocks come from; it need not be in one. */
bool shim_owns(const void *p);

/* What shim_usable_size() would say of an object of this size and alignment (a power of
 * two, ALIGN_MIN at least); 0: no object is so large. */
size_t shim_good_size(size_t align, size_t size);

/* Everything the calling thread caches goes back to where it came from. */
void shim_thread_flush(void);

/* --- samples: see sample.h ----------------------------------------------------------- */

/* Deeper stacks are cut at their outer end. */
#define SHIM_SITE_FRAMES 96u

/*
 * Objects of one size class that were allocated by one stack of calls.  nr and bytes are
 * of sampled objects, weight is bytes of all that these stand for.
 */
struct shim_site {
	uint64_t nr_live, bytes_live, weight_live;
	uint64_t nr_allocated, bytes_allocated, weight_allocated;
	uint64_t nr_peak, bytes_peak, weight_peak; /* when weight_live of all was highest */
	uint64_t hash;       /* of the stack */
	uint64_t first_frame;
	uint32_t nr_frames; /* 0: the stack is not known */
	uint32_t stack;     /* the first site with the same stack */
	uint32_t size_step; /* which sizes these are */
	uint32_t next;
	uint32_t peak;
};

struct shim_samples {
	uint64_t rate; /* 0: never set up */
	uint64_t nr_sites;
	uint64_t nr_live, nr_taken;
	uint64_t nr_dropped; /* for want of room */
	uint64_t weight_live, weight_peak;
};

/*
 * Makes ready for sampling one byte in `rate`, but does not begin.  unwind writes the
 * calling thread's return addresses, innermost first, and says how many; it is called
 * without locks and may allocate.  0, -EALREADY or -ENOMEM.
 */
int shim_sample_setup(size_t rate, unsigned (*unwind)(void **frames, unsigned max));
/* Begins or ends taking samples; those that are there stay.  0; -EINVAL: not set up. */
int shim_sample_switch(bool on);
bool shim_sample_is_on(void);
void shim_sample_read(struct shim_samples *out);
/* Site number i, from 1 on; false: there are not so many.  The frames stay. */
bool shim_sample_site(uint32_t i, struct shim_site *out, const uint64_t **frames);

/*
 * Until the matching pop the calling thread allocates what is thought to live so long: an
 * enum lifetime (lifetime.h).  Nests; a pop too many does nothing.
 */
void shim_lifetime_push(unsigned lifetime);
void shim_lifetime_pop(void);

/* The calling thread is about to end: gives its heap up. */
void shim_thread_exit(void);

/* Returns all memory that can be returned now; the bytes given back to the system. */
size_t shim_trim(void);
/*
 * Returns memory until it is nr_bytes, by the steps of reclaim.c; the bytes given back.
 * deadline_ns as of CLOCK_MONOTONIC: until when it may wait for threads and for blocks to
 * be vacated; 0: not at all.
 */
size_t shim_reclaim(size_t nr_bytes, uint64_t deadline_ns);
/* The system is short of memory: what costs no waiting is done soon, see work.h. */
void shim_pressed(void);
/*
 * Asks the program's own caches for so many bytes; returns how many they say they freed.
 * Called by shim_reclaim() and by the background thread, without locks.
 */
typedef size_t shim_shrink_fn(size_t nr_bytes);
void shim_set_shrink(shim_shrink_fn *fn);

/* --- whole pageblocks ---------------------------------------------------------- */

/* See contig_alloc(); the flags beyond its own. */
#define SHIM_CONTIG_HARD 1u
#define SHIM_CONTIG_CMA 2u
#define SHIM_CONTIG_PREFAULT 4u
#define SHIM_CONTIG_COLLAPSE 8u

/* Contiguous memory that begins a pageblock, or NULL and *err is a negative errno. */
void *shim_contig_alloc(size_t nr_bytes, unsigned flags, uint64_t deadline_ns, int *err);
/* 0, or -EINVAL: p is no live contiguous allocation. */
int shim_contig_free(void *p);
/* How much of it is resident and in huge pages; 0, -EINVAL as above, or why the system
 * cannot say, and then only *nr_bytes is set. */
int shim_contig_look(void *p, size_t *nr_bytes, size_t *resident_bytes, size_t *huge_bytes);

/* As offline_pages() and online_pages(), in bytes; *err is 0 or a negative errno. */
size_t shim_offline(size_t nr_bytes, uint64_t deadline_ns, int *err);
size_t shim_online(size_t nr_bytes);

/* Whether moving a live block would help to empty a pageblock: then it should be done, since
 * malloc avoids the slab from now on.  A few tens of instructions, but for the first of a
 * slab; false for what is no block. */
bool shim_defrag_hint(const void *p);

/*
 * Handles: see handle.h.  0 is no handle.  Answers are 0 or a negative errno:
 *   -ENOMEM     no room (alloc)
 *   -EINVAL     never was a handle
 *   -ESTALE     its object has been freed
 *   -EBUSY      it is pinned (free)
 *   -EPERM      it is not pinned (unpin)
 *   -EOVERFLOW  it is pinned 2^24 - 1 times (pin)
 */
uint64_t shim_handle_alloc(size_t nr_bytes, int *err);
/* Where the object is until it is unpinned as often as it was pinned; aligned to 16. */
void *shim_handle_pin(uint64_t handle, int *err);
int shim_handle_unpin(uint64_t handle) MUST_CHECK;
int shim_handle_free(uint64_t handle) MUST_CHECK;
size_t shim_handle_size(uint64_t handle, int *err);
/* Moves handles' objects together until the deadline (0: to the end); the bytes of pageblocks
 * that became free. */
size_t shim_compact(uint64_t deadline_ns);

/* Milliseconds from now as a deadline; never 0. */
uint64_t shim_deadline_ns(uint64_t ms);

struct shim_stats {
	uint64_t live_bytes;  /* in blocks the program holds or that are cached for it, rounded
				 to classes */
	uint64_t large_bytes; /* of these, in page runs */
	uint64_t slab_bytes;  /* pages of slabs */
	uint64_t slab_free_bytes;  /* free objects in slabs */
	uint64_t committed_bytes;  /* pages of spans in use */
	uint64_t dirty_free_bytes; /* free pages that are possibly resident */
	uint64_t purged_bytes;     /* given back since the start */
	uint64_t nr_heaps;
	uint64_t nr_ownerless_heaps;
	uint64_t cached_page_bytes; /* pages in threads' page caches */
	uint64_t metadata_bytes;    /* the allocator's own, committed for heaps and blocks */
	uint64_t shrunk_bytes;      /* what registered caches said they freed when asked */
};
void shim_stats_read(struct shim_stats *out);

/* Walks every structure; stops the program with one line on the first broken invariant. */
void shim_check(void);

/* For pthread_atfork: all locks are held from prepare to parent or child. */
void shim_fork_prepare(void);
void shim_fork_parent(void);
void shim_fork_child(void);

#endif
