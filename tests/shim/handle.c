/* Handles and the compactor: what moves, what does not, and who waits for whom. */
#include "shim/handle.h"

#include "shim/compact.h"
#include "shim/slab.h"
#include "shim/vacate.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK PAGEBLOCK_PAGES

/* A handle and what was written to its object; the pattern does not depend on the address. */
struct item {
	uint64_t handle;
	size_t size;
	uint64_t tag;
};

static void fill(unsigned char *p, size_t size, uint64_t tag)
{
	for (size_t i = 0; i < size; i += i < 256 ? 1 : 509)
		p[i] = (unsigned char)(tag + i);
}

static void *pin(uint64_t handle)
{
	int err;
	void *p = shim_handle_pin(handle, &err);

	EXPECT(p != NULL && err == 0, "pin: %d", err);
	EXPECT((uintptr_t)p % ALIGN_MIN == 0, "not aligned");
	return p;
}

static void unpin(uint64_t handle)
{
	int err = shim_handle_unpin(handle);

	EXPECT(err == 0, "unpin: %d", err);
}

static bool item_alloc(struct item *item, size_t size, uint64_t tag)
{
	int err;

	*item = (struct item){shim_handle_alloc(size, &err), size, tag};
	EXPECT((item->handle != 0) == (err == 0), "alloc: %d", err);
	if (item->handle == 0)
		return false;
	fill(pin(item->handle), size, tag);
	unpin(item->handle);
	return true;
}

static void item_verify(const struct item *item)
{
	const unsigned char *p = pin(item->handle);
	int err;

	for (size_t i = 0; i < item->size; i += i < 256 ? 1 : 509)
		EXPECT(p[i] == (unsigned char)(item->tag + i), "byte %zu of %zu", i, item->size);
	unpin(item->handle);
	EXPECT(shim_handle_size(item->handle, &err) == item->size && err == 0, "size");
}

static void item_free(struct item *item)
{
	int err;

	item_verify(item);
	err = shim_handle_free(item->handle);
	EXPECT(err == 0, "free: %d", err);
	item->handle = 0;
}

static pfn_t block_at(uint64_t handle)
{
	pfn_t pfn = round_down(pfn_of(pin(handle)), BLOCK);

	unpin(handle);
	return pfn;
}

static uint32_t cordon(pfn_t pfn)
{
	uint32_t owner = isolate_owner();

	EXPECT(isolate_range(pfn, BLOCK, owner) == 0, "isolate");
	(void)vacate_range(pfn, BLOCK, 0);
	return owner;
}

static void uncordon(pfn_t pfn, uint32_t owner)
{
	EXPECT(isolate_undo(pfn, BLOCK, owner) == 0, "undo");
	vacate_end(pfn, BLOCK);
}

/* --- the interface ----------------------------------------------------------------------- */

Test(handle, objects_of_all_sizes, .timeout = TIME_BOUND_S)
{
	static struct item items[400];
	unsigned nr = 0;

	for (size_t size = 0; size < 6 * PAGEBLOCK_BYTES && nr < 400; size += size / 5 + 1) {
		EXPECT(item_alloc(&items[nr], size, nr), "no memory for %zu bytes", size);
		nr++;
	}
	EXPECT(nr > 60, "%u sizes", nr);
	shim_check();
	for (unsigned i = 0; i < nr; i++)
		item_verify(&items[i]);
	for (unsigned i = 0; i < nr; i++)
		item_free(&items[i]);
	expect_nothing_kept();
}

Test(handle, bad_input_has_an_error_each, .timeout = TIME_BOUND_S)
{
	struct item item, other;
	uint64_t old;
	int err = 0;

	/* Before there is any. */
	EXPECT(shim_handle_pin(1, &err) == NULL && err == -EINVAL, "pin: %d", err);
	EXPECT(shim_handle_unpin(1) == -EINVAL && shim_handle_free(1) == -EINVAL, "none");
	EXPECT(shim_handle_alloc(SIZE_MAX, &err) == 0 && err == -ENOMEM, "alloc: %d", err);
	EXPECT(shim_handle_alloc((size_t)1 << 46, &err) == 0 && err == -ENOMEM, "alloc: %d", err);
	EXPECT(item_alloc(&item, 100, 1), "no memory");
	for (unsigned i = 0; i < 3; i++) {
		uint64_t wild = i == 0 ? 0 : i == 1 ? UINT64_MAX : item.handle + 1000000;

		EXPECT(shim_handle_pin(wild, &err) == NULL && err == -EINVAL, "pin: %d", err);
		EXPECT(shim_handle_unpin(wild) == -EINVAL, "unpin");
		EXPECT(shim_handle_free(wild) == -EINVAL, "free");
		EXPECT(shim_handle_size(wild, &err) == 0 && err == -EINVAL, "size: %d", err);
	}
	EXPECT(shim_handle_unpin(item.handle) == -EPERM, "unpinned twice");
	(void)pin(item.handle);
	(void)pin(item.handle);
	EXPECT(shim_handle_free(item.handle) == -EBUSY, "freed while pinned");
	unpin(item.handle);
	EXPECT(shim_handle_free(item.handle) == -EBUSY, "freed while pinned");
	unpin(item.handle);
	EXPECT(shim_handle_unpin(item.handle) == -EPERM, "unpinned twice");
	item_verify(&item);
	old = item.handle;
	item_free(&item);
	/* Its entry is used again, under another name. */
	for (unsigned i = 0; i < 2; i++) {
		EXPECT(shim_handle_pin(old, &err) == NULL && err == -ESTALE, "pin: %d", err);
		EXPECT(shim_handle_unpin(old) == -ESTALE, "unpin");
		EXPECT(shim_handle_free(old) == -ESTALE, "freed twice");
		EXPECT(shim_handle_size(old, &err) == 0 && err == -ESTALE, "size: %d", err);
		EXPECT(i == 1 || item_alloc(&other, 100, 2), "no memory");
	}
	EXPECT((uint32_t)old == (uint32_t)other.handle && old != other.handle, "not used again");
	item_free(&other);
	expect_nothing_kept();
}

static void pin_too_often(void *unused)
{
	int err = 0;
	uint64_t handle = shim_handle_alloc(1, &err);
	unsigned nr = 0;

	(void)unused;
	while (shim_handle_pin(handle, &err) != NULL)
		nr++;
	_exit(nr == (1 << 24) - 1 && err == -EOVERFLOW && shim_handle_unpin(handle) == 0 ? 0 : 1);
}

Test(handle, pins_are_counted, .timeout = TIME_BOUND_S)
{
	EXPECT(run_in_child(pin_too_often, NULL) == 0, "not 2^24 - 1 times");
}

static void free_payload(void *size)
{
	int err;

	shim_free(shim_handle_pin(shim_handle_alloc(*(size_t *)size, &err), &err));
}

static void realloc_payload(void *size)
{
	int err;

	(void)!shim_realloc(shim_handle_pin(shim_handle_alloc(*(size_t *)size, &err), &err), 1);
}

Test(handle, free_does_not_take_objects, .timeout = TIME_BOUND_S)
{
	for (size_t size = 10; size <= PAGEBLOCK_BYTES; size *= 20) {
		EXPECT(dies_saying(free_payload, &size, "pageblock: free of 0x"), "size %zu", size);
		EXPECT(dies_saying(realloc_payload, &size, "pageblock: realloc of 0x"),
		       "size %zu", size);
	}
}

/* --- moving ------------------------------------------------------------------------------- */

#define NR_ITEMS 4000u
static struct item items[NR_ITEMS];

static void alloc_items(unsigned nr, size_t most)
{
	struct rng rng = {nr};

	for (unsigned i = 0; i < nr; i++)
		EXPECT(item_alloc(&items[i], rng_size(&rng, most), i), "no memory");
}

/* All that is not pinned leaves a cordoned block at once; the pinned when it is unpinned. */
Test(handle, objects_leave_a_cordoned_block, .timeout = TIME_BOUND_S)
{
	static const size_t most[] = {100, 5000, MEDIUM_MAX, 3 * PAGEBLOCK_BYTES};

	for (unsigned round = 0; round < 8; round++) {
		unsigned nr = round / 2 == 3 ? 12 : NR_ITEMS / 8;
		bool pinned = round % 2 != 0;
		uint64_t handle;
		uint32_t owner;
		void *p = NULL, *q;
		pfn_t pfn;

		alloc_items(nr, most[round / 2]);
		handle = items[nr / 2].handle;
		pfn = block_at(handle);
		if (pinned)
			p = pin(handle);
		owner = cordon(pfn);
		pcp_drain_all();
		EXPECT(isolate_test(pfn, BLOCK) == !pinned, "round %u: %s", round,
		       pinned ? "moved what was pinned" : "not empty");
		if (pinned) {
			q = pin(handle);
			EXPECT(p == q, "moved while it is pinned");
			unpin(handle);
			EXPECT(!isolate_test(pfn, BLOCK), "moved while it is pinned");
			unpin(handle);
			q = pin(handle);
			EXPECT(round_down(pfn_of(q), BLOCK) != pfn, "not moved by the last unpin");
			unpin(handle);
			EXPECT(isolate_test(pfn, BLOCK), "round %u: not empty", round);
		}
		uncordon(pfn, owner);
		shim_check();
		for (unsigned i = 0; i < nr; i++)
			item_free(&items[i]);
	}
	expect_nothing_kept();
}

/* A page run that begins before the block and reaches into it. */
Test(handle, a_long_run_leaves_any_of_its_blocks, .timeout = TIME_BOUND_S)
{
	for (unsigned at = 0; at < 4; at++) {
		struct item item;
		uint32_t owner;
		pfn_t pfn;

		EXPECT(item_alloc(&item, 4 * PAGEBLOCK_BYTES - 5000, at), "no memory");
		pfn = block_at(item.handle) + at * BLOCK;
		owner = cordon(pfn);
		EXPECT(isolate_test(pfn, BLOCK), "block %u of it is in use", at);
		uncordon(pfn, owner);
		item_free(&item);
	}
	expect_nothing_kept();
}

static sem_t began, done;

static void *pin_and_tell(void *handle)
{
	sem_post(&began);
	(void)pin(*(uint64_t *)handle);
	sem_post(&done);
	unpin(*(uint64_t *)handle);
	return NULL;
}

/* An object that is isolated is not isolated again, and who wants to pin it waits. */
Test(handle, nothing_is_isolated_twice, .timeout = TIME_BOUND_S)
{
	struct item item;
	struct handle_object *o;
	pthread_t thread;

	sem_init(&began, 0, 0);
	sem_init(&done, 0, 0);
	EXPECT(item_alloc(&item, 1000, 7), "no memory");
	o = (struct handle_object *)pin(item.handle) - 1;
	EXPECT(!handle_isolate(o, false), "isolated while it is pinned");
	unpin(item.handle);
	for (unsigned i = 0; i < 2; i++) {
		compact_lock();
		EXPECT(handle_isolate(o, false), "not isolated");
		EXPECT(!handle_isolate(o, false), "isolated twice");
		EXPECT(handle_isolate_named(item.handle) == NULL, "isolated twice");
		thread_start(&thread, pin_and_tell, &item.handle);
		while (sem_wait(&began) != 0)
			;
		usleep(2000);
		EXPECT(sem_trywait(&done) != 0, "pinned while it is isolated");
		if (i == 0)
			handle_putback(o);
		else
			EXPECT(handle_migrate(o), "no room");
		compact_unlock();
		thread_join(thread);
		EXPECT(sem_trywait(&done) == 0, "not pinned");
		item_verify(&item);
		shim_check();
	}
	item_free(&item);
	expect_nothing_kept();
}

static struct item toggled;
static _Atomic unsigned nr_toggles;
static _Atomic bool enough;

static void *toggle(void *arg)
{
	while (!atomic_load(&enough)) {
		/* Seldom without any pin. */
		for (unsigned i = 0; i < 50; i++)
			(void)pin(toggled.handle);
		for (unsigned i = 0; i < 50; i++)
			unpin(toggled.handle);
		(void)atomic_fetch_add(&nr_toggles, 1);
	}
	return arg;
}

/*
 * R7: pins and WANTED share a word with LIVE and MOVING.  While threads pin and unpin, the
 * object is wanted again and again; when the last pin is gone it has left, whoever of them
 * was told: no wake-up is lost.
 */
Test(handle, toggling_neighbouring_bits_loses_no_wake_up, .timeout = TIME_BOUND_S)
{
	pthread_t threads[3];

	EXPECT(item_alloc(&toggled, 64, 1), "no memory");
	for (unsigned round = 0; round < 600 / SLOWNESS; round++) {
		pfn_t pfn = block_at(toggled.handle);
		unsigned seen = atomic_load(&nr_toggles);
		uint32_t owner;

		atomic_store(&enough, false);
		for (uintptr_t i = 0; i < 3; i++)
			thread_start(&threads[i], toggle, NULL);
		while (atomic_load(&nr_toggles) < seen + 20)
			os_yield();
		owner = cordon(pfn);
		atomic_store(&enough, true);
		for (unsigned i = 0; i < 3; i++)
			thread_join(threads[i]);
		EXPECT(block_at(toggled.handle) != pfn, "round %u: nobody moved it", round);
		EXPECT(shim_handle_unpin(toggled.handle) == -EPERM, "a pin is left");
		uncordon(pfn, owner);
		item_verify(&toggled);
	}
	item_free(&toggled);
	expect_nothing_kept();
}

static void *unpin_and_tell(void *handle)
{
	sem_post(&began);
	unpin(*(uint64_t *)handle);
	return NULL;
}

/* The last to unpin is about to move the object when somebody pins it again. */
Test(handle, who_pins_again_takes_the_wish_over, .timeout = TIME_BOUND_S)
{
	struct item item;
	pthread_t thread;
	uint32_t owner;
	pfn_t pfn;

	sem_init(&began, 0, 0);
	EXPECT(item_alloc(&item, 1000, 7), "no memory");
	pfn = block_at(item.handle);
	(void)pin(item.handle);
	owner = cordon(pfn);
	compact_lock();
	thread_start(&thread, unpin_and_tell, &item.handle);
	while (sem_wait(&began) != 0)
		;
	/* It is unpinned, and the thread waits for the lock. */
	while (handle_pins(item.handle) > 0)
		os_yield();
	(void)pin(item.handle);
	compact_unlock();
	thread_join(thread);
	EXPECT(!isolate_test(pfn, BLOCK), "moved while it is pinned");
	unpin(item.handle);
	EXPECT(isolate_test(pfn, BLOCK), "nobody moved it");
	uncordon(pfn, owner);
	item_free(&item);
	expect_nothing_kept();
}

/* Takes all memory there is; from now on nothing can be allocated. */
static void exhaust(void)
{
	struct rlimit limit = {0, 0};
	size_t size = PAGEBLOCK_BYTES;

	/* What is writable already is more than that. */
	EXPECT(setrlimit(RLIMIT_DATA, &limit) == 0, "setrlimit");
	while (size >= PAGE_BYTES) {
		if (zone_alloc(size / PAGE_BYTES, 0, MIGRATE_MOVABLE, NULL) == 0)
			size /= 2;
	}
}

static void vacate_without_room(void *unused)
{
	uint32_t owner;
	pfn_t pfn;

	(void)unused;
	alloc_items(NR_ITEMS, 4000);
	pfn = block_at(items[NR_ITEMS / 2].handle);
	exhaust();
	owner = cordon(pfn);
	EXPECT(!isolate_test(pfn, BLOCK), "there was room");
	uncordon(pfn, owner);
	for (unsigned i = 0; i < NR_ITEMS; i++)
		item_free(&items[i]);
	shim_check();
	_exit(0);
}

/* What was isolated is put back, as it was. */
Test(handle, without_room_objects_stay, .timeout = TIME_BOUND_S)
{
	EXPECT(run_in_child(vacate_without_room, NULL) == 0, "see above");
}

/* --- compaction ---------------------------------------------------------------------------- */

static size_t nr_blocks_in_use(void)
{
	size_t nr = 0;

	(void)shim_trim();
	for (pfn_t pfn = contig_block_above(0); pfn != 0; pfn = contig_block_above(pfn))
		nr += !contig_block_is_free(pfn);
	return nr;
}

Test(handle, compaction_empties_blocks, .timeout = TIME_BOUND_S)
{
	static struct item many[40000];
	size_t full, sparse, dense, gained;
	unsigned nr = 40000 / SLOWNESS_MILD, nr_left = 0;
	struct rng rng = {1};

	for (unsigned i = 0; i < nr; i++)
		EXPECT(item_alloc(&many[i], 200 + 800 * (i % 2), i), "no memory");
	full = nr_blocks_in_use();
	/* One of eight stays, anywhere. */
	for (unsigned i = 0; i < nr; i++) {
		if (rng_below(&rng, 8) != 0)
			item_free(&many[i]);
		else
			nr_left++;
	}
	sparse = nr_blocks_in_use();
	gained = shim_compact(0) / PAGEBLOCK_BYTES;
	shim_check();
	dense = nr_blocks_in_use();
	EXPECT(gained > 0 && dense <= sparse - gained + 1, "%zu blocks, %zu sparse, %zu gained, %zu",
	       full, sparse, gained, dense);
	/* An eighth of what it was, and what the scanners leave where they meet. */
	EXPECT(dense <= full / 4 + 2, "%zu blocks, %zu sparse, %zu left for %u objects", full, sparse,
	       dense, nr_left);
	EXPECT(shim_compact(0) == 0, "there was more to gain");
	EXPECT(shim_compact(1) == 0, "the deadline is past");
	for (unsigned i = 0; i < nr; i++)
		if (many[i].handle != 0)
			item_free(&many[i]);
	expect_nothing_kept();
}

static void allocate_at_the_limit(void *unused)
{
	unsigned nr = 30000;
	static struct item many[30000];
	void *p;

	(void)unused;
	for (unsigned i = 0; i < nr; i++)
		EXPECT(item_alloc(&many[i], 1000, i), "no memory");
	exhaust();
	for (unsigned i = 0; i < nr; i++)
		if (i % 8 != 0)
			item_free(&many[i]);
	/* There is no block in one piece; the compactor makes one, and this gets it. */
	p = shim_malloc(PAGEBLOCK_BYTES);
	EXPECT(p != NULL, "no block was captured");
	memset(p, 1, PAGEBLOCK_BYTES);
	shim_free(p);
	shim_check();
	for (unsigned i = 0; i < nr; i += 8)
		item_free(&many[i]);
	_exit(0);
}

Test(handle, an_allocation_captures_a_block, .timeout = TIME_BOUND_S)
{
	EXPECT(run_in_child(allocate_at_the_limit, NULL) == 0, "see above");
}

/* --- threads -------------------------------------------------------------------------------- */

static _Atomic bool stop;

static void *churn(void *arg)
{
	struct rng rng = {(uintptr_t)arg + 1};
	struct item mine[300] = {{0, 0, 0}};
	struct block blocks[100] = {{NULL, 0, 0, 0}};

	while (!atomic_load(&stop)) {
		struct item *item = &mine[rng_below(&rng, 300)];
		struct block *b = &blocks[rng_below(&rng, 100)];

		if (item->handle == 0)
			(void)item_alloc(item, rng_size(&rng, 20000), rng_next(&rng));
		else if (rng_below(&rng, 2) == 0)
			item_free(item);
		else
			item_verify(item);
		if (b->p != NULL)
			block_free(b);
		b->size = rng_size(&rng, MEDIUM_MAX);
		b->p = shim_malloc(b->size);
		if (b->p != NULL)
			block_fill(b, b->size, rng_next(&rng));
	}
	for (unsigned i = 0; i < 300; i++)
		if (mine[i].handle != 0)
			item_free(&mine[i]);
	for (unsigned i = 0; i < 100; i++)
		if (blocks[i].p != NULL)
			block_free(&blocks[i]);
	return NULL;
}

Test(handle, objects_move_under_load, .timeout = TIME_BOUND_S)
{
	pthread_t threads[4];
	uint64_t seed = seed_begin("handle/objects_move_under_load", 0);
	struct rng rng = {seed};

	alloc_items(NR_ITEMS, 2000);
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < 4; i++)
		thread_start(&threads[i], churn, (void *)(seed + i));
	for (unsigned i = 0; i < 1600 / SLOWNESS; i++) {
		struct item *item = &items[rng_below(&rng, NR_ITEMS)];
		pfn_t pfn = block_at(item->handle);
		bool hard = rng_below(&rng, 2) != 0;

		if (contig_alloc_range(pfn, BLOCK, hard ? CONTIG_HARD : 0,
				       hard ? os_now_ns() + 2000000 : 0) == 0) {
			memset(pfn_to_addr(pfn), 0xa5, BLOCK * PAGE_BYTES);
			EXPECT(contig_free(pfn, BLOCK) == 0, "free");
		}
		item_verify(item);
		if (i % 64 == 0)
			(void)shim_compact(os_now_ns() + 20000000);
		if (i % 256 == 0)
			shim_check();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 4; i++)
		thread_join(threads[i]);
	for (unsigned i = 0; i < NR_ITEMS; i++)
		item_free(&items[i]);
	expect_nothing_kept();
}

static void use_in_child(void *unused)
{
	(void)unused;
	shim_check();
	(void)shim_compact(0);
	for (unsigned i = 0; i < NR_ITEMS; i++)
		item_free(&items[i]);
	shim_check();
	_exit(0);
}

static void *move_about(void *unused)
{
	struct rng rng = {3};

	while (!atomic_load(&stop)) {
		pfn_t pfn = block_at(items[rng_below(&rng, NR_ITEMS)].handle);

		if (contig_alloc_range(pfn, BLOCK, 0, 0) == 0)
			EXPECT(contig_free(pfn, BLOCK) == 0, "free");
	}
	return unused;
}

Test(handle, fork_in_the_middle_of_moves, .timeout = TIME_BOUND_S)
{
	pthread_t thread;

	pthread_atfork(shim_fork_prepare, shim_fork_parent, shim_fork_child);
	alloc_items(NR_ITEMS, 2000);
	atomic_store(&stop, false);
	thread_start(&thread, move_about, NULL);
	for (unsigned i = 0; i < 40 / SLOWNESS_MILD; i++)
		EXPECT(run_in_child(use_in_child, NULL) == 0, "child %u", i);
	atomic_store(&stop, true);
	thread_join(thread);
	for (unsigned i = 0; i < NR_ITEMS; i++)
		item_free(&items[i]);
	expect_nothing_kept();
}
