/* The arena and the owner table. */
#include "shim/arena.h"

#include "shim/heap.h"
#include "shim/slab.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <sys/resource.h>

static uint32_t entry_of(uintptr_t addr)
{
	return atomic_load(arena_entry((const void *)addr));
}

Test(arena, nobody_owns_wild_addresses, .timeout = TIME_BOUND_S)
{
	int on_stack;
	struct rng rng = {1};

	shim_free(shim_malloc(1));
	EXPECT(entry_of(0) == 0, "NULL");
	EXPECT(entry_of((uintptr_t)&on_stack) == 0, "the stack");
	EXPECT(entry_of((uintptr_t)&test_config) == 0, "data");
	EXPECT(entry_of((uintptr_t)arena_base()) == 0, "the arena");
	EXPECT(entry_of((uintptr_t)arena_table) == 0, "the table");
	EXPECT(entry_of(((uintptr_t)1 << ADDRESS_BITS) - 1) == 0, "the last address");
	for (unsigned i = 0; i < 1000; i++) {
		uintptr_t addr = rng_next(&rng) >> (64 - ADDRESS_BITS);

		EXPECT(entry_of(addr) == 0 || zone_owns((void *)addr), "0x%zx", (size_t)addr);
	}
	EXPECT(atomic_load(&((struct gate *)(void *)(arena_base() + BIN_TO_GATE))->owner) == 0,
	       "the null bin has an owner");
}

Test(arena, blocks_lead_to_the_bin_of_their_heap, .timeout = TIME_BOUND_S)
{
	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		void *p = shim_malloc(class_info[cls].bytes);
		struct bin *b = (struct bin *)(void *)(arena_base() + entry_of((uintptr_t)p));

		EXPECT(b == &heap_current->bins[cls] && b->cls == cls, "class %u", cls);
		EXPECT(heap_of_bin(b) == heap_current, "class %u", cls);
		EXPECT(atomic_load(&heap_current->gates[cls].owner) == (cls < NR_SMALL_CLASSES ? thread_pointer() : 0),
		       "class %u has the wrong owner", cls);
		shim_free(p);
	}
	EXPECT(!zone_owns((void *)arena_key()), "the key is an address of blocks");
}

static void *use_without_a_heap(void *arg)
{
	void **blocks = arg;

	errno = 0;
	EXPECT(shim_malloc(100) == NULL && errno == ENOMEM, "a heap from nowhere");
	errno = 0;
	EXPECT(shim_malloc(100000) == NULL && errno == ENOMEM, "a heap from nowhere");
	errno = 0;
	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		shim_free(blocks[cls]);
	EXPECT(errno == 0, "free changed errno");
	return NULL;
}

/* The last heap is gone: a new thread cannot allocate, but what it frees is freed. */
Test(arena, a_thread_without_a_heap_can_free, .timeout = TIME_BOUND_S)
{
	static void *blocks[NR_CLASSES];
	size_t nr_heaps = 0;
	char *before = NULL, *heap;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++)
		blocks[cls] = shim_malloc(class_info[cls].bytes);
	while ((heap = arena_new_heap()) != NULL) {
		EXPECT((uintptr_t)heap % HEAP_STRIDE == 0, "%p", (void *)heap);
		EXPECT(before == NULL || heap == before + HEAP_STRIDE, "%p", (void *)heap);
		EXPECT(heap + HEAP_STRIDE <= arena_table, "%p lies in the table", (void *)heap);
		before = heap;
		nr_heaps++;
	}
	EXPECT(nr_heaps > 16000, "only %zu heaps", nr_heaps);
	on_thread(use_without_a_heap, blocks);
	expect_nothing_kept();
}

#if !UNDER_TSAN && !UNDER_ASAN
static void *churn(void *arg)
{
	void *blocks[64];

	(void)arg;
	for (size_t round = 0; round < 1000; round++) {
		for (size_t i = 0; i < 64; i++)
			blocks[i] = shim_malloc(i * (round % 40 + 1));
		for (size_t i = 0; i < 64; i++) {
			EXPECT(blocks[i] != NULL, "no memory");
			shim_free(blocks[i]);
		}
	}
	return NULL;
}

/* Where address space is rationed the table is mapped piece by piece. */
Test(arena, works_under_a_limit_of_address_space, .timeout = TIME_BOUND_S)
{
	const size_t limit = os_address_used() + ((size_t)600 << 20);
	const struct rlimit rl = {limit, limit};
	void *large;

	test_config.reserve_bytes = 0;
	EXPECT(setrlimit(RLIMIT_AS, &rl) == 0, "no limit");
	shim_free(shim_malloc(1));
	shim_free(NULL);
	on_thread(churn, NULL);
	(void)churn(NULL);
	large = shim_malloc((size_t)20 << 20);
	EXPECT(large != NULL, "no room for 20 MiB");
	shim_free(large);
	errno = 0;
	EXPECT(shim_malloc(limit) == NULL && errno == ENOMEM, "more than the limit");
	expect_nothing_kept();
}
#endif
