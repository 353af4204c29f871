/*
 * Samples: which call sites hold the memory, by a Poisson process over the bytes that are
 * allocated.
 *
 * Every byte is chosen with the same small chance, independently of all others, so that an
 * object of s bytes is sampled with p = 1 - exp(-s / rate) and stands for 1 / p objects
 * like it: sums of these weights are unbiased, whatever the sizes.  (The idea is that of
 * tcmalloc's and jemalloc's profilers.)  A heap counts down to its next sample; while
 * sampling is on, bin_of_size leads every malloc to the slow path, where that is done
 * (divert.h), and while it is off nothing is counted on any fast path.
 *
 * A sampled object stays where it would have been: who looks at a pageblock finds who holds
 * it.  Its slab is cold (SLAB_SAMPLED), so that its free is seen, exactly.
 *
 * Records, sites and frames lie in memory of their own, reserved once and committed as
 * needed.  All of it is under the samples lock, the last in rank; stacks are taken with no
 * lock held.  Nothing is ever moved, and frames and sites are never removed: what is in a
 * site but for its counters may be read without the lock.
 */
#ifndef PB_SHIM_SAMPLE_H
#define PB_SHIM_SAMPLE_H

#include "shim/heap.h"
#include "shim/shim.h"

/* A live object.  address 0: the record is free, and next leads to the next free one. */
struct sample_record {
	uint64_t address;
	uint64_t size;    /* as asked for */
	uint64_t weight;  /* bytes that it stands for */
	uint64_t born_ns; /* as of os_now_ns() */
	uint32_t site;
	uint32_t next;
};

/* All that profiles are made of. */
struct samples {
	struct lock lock;
	_Atomic bool on; /* whether new objects are to be sampled */
	uint32_t nr_records; /* places used so far, free ones included; place 0 is none */
	uint32_t free_record;
	uint32_t nr_sites;
	uint64_t nr_frames;
	uint64_t rate; /* mean number of bytes between samples; 0: never switched on */
	_Atomic uint64_t nr_live; /* written under the lock */
	uint64_t nr_taken;
	uint64_t nr_dropped; /* for want of room, or of a stack */
	uint64_t weight;     /* of all live ones: bytes */
	uint64_t peak_weight;
	uint64_t started_ns, peak_ns;
	uint32_t peak; /* number of the latest peak */
	struct sample_record *records;
	struct shim_site *sites;
	uint64_t *frames;
	uint32_t *record_heads, *site_heads; /* hash tables of chains; 0 ends one */
};
extern struct samples samples;

/* How many bytes it is to the heap's next sample: by its thread, or under its lock. */
void sample_arm(struct heap *h);
/* The heap has counted down; whether a sample is to be taken. */
bool sample_is_due(struct heap *h);

/*
 * Counts an allocation of the thread's own heap; whether it is to be sampled.  A heap for
 * which sampling is off has more to go than anybody can allocate.
 */
static inline bool sample_count(struct heap *h, size_t size)
{
	return unlikely((h->sample_left -= (int64_t)size) < 0) && sample_is_due(h);
}

/* The object has just been allocated, and is to be sampled.  Without locks. */
void sample_take(void *p, size_t size);

/* Whether any object at all may be sampled: a hint that is right for one's own objects. */
static inline bool sample_any(void)
{
	/* Relaxed: whoever has a sampled object got it after this was counted. */
	return atomic_load_explicit(&samples.nr_live, memory_order_relaxed) != 0;
}

/* The caller is about to free this page run, or this object of a slab with SLAB_SAMPLED. */
void sample_forget_run(const void *p);
void sample_forget(struct slab *s, const void *p);

/* Before a fork takes any lock: waits for stacks that are being taken. */
void sample_fork_wait(void);
void sample_fork_prepare(void);
void sample_fork_parent(void);
void sample_fork_child(void);

/* For readers outside of the process. */
void sample_inspect(void);

#endif
