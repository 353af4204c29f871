/*
 * Heaps: what one thread allocates small objects from.
 *
 * Layout.  A heap is HEAP_STRIDE bytes of the arena, aligned to that, so that the
 * heap is found from any of its bins.  The first page is what the fast paths touch.
 *
 * Who writes what: bin.head, bin.room and the outgoing slots belong to the thread
 * that owns the heap; everything else in the second half is under heap.lock.
 * gate.owner, bin_of_size and requests are written under heap.lock by whoever diverts
 * the heap (divert.h), and read without it; thread as well, by its thread.
 *
 * Invariants (heap_check_all, as far as locks let it look): every object of a slab is live, or
 * set in the slab's bitmap, or on exactly one chain (a bin, an inbox, an outgoing slot);
 * nr_free of a slab counts its bitmap; a slab is on the list of the cordoned or the emptying
 * ones when it is one, else on that of its fullness or, without a free object, on none; the
 * table entry of each of its granules is its heap's bin, or 0 when it is cold.
 */
#ifndef PB_SHIM_HEAP_H
#define PB_SHIM_HEAP_H

#include "core/core.h"
#include "shim/arena.h"
#include "shim/classes.h"

#include <stdatomic.h>

#define HEAP_STRIDE ((size_t)16384)
/*
 * Places: kinds of objects that are kept apart because they are thought to die apart.  A
 * thread has a heap of its own for each place it allocates in.  A heap never changes its place;
 * a slab does when its place was left and PLACE_ANY needs it.
 */
#define NR_PLACES 18u
#define PLACE_ANY 0u
/* 1 to 15 are sites.h's; what the program itself says (lifetime.h): */
#define PLACE_SHORT 16u
#define PLACE_LONG 17u
/* Not a thread's: of the heap of handles, and of that of watched objects (births.h). */
#define PLACE_HANDLES NR_PLACES
#define PLACE_WATCHED (NR_PLACES + 1)
#define NR_FULLNESS 4u
/* Slabs whose free objects are all on pages that were given back to the system, used last;
 * those from which nothing is handed out; those from which it is when there are no others. */
#define LIST_PURGED NR_FULLNESS
#define LIST_CORDONED (NR_FULLNESS + 1)
#define LIST_EMPTYING (NR_FULLNESS + 2)
#define NR_LISTS (NR_FULLNESS + 3)
#define NR_OUTGOING 32u
/* Of a heap's requests, which are in divert.h: see divert_trap(). */
#define DIVERT_TRAPPED 32u

/* A free object on a chain.  key is arena_key() while the object is on a chain. */
struct object {
	struct object *next;
	uintptr_t key;
};

/* What its thread alone writes to, all the time. */
struct bin {
	struct object *head;
	int32_t room; /* pushes until slow_free() settles the bin: >= 1 at rest */
	uint16_t max; /* length at which the bin is settled */
	uint8_t cls;
	bool ran_dry; /* was refilled since it was last settled */
};

/* What everybody reads who frees an object of the bin's, in cache lines of their own: at the
 * same distance from each bin (BIN_TO_GATE). */
struct gate {
	/* Thread pointer of the thread whose fast path may push into the bin, or 0. */
	_Atomic uintptr_t owner;
	uint32_t magic;
	uint32_t limit; /* with magic: class_is_start() */
};
STATIC_ASSERT(sizeof(struct gate) == sizeof(struct bin), "one index for both");

struct slab;

/* Objects of another heap, of any class, on their way to it. */
struct outgoing {
	struct heap *heap;
	struct object *head;
	int32_t room; /* bytes until it is delivered, each object counted with OUTGOING_EXTRA */
};

/* One class of a heap, beside its bin. */
struct heap_class {
	/* Slabs with free objects; [0] is the fullest.  The cordoned and the emptying ones are
	 * all there. */
	struct slab *lists[NR_LISTS];
	struct object *inbox;            /* chain given by other threads */
	struct object *inbox_tail;       /* its last object */
	uint32_t nr_inbox;
	_Atomic uint32_t nr_slabs; /* also read without the lock, as a hint */
	uint64_t nr_free;          /* in the bitmaps of all its slabs */
	uint16_t batch;            /* objects for the next refill; 0: the first */
	uint32_t inbox_most;       /* objects above which the inbox is settled; with its first */
};

struct heap {
	/* bin_of_size[n] * BIN_STEP is the offset of the bin for n bytes from bins. */
	_Atomic uint8_t bin_of_size[SMALL_MAX + 1];
	_Atomic uint8_t requests; /* DIVERT_*: what its thread is asked to do */
	bool counted; /* bin_of_size leads all mallocs to the slow path, to be counted */
	/* Thread pointer of the thread it belongs to, or 0; as gate.owner, for all its bins, but
	 * also while it is diverted.  Here because this line is seldom written to. */
	_Atomic uintptr_t thread;
	_Alignas(CACHE_LINE) struct bin bins[NR_CLASSES];
	struct gate gates[NR_CLASSES];
	/* Its thread's alone. */
	int64_t sample_left;    /* bytes to the next sample (sample.h) */
	struct heap *next_mine; /* the thread's heaps */
	uint64_t lingered_ns;   /* linger.h */
	uint32_t visits_left;

	/* What others write to as well. */
	_Alignas(CACHE_LINE) struct lock lock;
	bool ownerless; /* under heaps.lock and lock: no thread, on a stack of heaps */
	uint8_t place;  /* written once */
	bool settled;   /* under heaps.lock: caches nothing since it has no thread */
	uint32_t nr_slabs;
	/* Slow paths taken, and how many there were when it was last looked at and asked to
	 * settle: whether it is in use.  All under the lock. */
	uint32_t nr_slow, seen_slow, asked_slow;
	uint64_t has_inbox[(NR_CLASSES + 63) / 64]; /* a bit for each class with an inbox */
	uint64_t old_inbox[(NR_CLASSES + 63) / 64]; /* in a fork child: those of its parent */
	struct heap *next_all;                      /* every heap ever made; written once */
	struct heap *next_ownerless;                /* under heaps.lock */
	struct pcp pcp;
	struct outgoing outgoing[NR_OUTGOING];
	/* Last: of the classes that a thread does not use no page is ever touched. */
	struct heap_class classes[NR_CLASSES];
};
STATIC_ASSERT(sizeof(struct heap) <= HEAP_STRIDE, "a heap fits its place");
#define BIN_TO_GATE (offsetof(struct heap, gates) - offsetof(struct heap, bins))
STATIC_ASSERT(BIN_TO_GATE % CACHE_LINE == 0, "no line is shared by both");
/* What bin_of_size counts in, and how many of these a bin has. */
#define BIN_STEP ((size_t)8)
#define BIN_STEPS ((unsigned)(sizeof(struct bin) / BIN_STEP))

/* The heap of a thread that has none: all lists empty. Never written. */
extern struct heap heap_null;
/* The thread's heap for each place, or the null heap; [PLACE_ANY] is for all that does not
 * say otherwise, and may be one of another place while the thread says so. */
extern __thread struct heap *heap_now[NR_PLACES];
#define heap_current heap_now[PLACE_ANY]

static inline struct heap *heap_of_bin(const struct bin *b)
{
	return (struct heap *)((uintptr_t)b & ~(HEAP_STRIDE - 1));
}

/* The class of a bin, without a look at it: for who is not its thread. */
static inline unsigned heap_bin_class(const struct bin *b)
{
	size_t offset = (uintptr_t)b & (HEAP_STRIDE - 1);

	return (unsigned)((offset - offsetof(struct heap, bins)) / sizeof(struct bin));
}

static inline uintptr_t thread_pointer(void)
{
#if defined(__x86_64__)
	uintptr_t tp;

	__asm__("mov %%fs:0, %0" : "=r"(tp));
	return tp;
#else
	return (uintptr_t)__builtin_thread_pointer();
#endif
}

/* What the thread has been through. */
enum thread_state { THREAD_NEW, THREAD_STARTED, THREAD_EXITING };
extern __thread enum thread_state heap_thread_state;

/* A heap of the place for the calling thread, which has none, or NULL; the thread gives one
 * up. */
struct heap *heap_attach(unsigned place);
void heap_detach(struct heap *h);
/* The thread's heap of the place, or NULL. */
struct heap *heap_mine(unsigned place);
/* From now on what does not say otherwise is allocated in the place; false, and nothing has
 * changed: no memory for a heap. */
bool heap_use_place(unsigned place);

/* Whether the heap is one of the calling thread's. */
static inline bool heap_is_mine(const struct heap *h)
{
	/* Relaxed: only the thread itself writes its own thread pointer there. */
	return atomic_load_explicit(&h->thread, memory_order_relaxed) == thread_pointer();
}

/* What the thread of a heap, which may be the null heap, is asked to do (divert.h). */
static inline unsigned heap_requests(const struct heap *h)
{
	/* Relaxed: whoever answers takes the lock under which it was asked. */
	return atomic_load_explicit(&h->requests, memory_order_relaxed);
}

/* Anything but what waits until the thread falls into a trap. */
static inline bool heap_is_asked(const struct heap *h)
{
	return (heap_requests(h) & ~DIVERT_TRAPPED) != 0;
}

/* Asks the threads of all heaps (divert.h). */
void heap_divert_all(unsigned requests);
/* Without locks: the thread does what it is asked to, for all of its heaps. */
void heap_answer(void);

static inline void heap_answer_if_asked(void)
{
	if (unlikely(heap_is_asked(heap_current)))
		heap_answer();
}

/* The thread's heap, for one operation; NULL: there is none to be had. */
static inline struct heap *heap_enter(void)
{
	heap_answer_if_asked();
	return likely(heap_current != &heap_null) ? heap_current : heap_attach(PLACE_ANY);
}

/* The same for a place; a thread on its way out, or one that gets none, uses what it has. */
static inline struct heap *heap_enter_at(unsigned place)
{
	struct heap *h = heap_now[place];

	if (likely(h != &heap_null)) {
		if (unlikely(heap_is_asked(h)))
			heap_answer();
		return h;
	}
	h = place == PLACE_ANY || heap_thread_state == THREAD_EXITING ? NULL
								      : heap_attach(place);
	return h != NULL ? h : heap_enter();
}

/* Ends an operation that began with heap_enter(). */
static inline void heap_leave(struct heap *h)
{
	if (unlikely(heap_thread_state == THREAD_EXITING) && heap_current == h)
		heap_detach(h);
}

/* Which kind of blocks the slabs of a place come from: 0, those of no kind, until the place has
 * blocks of its own.  Relaxed: a slab may come from where others did. */
extern _Atomic uint8_t heap_kinds[NR_PLACES];
void heap_set_own_blocks(unsigned place, bool own);
static inline bool heap_has_own_blocks(unsigned place)
{
	return atomic_load_explicit(&heap_kinds[place], memory_order_relaxed) != PLACE_ANY;
}
/* Nobody is to allocate in the place any more: what its heaps have free is for PLACE_ANY; or
 * somebody is again. */
void heap_set_left(unsigned place, bool left);

/* A heap without a thread that none will take; or NULL. */
struct heap *heap_make_apart(unsigned place);

/* Every heap ever made, by next_all. */
struct heap *heap_first(void);

/* Before a heap asks for pages: takes a slab of the class over from another, if there is one
 * that can spare it.  Without locks. */
void heap_adopt_slab(struct heap *h, unsigned cls);

/* The thread gives its heap up; later calls borrow one for each operation. */
void heap_thread_exit(void);

/* Settles every queue of every heap that can be reached: ownerless heaps wholly, others'
 * inboxes and page caches, the caller's own all.  What other threads have in their bins
 * and outgoing slots is theirs: at most BIN_BYTES_MAX and BATCH_BYTES_MAX each. */
void heap_drain_all(void);
/* The same for heaps that have not been used since the last call, as far as they cache
 * something worth it; running threads are asked to.  Whether one was, or is in the middle of
 * much. */
bool heap_settle_idle(void);
/* The calling thread's own heap alone. */
void heap_flush(void);
/* What anybody caches of cordoned slabs is settled: at once where it can be reached, by
 * other threads at their next call. */
void heap_leave_cordoned(void);
/* Every cordoned slab of every heap is as others again. */
void heap_uncordon_all(void);
void heap_check_all(void);

void heap_fork_prepare(void);
void heap_fork_parent(void);
void heap_fork_child(void);

/* For readers outside of the process. */
void heap_inspect(void);

struct shim_stats;
void heap_stats_add(struct shim_stats *out);

#endif
