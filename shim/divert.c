/* Diverting a heap; see divert.h. */
#include "shim/divert.h"

#include "shim/sample.h"

#include <string.h>

/*
 * The place of a word that is always 0 among the bins, as bin_of_size counts: the owner in
 * the gate of the first medium bin, which is never anybody's on the fast path.  fast_malloc()
 * takes it for the head of an empty bin.
 */
#define EMPTY_BIN ((unsigned)(BIN_TO_GATE / BIN_STEP) + NR_SMALL_CLASSES * BIN_STEPS)
STATIC_ASSERT(NR_SMALL_CLASSES < NR_CLASSES, "there is a medium bin");
STATIC_ASSERT(offsetof(struct bin, head) == 0 && offsetof(struct gate, owner) == 0,
	      "the word's place");
STATIC_ASSERT(EMPTY_BIN <= UINT8_MAX, "bin_of_size reaches it");

/* The thread itself is on none of its fast paths: plain stores, many at a time. */
static void empty_all_bins(struct heap *h)
{
	if (heap_is_mine(h)) {
		memset((uint8_t *)(uintptr_t)h->bin_of_size, EMPTY_BIN, sizeof(h->bin_of_size));
		return;
	}
	/* Relaxed: both the bin and the empty one are there at any time. */
	for (size_t size = 0; size <= SMALL_MAX; size++)
		atomic_store_explicit(&h->bin_of_size[size], (uint8_t)EMPTY_BIN,
				      memory_order_relaxed);
}

/* bin_of_size of a heap that is not diverted.  Sizes above SMALL_MAX share the last entry. */
#define SIZE_INDEX(size) ((size) <= SMALL_MAX ? (size) : SMALL_MAX + 1)

/* An enumerator without a value is one more than the one before it. */
enum {
#define CLASS(b, o) FIRST_SIZE_##b, LAST_SIZE_##b = (b),
#include "shim/classes.def"
#undef CLASS
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
__extension__ static const uint8_t bins_by_size[SMALL_MAX + 2] = {
#define CLASS(b, o)                                                                            \
	[SIZE_INDEX(FIRST_SIZE_##b)... SIZE_INDEX(LAST_SIZE_##b)] =                            \
		(uint8_t)(CLASS_##b * BIN_STEPS),
#include "shim/classes.def"
#undef CLASS
};
#pragma GCC diagnostic pop
STATIC_ASSERT(LAST_SIZE_2048 == SMALL_MAX, "the small classes fill the table");

/* Plain stores, many at a time: nobody but the caller is on this heap's fast paths. */
void divert_setup(struct heap *h)
{
	uint8_t *bin_of_size = (uint8_t *)(uintptr_t)h->bin_of_size;

	h->counted = shim_sample_is_on();
	if (unlikely(h->counted))
		memset(bin_of_size, EMPTY_BIN, sizeof(h->bin_of_size));
	else
		memcpy(bin_of_size, bins_by_size, sizeof(h->bin_of_size));
}

void divert_set_owner(struct heap *h, uintptr_t thread_pointer)
{
	/* Relaxed: see fast_free(). Medium bins are never anybody's on the fast path. */
	for (unsigned cls = 0; cls < NR_SMALL_CLASSES; cls++)
		atomic_store_explicit(&h->gates[cls].owner, thread_pointer,
				      memory_order_relaxed);
}

void divert_heap(struct heap *h, unsigned requests)
{
	lock_acquire(&h->lock, LOCK_HEAP);
	if (!h->ownerless) {
		unsigned was = heap_requests(h);

		/* Relaxed: all writers hold the lock; see heap_requests(). */
		atomic_store_explicit(&h->requests, (uint8_t)(was | requests),
				      memory_order_relaxed);
		if ((was & ~DIVERT_TRAPPED) == 0)
			empty_all_bins(h);
		divert_set_owner(h, 0);
	}
	lock_release(&h->lock, LOCK_HEAP);
}

void divert_trap(struct heap *h, unsigned which)
{
	uint8_t *bin_of_size = (uint8_t *)(uintptr_t)h->bin_of_size;

	lock_acquire(&h->lock, LOCK_HEAP);
	if (heap_requests(h) == 0) {
		for (size_t at = which * ALIGN_MIN; which < NR_TRAPS && at < SMALL_MAX;
		     at += NR_TRAPS * ALIGN_MIN)
			memset(bin_of_size + at + 1, EMPTY_BIN, ALIGN_MIN);
		/* Relaxed: as above. */
		atomic_store_explicit(&h->requests, (uint8_t)DIVERT_TRAPPED,
				      memory_order_relaxed);
	}
	lock_release(&h->lock, LOCK_HEAP);
}
STATIC_ASSERT(SMALL_MAX % (NR_TRAPS * ALIGN_MIN) == 0, "each trap has as many sizes");

unsigned divert_end(struct heap *h)
{
	unsigned requests = heap_requests(h);

	if (requests != 0) {
		divert_setup(h);
		/* Relaxed: as above. */
		atomic_store_explicit(&h->requests, 0, memory_order_relaxed);
	}
	return requests;
}
