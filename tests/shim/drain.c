/* R6: a drain covers every queue, whoever's it is. */
#include "shim/heap.h"

#include "tests/shim/support.h"

#include <semaphore.h>

#define NR 4096u
#define SIZE 64u

static void *objects[NR];
static sem_t made, done;

/* A thread that lives on, and does nothing that would take its inbox in. */
static void *make_and_wait(void *arg)
{
	for (unsigned i = 0; i < NR; i++)
		objects[i] = shim_malloc(SIZE);
	(void)sem_post(&made);
	while (sem_wait(&done) != 0)
		;
	return arg;
}

static uint64_t nr_in_inboxes(void)
{
	uint64_t nr = 0;

	for (struct heap *h = heap_first(); h != NULL; h = h->next_all)
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			nr += h->classes[cls].nr_inbox;
	return nr;
}

/* What others have freed: in the freeing thread's slots, in the owner's inbox. */
Test(drain, r6_inboxes_and_slots_of_running_threads, .timeout = TIME_BOUND_S)
{
	pthread_t owner;

	(void)sem_init(&made, 0, 0);
	(void)sem_init(&done, 0, 0);
	thread_start(&owner, make_and_wait, NULL);
	while (sem_wait(&made) != 0)
		;
	for (unsigned i = 0; i < NR; i++)
		shim_free(objects[i]);
	EXPECT(nr_in_inboxes() > 0, "nothing to drain");
	heap_drain_all();
	EXPECT(nr_in_inboxes() == 0, "%llu forgotten", (unsigned long long)nr_in_inboxes());
	shim_check();
	/* All but what its own bin has left from its last refill is out of use. */
	EXPECT(stats_now().slab_bytes <= 2 * GRANULE_BYTES, "%llu bytes of slabs",
	       (unsigned long long)stats_now().slab_bytes);
	(void)sem_post(&done);
	thread_join(owner);
	expect_nothing_kept();
}
