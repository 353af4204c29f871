/*
 * Fork while another thread is in the middle of something: at each of its stops at which a
 * fork gets the locks, the child has all pages but those the parent held, finds every
 * counter right, and its caches work.
 */
#include "core/isolate.h"
#include "tests/core/on_fake_os.h"
#include "tests/support/sched.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK PAGEBLOCK_PAGES
#define NR ((size_t)140) /* more than are isolated in one critical section */
#define HELD 40u

static struct pcp pcp;
static pfn_t base, held;
static uint32_t owner;

static void start(void)
{
	struct core_config config = {
		.client_bytes = PAGE_BYTES,
		.span_added = fake_os_data,
		.reserve_bytes = NR * PAGEBLOCK_BYTES,
		.decay_ns = 1000000,
		.thp_from_bytes = SIZE_MAX,
	};

	start_core(&config);
	fake_os.yield_ns = 1000;
	base = zone_alloc(NR * BLOCK, 0, MIGRATE_MOVABLE, NULL);
	cr_assert(base != 0);
	/* One run in use in the middle; all has been written to. */
	held = base + 3 * BLOCK + 5;
	fake_os_touch(base, NR * BLOCK);
	fake_os_use(held, HELD);
	zone_free(base, (size_t)(held - base));
	zone_free(held + HELD, (size_t)(base + NR * BLOCK - held - HELD));
	pcp_init(&pcp);
	core_check_every(16);
	owner = isolate_owner();
}

static size_t may_be_isolated;

static bool no_lock_is_held(void)
{
	return atomic_load(&zone.lock.state) == LOCK_FREE &&
	       atomic_load(&pcp.lock.state) == LOCK_FREE;
}

/* What the child finds; its exit status. */
static int look_in_child(void)
{
	static struct pcp fresh;
	struct core_stats stats;
	size_t nr_pages = 0;
	pfn_t pfn;

	core_fork_child();
	core_check();
	pcp_init(&fresh);
	if (fresh.high == 0 || pcp.high == 0)
		return 2;
	/* What is isolated is what the parent had isolated, not what somebody was at. */
	core_stats_read(&stats);
	if (stats.isolated_free_pages != 0 && stats.isolated_free_pages != may_be_isolated)
		return 3;
	while ((pfn = pcp_alloc(&fresh, 6, MIGRATE_MOVABLE, NULL)) != 0)
		nr_pages += 64;
	while ((pfn = pcp_alloc(&fresh, 0, MIGRATE_MOVABLE, NULL)) != 0)
		nr_pages++;
	core_check();
	return nr_pages == NR * BLOCK - HELD - stats.isolated_free_pages ? 0 : 4;
}

static int fork_now(void)
{
	struct lock heaps = {0};
	int status = -1;
	pid_t pid;

	/* The layer above forks with its own locks held. */
	lock_acquire(&heaps, LOCK_HEAPS);
	core_fork_prepare();
	pid = fork();
	if (pid == 0) {
		atomic_store(&pause_hook, NULL);
		fake_os.yielded = NULL;
		_exit(look_in_child());
	}
	core_fork_parent();
	lock_release(&heaps, LOCK_HEAPS);
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

/* Forks at each stop of a thread that does this. */
static void fork_at_each_stop(void *(*function)(void *))
{
	unsigned thread = sched_spawn(function, NULL);
	unsigned nr_forks = 0;

	while (sched_step(thread)) {
		if (!no_lock_is_held())
			continue;
		cr_assert(fork_now() == 0, "fork %u, at stop %u", nr_forks, sched_stops(thread));
		nr_forks++;
	}
	cr_assert(sched_state(thread) == SCHED_ENDED && nr_forks > 3);
	sched_end();
	finish();
}

static void *purge(void *arg)
{
	(void)purge_all();
	return arg;
}

static void *take_contig(void *arg)
{
	pfn_t pfn = held - 5;

	/* In vain: what is held stays. */
	cr_assert(contig_alloc_range(pfn, BLOCK, CONTIG_HARD, fake_os.now_ns + 3000) ==
		  -ETIMEDOUT);
	return arg;
}


#define MANY ((size_t)130)

static void *isolate_many(void *arg)
{
	cr_assert(isolate_range(base + 4 * BLOCK, MANY * BLOCK, owner) == 0);
	cr_assert(isolate_undo(base + 4 * BLOCK, MANY * BLOCK, owner) == 0);
	return arg;
}

static void *disable(void *arg)
{
	pcp_disable();
	os_yield();
	pcp_enable();
	return arg;
}

Test(fork, while_another_purges, .init = start)
{
	fork_at_each_stop(purge);
}

Test(fork, while_another_takes_contiguous_memory, .init = start)
{
	fork_at_each_stop(take_contig);
}

Test(fork, while_another_isolates, .init = start)
{
	/* All of it or nothing. */
	may_be_isolated = MANY * BLOCK;
	fork_at_each_stop(isolate_many);
}

Test(fork, while_another_has_the_caches_disabled, .init = start)
{
	fork_at_each_stop(disable);
}
