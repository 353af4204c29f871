/*
 * Making the arena and the owner table; see arena.h for the layout.
 */
#include "shim/arena.h"

#include "core/core.h"
#include "shim/heap.h"

#include <errno.h>
#include <string.h>

#define ARENA_ALIGN ((size_t)2 << 20)
/* Heaps are committed this many bytes at a time. */
#define ARENA_CHUNK ((size_t)256 << 10)

/*
 * What the table is before arena_init(): an entry for NULL that leads to a bin nobody
 * owns, so that free(NULL) is safe whenever it comes.
 */
static const struct {
	uint32_t entry;
	_Alignas(32) struct bin null_bin;
	char between[BIN_TO_GATE - sizeof(struct bin)];
	struct gate gate;
} early = { .entry = (uint32_t)ARENA_BYTES + 32 };

char *_Atomic arena_table = (char *)(uintptr_t)&early;

static size_t committed;  /* bytes of the arena that can be written */
static size_t used;       /* bytes of the arena given out */
static bool windows_only; /* the table is mapped piece by piece */
/* With windows_only: the parts of the table that are mapped, one for each span. */
static struct window {
	char *from, *to;
} windows[SPANS_MAX + 1];
static unsigned nr_windows;

/*
 * Places for the arena where the kernel puts nothing by itself: far below the
 * region it fills from the top and the one of executables and their heap.
 */
static char *arena_candidate(unsigned attempt)
{
	uintptr_t random = ((uintptr_t)__builtin_frame_address(0) >> 4) * 0x9E3779B97F4A7C15u;
	uintptr_t slot = (random >> 40) + attempt * 977u;

	return (char *)(((uintptr_t)0x10 << 40) + (slot & 0xfff) * ((uintptr_t)4 << 30));
}

static int arena_commit_to(char *base, size_t bytes)
{
	if (bytes <= committed)
		return 0;

	size_t want = round_up(bytes, ARENA_CHUNK);

	if (want > ARENA_BYTES)
		return -ENOMEM;
	if (windows_only && !os_reserve_at(base + committed, want - committed))
		return -ENOMEM;

	int err = os_commit_small(base + committed, want - committed);

	if (err == 0)
		committed = want;
	else if (windows_only)
		os_unreserve(base + committed, want - committed);
	return err;
}

/* The parts of the arena and the table that are needed at first; their base, or NULL. */
static char *reserve_windows(void)
{
	size_t page = os_page_bytes();

	windows_only = true;
	for (unsigned attempt = 0; attempt < 16; attempt++) {
		char *base = arena_candidate(attempt);

		if (!os_reserve_at(base + ARENA_BYTES, page))
			continue;
		if (os_commit_small(base + ARENA_BYTES, page) == 0)
			return base;
		os_unreserve(base + ARENA_BYTES, page);
	}
	return NULL;
}

int arena_init(void)
{
	char *base = NULL;

	if (os_address_limit() == SIZE_MAX)
		base = os_reserve_readable(ARENA_BYTES + TABLE_BYTES, ARENA_ALIGN);
	if (base == NULL)
		base = reserve_windows();
	used = HEAP_STRIDE; /* the null bin and what is around it */
	if (base == NULL || arena_commit_to(base, HEAP_STRIDE) != 0)
		return -ENOMEM;
	/* Release pairs with the acquire in arena_table_now(). */
	atomic_store_explicit(&arena_table, base + ARENA_BYTES, memory_order_release);
	return 0;
}

static bool is_in_window(const char *at)
{
	for (unsigned i = 0; i < nr_windows; i++) {
		if (at >= windows[i].from && at < windows[i].to)
			return true;
	}
	return false;
}

/* Spans may share a page of the table. */
static int window_add(char *from, char *to, size_t page)
{
	for (char *at = from; at < to; at += page) {
		if (is_in_window(at))
			continue;
		if (nr_windows == SPANS_MAX + 1)
			return -ENOMEM;
		if (!os_reserve_at(at, page))
			return -ENOMEM;
		if (os_commit_small(at, page) != 0) {
			os_unreserve(at, page);
			return -ENOMEM;
		}
		/* One page at a time, so that a failure half way forgets nothing. */
		if (nr_windows > 0 && windows[nr_windows - 1].to == at)
			windows[nr_windows - 1].to = at + page;
		else
			windows[nr_windows++] = (struct window){ at, at + page };
	}
	return 0;
}

int arena_span_added(void *start, size_t nr_bytes)
{
	size_t page = os_page_bytes();
	char *from = (char *)round_down((uintptr_t)arena_entry(start), page);
	char *to = (char *)round_up((uintptr_t)arena_entry((char *)start + nr_bytes), page);

	return windows_only ? window_add(from, to, page)
			    : os_commit_small(from, (size_t)(to - from));
}

void *arena_new_heap(void)
{
	if (arena_commit_to(arena_base(), used + HEAP_STRIDE) != 0)
		return NULL;
	used += HEAP_STRIDE;
	return arena_base() + used - HEAP_STRIDE;
}
