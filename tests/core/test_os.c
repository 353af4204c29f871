/*
 * core/os.c against the real system.
 */
#define _GNU_SOURCE
#include "core/core.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* Limits on address space are not for programs that live in terabytes of shadow. */
static bool sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
	return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
	return false;
#endif
}

/* Whether the pages can be written to, as /proc/self/maps has it. */
static bool writable(const void *addr)
{
	int ends[2];
	bool ok;

	cr_assert(pipe(ends) == 0);
	cr_assert(write(ends[1], "x", 1) == 1);
	/* The kernel writes for us, and says EFAULT where we would die. */
	ok = syscall(SYS_read, ends[0], addr, (size_t)1) == 1;
	(void)close(ends[0]);
	(void)close(ends[1]);
	return ok;
}

static size_t resident(void *addr, size_t bytes)
{
	static unsigned char pages[1 << 16];
	size_t n = 0;

	cr_assert(bytes / 4096 <= sizeof(pages) && mincore(addr, bytes, pages) == 0);
	for (size_t i = 0; i < bytes / 4096; i++)
		n += pages[i] & 1;
	return n;
}

Test(os, reserve_commit_purge)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);

	cr_assert(at != NULL && ((uintptr_t)at & (2 * MIB - 1)) == 0);
	cr_assert(!writable(at));
	cr_assert(os_commit(at + MIB, MIB) == 0);
	cr_assert(writable(at + MIB) && !writable(at) && !writable(at + 2 * MIB));
	memset(at + MIB, 1, MIB);
	/* Committing again keeps the contents. */
	cr_assert(os_commit(at + MIB, 2 * MIB) == 0);
	cr_assert(at[MIB] == 1 && at[2 * MIB] == 0);
	cr_assert(os_purge(at + MIB, MIB) == 0);
	cr_assert(resident(at + MIB, MIB) == 0);
	cr_assert(at[MIB] == 0 && at[2 * MIB - 1] == 0);
	os_uncommit(at + MIB, MIB);
	cr_assert(!writable(at + MIB));
	os_unreserve(at, 8 * MIB);
}

Test(os, alignments)
{
	for (size_t align = 4096; align <= 1024 * MIB; align *= 2) {
		char *at = os_reserve(3 * 4096, align);

		cr_assert(at != NULL && ((uintptr_t)at & (align - 1)) == 0);
		os_unreserve(at, 3 * 4096);
	}
	cr_assert(os_reserve((size_t)1 << 60, 4096) == NULL);
	cr_assert(os_reserve(SIZE_MAX - 5, 2 * MIB) == NULL);
}

Test(os, reserve_at_takes_only_what_is_free)
{
	char *at = os_reserve(4 * MIB, 4096);

	cr_assert(!os_reserve_at(at + MIB, MIB));
	os_unreserve(at + MIB, MIB);
	cr_assert(os_reserve_at(at + MIB, MIB));
	cr_assert(!os_reserve_at(at, 2 * MIB));
	cr_assert(os_commit(at, 4 * MIB) == 0);
}

Test(os, readable_table_with_a_window)
{
	char *at = os_reserve_readable((size_t)8 << 30, 4096);
	size_t before;

	cr_assert(at != NULL);
	for (size_t i = 0; i < (size_t)8 << 30; i += 512 * MIB)
		cr_assert(at[i] == 0);
	cr_assert(!writable(at + MIB));
	cr_assert(os_commit_small(at + 100 * MIB, 4 * MIB) == 0);
	cr_assert(writable(at + 100 * MIB) && !writable(at + 104 * MIB));
	before = resident(at + 100 * MIB, 4 * MIB);
	at[102 * MIB] = 1;
	/* One small page, not a huge one. */
	cr_assert(resident(at + 100 * MIB, 4 * MIB) <= before + 1);
}

static long nr_sleeps(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return used.ru_nvcsw;
}

/* Whatever stands there, to ask is no reason to sleep. */
Test(os, readable_is_asked_without_sleeping)
{
	char *at = os_reserve(2 * MIB, 2 * MIB);
	long before;

	cr_assert(os_commit(at, MIB) == 0 && *at == 0);
	before = nr_sleeps();
	for (size_t i = 0; i < 1000; i++)
		cr_assert(os_readable(at + i) && !os_readable(at + MIB + i));
	cr_assert(nr_sleeps() - before < 500, "slept %ld times", nr_sleeps() - before);
	os_unreserve(at, 2 * MIB);
}

Test(os, moves_pages)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);

	cr_assert(os_commit(at, 8 * MIB) == 0);
	for (size_t i = 0; i < MIB; i++)
		at[i] = (char)(i * 7);
	memset(at + 4 * MIB, 9, MIB);
	cr_assert(os_move(at + 4 * MIB, at, MIB) == 0);
	for (size_t i = 0; i < MIB; i++)
		cr_assert(at[4 * MIB + i] == (char)(i * 7) && at[i] == 0);
	/* Both can be written to. */
	memset(at, 1, 8 * MIB);
	/* And moved back and on, across mappings that were moved before or not. */
	cr_assert(os_move(at + 6 * MIB, at + 4 * MIB, MIB) == 0);
	cr_assert(at[6 * MIB] == 1 && at[4 * MIB] == 0);
	memset(at, 2, 8 * MIB);
	if (os_move(at, at + 3 * MIB, 2 * MIB) != 0)
		/* Some kernels refuse this: then source and destination are still there. */
		for (size_t i = 0; i < 2 * MIB; i += 4096)
			at[i] = 2;
	memset(at, 3, 8 * MIB);
}

/* Makes one kind of mremap, or any, fail as an old kernel or a filter would. */
static void filter_mremap(uint32_t flags, uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};

	cr_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		cr_skip_test("no seccomp");
}

Test(os, moves_pages_on_an_old_kernel)
{
	char *at = os_reserve(4 * MIB, 2 * MIB);

	cr_assert(os_commit(at, 4 * MIB) == 0);
	memset(at, 5, MIB);
	filter_mremap(4 /* MREMAP_DONTUNMAP */, EINVAL);
	cr_assert(os_move(at + 2 * MIB, at, MIB) == 0);
	cr_assert(at[2 * MIB] == 5 && at[3 * MIB - 1] == 5 && at[0] == 0 && at[MIB - 1] == 0);
	memset(at, 6, 4 * MIB);
}

Test(os, a_move_that_is_refused_changes_nothing)
{
	char *at = os_reserve(4 * MIB, 2 * MIB);

	cr_assert(os_commit(at, 4 * MIB) == 0);
	memset(at, 5, 4 * MIB);
	filter_mremap(1 /* MREMAP_MAYMOVE */, ENOSYS);
	errno = 77;
	cr_assert(os_move(at + 2 * MIB, at, MIB) == -ENOSYS);
	cr_assert(errno == 77 && at[0] == 5 && at[2 * MIB] == 5);
}

Test(os, limits_are_seen)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
	size_t used = os_address_used();

	if (sanitized())
		cr_skip_test("a sanitizer needs its address space");
	cr_assert(os_address_limit() == SIZE_MAX);
	cr_assert(used > MIB);
	cr_assert(os_reserve(64 * MIB, 4096) != NULL);
	cr_assert(os_address_used() >= used + 64 * MIB);
	limit.rlim_cur = 1024 * MIB;
	cr_assert(setrlimit(RLIMIT_AS, &limit) == 0);
	cr_assert(os_address_limit() == 1024 * MIB);
	cr_assert(os_reserve(2048 * MIB, 4096) == NULL);
	cr_assert(os_reserve(100 * MIB, 4096) != NULL);
}

Test(os, commit_is_refused_at_the_data_limit)
{
	struct rlimit limit;
	char *at = os_reserve(1024 * MIB, 4096);

	if (sanitized())
		cr_skip_test("a sanitizer needs its address space");
	cr_assert(getrlimit(RLIMIT_DATA, &limit) == 0);
	limit.rlim_cur = 200 * MIB;
	cr_assert(setrlimit(RLIMIT_DATA, &limit) == 0);
	cr_assert(os_commit(at, 1024 * MIB) == -ENOMEM);
	cr_assert(os_commit(at, 16 * MIB) == 0);
	at[16 * MIB - 1] = 1;
}

/* Criterion's own assertions may change errno: none between setting and looking. */
Test(os, errno_is_left_alone)
{
	char *at = os_reserve(4 * MIB, 4096);
	_Atomic uint32_t word = 1;
	unsigned failed = 0;

	errno = 77;
	failed += os_reserve((size_t)1 << 60, 4096) == NULL;
	failed += !os_reserve_at(at, 4096);
	failed += os_reserve_readable((size_t)1 << 60, 4096) == NULL;
	failed += os_commit(NULL, 4096) != 0;
	failed += os_commit_small(NULL, 4096) != 0;
	failed += os_purge((void *)(uintptr_t)4096, 4096) != 0;
	failed += os_move(at, NULL, 4096) != 0;
	os_uncommit(at, 4096);
	os_hugepage(NULL, 4096, true);
	os_unreserve((void *)(uintptr_t)1, 4096);
	(void)os_page_bytes();
	(void)os_memory_bytes();
	(void)os_address_limit();
	(void)os_address_used();
	(void)os_now_ns();
	os_futex_wait(&word, 2);
	os_futex_wake(&word, 1);
	os_yield();
	(void)close(STDERR_FILENO);
	os_write_stderr("lost", 4);
	cr_assert(errno == 77);
	cr_assert(failed == 7);
}

Test(os, facts)
{
	struct timespec pause = {.tv_nsec = 20000000};
	uint64_t before = os_now_ns();

	cr_assert(os_page_bytes() == (size_t)sysconf(_SC_PAGESIZE));
	cr_assert(os_memory_bytes() / MIB ==
		  (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / MIB);
	(void)nanosleep(&pause, NULL);
	cr_assert(os_now_ns() > before);
}

/* --- giving back --------------------------------------------------------------------- */

/* Makes a system call fail, as a filter of the program may. */
static void filter_call(long nr, uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};

	cr_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		cr_skip_test("no seccomp");
}

/* Four parts of a megabyte each, with gaps; how many calls they took. */
static unsigned purge_four(char *at, bool lazily)
{
	struct os_range ranges[4];
	unsigned nr_calls;

	memset(at, 5, 8 * MIB);
	for (unsigned i = 0; i < 4; i++)
		ranges[i] = (struct os_range){.addr = at + 2 * i * MIB, .bytes = MIB};
	nr_calls = os_purge_ranges(ranges, 4, lazily);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert(ranges[i].err == 0);
		cr_assert(lazily || at[2 * i * MIB] == 0);
		cr_assert(lazily || at[(2 * i + 1) * MIB - 1] == 0);
		cr_assert(at[(2 * i + 1) * MIB] == 5 && at[(2 * i + 2) * MIB - 1] == 5);
	}
	return nr_calls;
}

Test(os, parts_are_given_back)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);
	unsigned nr_calls;

	cr_assert(os_commit(at, 8 * MIB) == 0);
	errno = 77;
	nr_calls = purge_four(at, false);
	cr_assert(nr_calls == 1 || nr_calls == 4);
	cr_assert(purge_four(at, false) == nr_calls && purge_four(at, true) == nr_calls);
	cr_assert(errno == 77);
}

Test(os, parts_where_the_kernel_takes_no_vectors)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);

	cr_assert(os_commit(at, 8 * MIB) == 0);
	filter_call(SYS_process_madvise, ENOSYS);
	cr_assert(purge_four(at, false) == 4);
	cr_assert(purge_four(at, false) == 4);
}

/* Nothing but mmap is left: it does the same. */
Test(os, giving_back_where_madvise_is_forbidden)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);

	cr_assert(os_commit(at, 8 * MIB) == 0);
	filter_call(SYS_process_madvise, EPERM);
	filter_call(SYS_madvise, EPERM);
	cr_assert(purge_four(at, false) == 4);
	memset(at, 5, 8 * MIB);
	cr_assert(os_purge(at + MIB, MIB) == 0);
	cr_assert(at[MIB] == 0 && at[2 * MIB - 1] == 0 && at[MIB - 1] == 5 && at[2 * MIB] == 5);
}

Test(os, a_refusal_is_told)
{
	char *at = os_reserve(8 * MIB, 2 * MIB);
	struct os_range ranges[2] = {{.addr = at, .bytes = MIB},
				     {.addr = at + 4 * MIB, .bytes = MIB}};

	cr_assert(os_commit(at, 8 * MIB) == 0);
	memset(at, 5, 8 * MIB);
	filter_call(SYS_process_madvise, EAGAIN);
	filter_call(SYS_madvise, EAGAIN);
	errno = 77;
	cr_assert(os_purge(at, MIB) == -EAGAIN);
	(void)os_purge_ranges(ranges, 2, false);
	cr_assert(ranges[0].err == -EAGAIN && ranges[1].err == -EAGAIN && errno == 77);
	cr_assert(at[0] == 5 && at[4 * MIB] == 5);
}

/* While the child of a fork lives, and not longer; and where nobody can tell. */
Test(os, pages_shared_with_a_child)
{
	char *at = os_reserve(4 * MIB, 2 * MIB);
	int status, ends[2];
	pid_t pid;

	cr_assert(os_commit(at, 4 * MIB) == 0);
	memset(at, 5, MIB);
	cr_assert(!os_shared(at) && !os_shared(at + 2 * MIB));
	cr_assert(pipe(ends) == 0);
	pid = fork();
	if (pid == 0) {
		(void)!read(ends[0], at, 1);
		_exit(0);
	}
	/* A single page of it is enough. */
	memset(at, 6, MIB - 4096);
	cr_assert(os_shared(at));
	memset(at, 6, MIB);
	cr_assert(!os_shared(at), "all was copied");
	cr_assert(!os_shared(at + 2 * MIB), "nothing is resident");
	cr_assert(write(ends[1], "", 1) == 1 && waitpid(pid, &status, 0) == pid);
	filter_call(SYS_pread64, EPERM);
	errno = 77;
	cr_assert(os_shared(at) && errno == 77);
}
