/*
 * malloc's rules on top of heaps and page runs; see shim.h.
 */
#include "shim/shim.h"

#include "shim/compact.h"
#include "shim/diag.h"
#include "shim/fast.h"
#include "shim/holes.h"
#include "shim/inspect.h"
#include "shim/large.h"
#include "shim/linger.h"
#include "shim/lifetime.h"
#include "shim/reclaim.h"
#include "shim/sites.h"
#include "shim/sample.h"
#include "shim/slab.h"
#include "shim/suspect.h"
#include "shim/vacate.h"

#include <errno.h>
#include <string.h>

static struct lock init_lock;
static _Atomic bool ready;

static void reserve(size_t cma_bytes)
{
	static const char failed[] = "pageblock: cma: there is no room for the reserve\n";

	if (cma_bytes > 0 && cma_reserve(cma_bytes) != 0)
		os_write_stderr(failed, sizeof(failed) - 1);
}

/* What core is told at the start and whenever options change. */
static struct core_config changeable(const struct shim_config *config)
{
	return (struct core_config){
		.decay_ns = config->decay_ns,
		.purge_lazily = config->purge_lazily,
		.thp_from_bytes = config->thp_from_bytes,
		.thp_extra_percent = config->thp_extra_percent,
		.ready_bytes = config->ready_bytes,
		.fork_child_purges = config->fork_child_purges,
		.soft_limit_bytes = config->soft_limit_bytes,
		.hard_limit_bytes = config->hard_limit_bytes,
	};
}

static void init_once(void)
{
	const struct shim_config *config = shim_config();
	struct core_config core = changeable(config);

	core.client_bytes = BLOCK_CLIENT_BYTES;
	core.client_droppable_bytes = offsetof(struct block_client, slabs);
	core.span_added = arena_span_added;
	core.vacate = vacate_range;
	core.vacate_end = vacate_end;
	core.pressed = reclaim_pressed;
	core.reserve_bytes = config->reserve_bytes;
	CHECK(arena_init() == 0);
	CHECK(core_init(&core) == 0);
	holes_init(config->decay_ns);
	reserve(config->cma_bytes);
	reclaim_init();
	if (config->lingers)
		linger_init();
	inspect_shim(config);
}

void shim_reconfigure(const struct shim_config *config)
{
	const struct core_config core = changeable(config);

	core_reconfigure(&core);
	holes_set_decay(config->decay_ns);
	(void)shim_sample_switch(config->sample);
}

void shim_init(void)
{
	/* Acquire: pairs with the release below, publishes what init_once() set up. */
	if (likely(atomic_load_explicit(&ready, memory_order_acquire)))
		return;
	lock_acquire(&init_lock, LOCK_HEAPS);
	if (!atomic_load_explicit(&ready, memory_order_relaxed)) {
		init_once();
		atomic_store_explicit(&ready, true, memory_order_release);
	}
	lock_release(&init_lock, LOCK_HEAPS);
}

void *shim_malloc(size_t size)
{
	return fast_malloc(size);
}

void shim_free(void *p)
{
	fast_free(p);
}

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

/* A page run that did not come by slow_malloc() counts for the next sample like all. */
static void *counted_run(void *p, size_t size)
{
	struct heap *h;

	if (p == NULL || !shim_sample_is_on())
		return p;
	h = heap_enter();
	if (h == NULL)
		return p;

	bool sampled = sample_count(h, size);

	heap_leave(h);
	if (sampled)
		sample_take(p, size);
	return p;
}

void *shim_calloc(size_t nr, size_t size)
{
	size_t bytes;
	bool zeroed = false;
	void *p;

	if (unlikely(__builtin_mul_overflow(nr, size, &bytes)))
		return no_memory();
	if (bytes <= MEDIUM_MAX) {
		p = fast_malloc(bytes);
		return p == NULL ? NULL : memset(p, 0, bytes);
	}
	shim_init();
	p = large_alloc(bytes, 0, &zeroed);
	if (unlikely(p == NULL)) {
		p = slow_malloc(bytes); /* tries harder, sets errno */
		if (p == NULL)
			return NULL;
	} else {
		counted_run(p, bytes);
	}
	work_tick();
	return zeroed ? p : memset(p, 0, bytes);
}

/* The slab that holds p, or NULL when p is a page run; anything else stops the program. */
static struct slab *live_slab(const void *p, const char *call)
{
	if (unlikely(!zone_owns(p)))
		diag_fatal(DIAG_FOREIGN, call, p, 0, NULL);

	struct slab *s = slab_of(p);

	if (slab_heap(s) == NULL)
		return NULL;
	slab_check_start(s, p, call);
	return s;
}

/* A page run, or the key says that it is free, or looks like it: the slab is exact. */
static NOINLINE size_t slow_usable(const void *p, const char *call)
{
	struct slab *s = live_slab(p, call);

	if (s == NULL)
		return large_bytes(p, call);
	if (unlikely(((const struct object *)p)->key == arena_key()) && suspect_is_freed(s, p))
		diag_fatal(DIAG_DOUBLE_FREE, call, p, class_info[s->cls].bytes, p);
	return class_info[s->cls].bytes;
}

static ALWAYS_INLINE size_t usable(const void *p, const char *call)
{
	char *table = arena_table_now();
	/* Relaxed: as in fast_free().  What the table says is enough for nearly all. */
	uint32_t entry = atomic_load_explicit(arena_entry_in(table, p), memory_order_relaxed);

	if (unlikely(entry == 0))
		return slow_usable(p, call);

	const struct bin *b = (const struct bin *)(void *)(table - ARENA_BYTES + entry);
	const struct class_info *ci = &class_info[b->cls];

	if (unlikely(!class_is_start64(ci, class_offset(ci, p)) ||
		     ((const struct object *)p)->key == (uintptr_t)table))
		return slow_usable(p, call);
	return ci->bytes;
}

size_t shim_usable_size(const void *p)
{
	return p == NULL ? 0 : usable(p, "malloc_usable_size");
}

/* In the place where it is: who grows a block goes on using it as before. */
static void *alloc_beside(const void *p, size_t old_bytes, size_t size)
{
	unsigned place = PLACE_ANY;

	if (old_bytes <= MEDIUM_MAX)
		place = slab_heap(slab_of(p))->place;
	if (unlikely(place == PLACE_WATCHED))
		place = sites_moves(p);
	if (likely(place == PLACE_ANY))
		return fast_malloc(size);
	return slow_malloc_at(size, place, NULL);
}

static void *move(void *p, size_t old_bytes, size_t size)
{
	void *to = alloc_beside(p, old_bytes, size);

	if (unlikely(to == NULL))
		return NULL;
	memcpy(to, p, old_bytes < size ? old_bytes : size);
	fast_free(p);
	return to;
}

/* Whether a live block should move because its pageblock is to be vacated. */
static bool should_leave(const void *p, size_t nr_bytes)
{
	return nr_bytes <= MEDIUM_MAX ? (slab_flags(slab_of(p)) & SLAB_CORDONED) != 0
				      : vacate_is_wanted(p, nr_bytes);
}

void *shim_realloc(void *p, size_t size)
{
	if (p == NULL)
		return fast_malloc(size);
	if (size == 0) {
		fast_free(p);
		return NULL;
	}

	size_t old_bytes = usable(p, "realloc");

	if (old_bytes > MEDIUM_MAX && size > MEDIUM_MAX) {
		/* A sample of what it was is none of what it becomes. */
		if (unlikely(sample_any()))
			sample_forget_run(p);

		void *to = counted_run(large_realloc(p, size), size);

		work_tick();
		return to != NULL ? to : move(p, old_bytes, size);
	}
	/* Stays unless more than half would be lost, or its block is to be vacated. */
	if (size <= old_bytes && (size >= old_bytes / 2 || old_bytes <= 64) &&
	    !should_leave(p, old_bytes))
		return p;

	int saved_errno = errno;
	void *to = move(p, old_bytes, size);

	if (to == NULL && size <= old_bytes) {
		errno = saved_errno;
		return p;
	}
	return to;
}

void *shim_aligned_alloc(size_t align, size_t size)
{
	if (fast_aligns(align, size))
		return fast_malloc(class_aligned_size(align, size));
	if (align <= ALIGN_MIN)
		return fast_malloc(size);
	if (align > PTRDIFF_MAX || size > PTRDIFF_MAX - align)
		return no_memory();
	shim_init();

	unsigned align_order = align <= PAGE_BYTES ? 0 : log2_floor(align >> PAGE_SHIFT);
	/* A page run is told from an object by its length as well: see shim_realloc(). */
	void *p = large_alloc(size > MEDIUM_MAX ? size : MEDIUM_MAX + 1, align_order, NULL);

	work_tick();
	if (unlikely(p == NULL)) {
		shim_trim();
		p = large_alloc(size > MEDIUM_MAX ? size : MEDIUM_MAX + 1, align_order, NULL);
	}
	return p != NULL ? counted_run(p, size) : no_memory();
}

bool shim_owns(const void *p)
{
	shim_init();
	return zone_owns(p);
}

size_t shim_good_size(size_t align, size_t size)
{
	if (align > PTRDIFF_MAX || size > PTRDIFF_MAX - align)
		return 0;
	if (fast_aligns(align, size))
		return class_info[class_of(class_aligned_size(align, size))].bytes;
	return round_up(size > MEDIUM_MAX ? size : MEDIUM_MAX + 1, PAGE_BYTES);
}

void shim_thread_flush(void)
{
	heap_flush();
}

void shim_lifetime_push(unsigned lifetime)
{
	shim_init();
	lifetime_push((enum lifetime)lifetime);
}

void shim_lifetime_pop(void)
{
	lifetime_pop();
}

void shim_thread_exit(void)
{
	heap_thread_exit();
}

void shim_stats_read(struct shim_stats *out)
{
	struct core_stats core;

	memset(out, 0, sizeof(*out));
	shim_init();
	heap_stats_add(out);
	core_stats_read(&core);
	/* The two were not read at one moment. */
	out->large_bytes = core.allocated_pages * PAGE_BYTES;
	out->large_bytes -=
		out->slab_bytes < out->large_bytes ? out->slab_bytes : out->large_bytes;
	out->live_bytes += out->large_bytes;
	out->committed_bytes = core.total_pages * PAGE_BYTES;
	out->dirty_free_bytes = core.dirty_free_pages * PAGE_BYTES;
	out->purged_bytes = core.purged_pages * PAGE_BYTES;
	out->shrunk_bytes = reclaim_shrunk_bytes();
	out->cached_page_bytes = core.pcp_pages * PAGE_BYTES;
	out->metadata_bytes = out->nr_heaps * HEAP_STRIDE +
			      core.nr_blocks * (BLOCK_META_BYTES + BLOCK_CLIENT_BYTES);
}

void shim_check(void)
{
	shim_init();
	heap_check_all();
	core_check();
}

void shim_fork_prepare(void)
{
	shim_init();
	holes_fork_prepare();
	compact_lock();
	sample_fork_wait();
	sites_fork_prepare();
	heap_fork_prepare();
	core_fork_prepare();
	sample_fork_prepare();
}

void shim_fork_parent(void)
{
	sample_fork_parent();
	core_fork_parent();
	heap_fork_parent();
	sites_fork_parent();
	compact_unlock();
	holes_fork_parent();
}

void shim_fork_child(void)
{
	sample_fork_child();
	core_fork_child();
	heap_fork_child();
	sites_fork_child();
	compact_fork_child();
	holes_fork_child();
	/* Whoever wanted something vacated in the parent is not here. */
	heap_uncordon_all();
}
