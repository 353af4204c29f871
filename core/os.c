/*
 * The operating system: the only caller of mmap, mprotect, madvise, mremap, futex
 * and the clock.
 *
 * Contract of every function here: errno is as it was, nothing allocates, nothing is a
 * cancellation point, and it works before libc's constructors ran and in a fork child.
 * What an old kernel or a seccomp filter refuses as advice is ignored; what it refuses
 * as an operation is tried the older way or answered by an error.
 *
 * Where the system's page is larger than ours, ranges are rounded here and nowhere
 * else: outwards to commit, inwards to purge.
 */
#define _GNU_SOURCE /* mremap */

#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <string.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Newer than the headers of some systems we are built on. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* Naps that are only yields: the first few of a wait. */
#define NAPS_AWAKE 16u

/* Without MAP_NORESERVE: what is committed later shall count against overcommit. */
#define RESERVE_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)
#define HUGE_BYTES PAGEBLOCK_BYTES

size_t os_page_bytes(void)
{
	/* Relaxed: whoever comes first computes the same. */
	static _Atomic size_t cached;
	size_t bytes = atomic_load_explicit(&cached, memory_order_relaxed);

	if (unlikely(bytes == 0)) {
		int saved = errno;

		bytes = (size_t)getauxval(AT_PAGESZ);
		if (bytes < PAGE_BYTES)
			bytes = PAGE_BYTES;
		atomic_store_explicit(&cached, bytes, memory_order_relaxed);
		errno = saved;
	}
	return bytes;
}

/* [*addr, *addr + *bytes) made larger to whole pages of the system. */
static void widen(void **addr, size_t *bytes)
{
	size_t page = os_page_bytes();
	uintptr_t from = round_down((uintptr_t)*addr, page);
	uintptr_t to = round_up((uintptr_t)*addr + *bytes, page);

	*addr = (void *)from;
	*bytes = to - from;
}

/* --- address space ------------------------------------------------------------------- */

/* x86-64 alone has it. */
#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif

/* mmap of private zero pages; NULL when it fails. */
static void *map(void *addr, size_t bytes, int prot, int flags)
{
	void *got = mmap(addr, bytes, prot, RESERVE_FLAGS | flags, -1, 0);

	return got == MAP_FAILED ? NULL : got;
}

/* The aligned part of a larger mapping, the rest given back. */
static void *map_aligned_slow(size_t bytes, size_t align, int prot)
{
	size_t extra = align - os_page_bytes();
	size_t before;
	char *got;

	if (bytes > SIZE_MAX - extra)
		return NULL;
	got = map(NULL, bytes + extra, prot, 0);
	if (got == NULL)
		return NULL;
	before = round_up((uintptr_t)got, align) - (uintptr_t)got;
	if (before > 0)
		(void)munmap(got, before);
	if (extra > before)
		(void)munmap(got + before + bytes, extra - before);
	return got + before;
}

static void *map_aligned(size_t bytes, size_t align, int prot)
{
	char *got;

	bytes = round_up(bytes, os_page_bytes());
	if (bytes == 0)
		return NULL;
	got = map(NULL, bytes, prot, 0);
	if (got == NULL || ((uintptr_t)got & (align - 1)) == 0)
		return got;
	(void)munmap(got, bytes);
	return map_aligned_slow(bytes, align, prot);
}

void *os_reserve(size_t bytes, size_t align)
{
	int saved = errno;
	void *got = map_aligned(bytes, align, PROT_NONE);

	errno = saved;
	return got;
}

bool os_reserve_at(void *addr, size_t bytes)
{
	int saved = errno;
	void *got = map(addr, bytes, PROT_NONE, MAP_FIXED_NOREPLACE);

	/* Kernels before 4.17 take the address for a hint. */
	if (got != NULL && got != addr)
		(void)munmap(got, bytes);
	errno = saved;
	return got == addr;
}

void *os_map_low(size_t bytes)
{
	int saved = errno;
	void *got = map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_32BIT);

	errno = saved;
	return got;
}

void *os_reserve_readable(size_t bytes, size_t align)
{
	int saved = errno;
	void *got = map_aligned(bytes, align < HUGE_BYTES ? HUGE_BYTES : align, PROT_READ);

	if (got != NULL) {
		/* mlockall() then fills it with the huge zero page, not with small ones. */
		(void)madvise(got, bytes, MADV_HUGEPAGE);
		(void)madvise(got, bytes, MADV_DONTDUMP);
	}
	errno = saved;
	return got;
}

void os_unreserve(void *addr, size_t bytes)
{
	int saved = errno;

	(void)munmap(addr, round_up(bytes, os_page_bytes()));
	errno = saved;
}

/* --- memory --------------------------------------------------------------------------- */

int os_commit(void *addr, size_t bytes)
{
	int saved = errno;
	int err;

	widen(&addr, &bytes);
	err = mprotect(addr, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -ENOMEM;
	errno = saved;
	return err;
}

int os_commit_small(void *addr, size_t bytes)
{
	widen(&addr, &bytes);
	(void)os_hugepage(addr, bytes, false);
	return os_commit(addr, bytes);
}

void os_uncommit(void *addr, size_t bytes)
{
	int saved = errno;

	/* A fresh mapping over it is what drops the accounting too. */
	if (map(addr, bytes, PROT_NONE, MAP_FIXED) == NULL)
		(void)mprotect(addr, bytes, PROT_NONE);
	errno = saved;
}

bool os_hugepage(void *addr, size_t bytes, bool on)
{
	int saved = errno;
	bool done = madvise(addr, bytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;

	errno = saved;
	return done;
}

/* What lies wholly in a range, in whole pages of the system; false: nothing does. */
static bool narrow(void **addr, size_t *bytes)
{
	size_t page = os_page_bytes();
	uintptr_t from = round_up((uintptr_t)*addr, page);
	uintptr_t to = round_down((uintptr_t)*addr + *bytes, page);

	*addr = (void *)from;
	*bytes = to - from;
	return from < to;
}

static __thread struct {
	size_t bytes;
	bool counting;
} released;

void os_released_begin(void)
{
	released.bytes = 0;
	released.counting = true;
}

size_t os_released_end(void)
{
	released.counting = false;
	return released.bytes;
}

COLD int os_resident(void *addr, size_t bytes, size_t *resident)
{
	unsigned char pages[PAGEBLOCK_PAGES];
	size_t page = os_page_bytes();
	size_t nr_resident = 0;
	int saved = errno;
	int err = 0;

	widen(&addr, &bytes);
	for (size_t at = 0, n; err == 0 && at < bytes; at += n) {
		n = bytes - at < PAGEBLOCK_BYTES ? bytes - at : PAGEBLOCK_BYTES;
		if (mincore((char *)addr + at, n, pages) != 0)
			err = -errno;
		for (size_t i = 0; err == 0 && i < n / page; i++)
			nr_resident += pages[i] & 1;
	}
	*resident = nr_resident * page;
	errno = saved;
	return err;
}

/* What of a range is resident, before it is given back; all of it where nobody knows. */
static COLD size_t resident_bytes(void *addr, size_t bytes)
{
	size_t resident;

	return os_resident(addr, bytes, &resident) == 0 ? resident : bytes;
}

/*
 * 0 or -errno.  Where madvise as such is forbidden (a seccomp filter), a fresh mapping does
 * the same, but for the advice about huge pages.  What is locked into memory (EINVAL) stays.
 */
static int purge_range(void *addr, size_t bytes, int advice)
{
	int err;

	if (madvise(addr, bytes, advice) == 0)
		return 0;
	err = -errno;
	if (err == -EINVAL && advice != MADV_DONTNEED)
		return purge_range(addr, bytes, MADV_DONTNEED);
	if ((err == -EPERM || err == -ENOSYS || err == -EACCES) &&
	    map(addr, bytes, PROT_READ | PROT_WRITE, MAP_FIXED) != NULL)
		return 0;
	return err;
}

int os_purge(void *addr, size_t bytes)
{
	int saved = errno;
	size_t resident = 0;
	int err = 0;

	if (narrow(&addr, &bytes)) {
		if (unlikely(released.counting))
			resident = resident_bytes(addr, bytes);
		err = purge_range(addr, bytes, MADV_DONTNEED);
		released.bytes += err == 0 ? resident : 0;
	}
	errno = saved;
	return err;
}

/* The process itself, for process_madvise(); since Linux 6.14. */
#define PIDFD_OF_SELF (-10000)
#define VECTOR_MAX 64u

/*
 * Whether process_madvise() drops contents of the caller's own pages (Linux 6.13 and
 * newer) is found out by the first use, which is remembered when it fails.
 */
static _Atomic bool no_vectors;

/* How many ranges from the first on are done; 0: it cannot be done so. */
static unsigned purge_vector(const struct os_range *ranges, unsigned nr, int advice)
{
	struct iovec vector[VECTOR_MAX];
	unsigned done = 0;
	long bytes;

	/* Relaxed: whoever comes next finds out the same. */
	if (nr < 2 || nr > VECTOR_MAX ||
	    atomic_load_explicit(&no_vectors, memory_order_relaxed))
		return 0;
	for (unsigned i = 0; i < nr; i++)
		vector[i] = (struct iovec){
			.iov_base = ranges[i].addr,
			.iov_len = ranges[i].bytes,
		};
	bytes = syscall(SYS_process_madvise, PIDFD_OF_SELF, vector, nr, advice, 0);
	if (bytes < 0 && errno != EAGAIN && errno != ENOMEM)
		atomic_store_explicit(&no_vectors, true, memory_order_relaxed);
	while (bytes > 0 && done < nr && (size_t)bytes >= ranges[done].bytes)
		bytes -= (long)ranges[done++].bytes;
	return done;
}

unsigned os_purge_ranges(struct os_range *ranges, unsigned nr, bool lazily)
{
	int saved = errno;
	int advice = lazily ? MADV_FREE : MADV_DONTNEED;
	unsigned done = 0, n, nr_calls = 0;

	if (unlikely(released.counting)) {
		/* One by one, each counted. */
		for (unsigned i = 0; i < nr; i++)
			ranges[i].err = os_purge(ranges[i].addr, ranges[i].bytes);
		return nr;
	}
	for (unsigned i = 0; i < nr; i++) {
		ranges[i].err = 0;
		if (!narrow(&ranges[i].addr, &ranges[i].bytes))
			ranges[i].bytes = 0;
	}
	do {
		n = nr - done < VECTOR_MAX ? nr - done : VECTOR_MAX;
		n = purge_vector(ranges + done, n, advice);
		done += n;
		nr_calls += n > 0;
	} while (n == VECTOR_MAX);
	for (unsigned i = done; i < nr; i++) {
		if (ranges[i].bytes == 0)
			continue;
		ranges[i].err = purge_range(ranges[i].addr, ranges[i].bytes, advice);
		nr_calls++;
	}
	errno = saved;
	return nr_calls;
}

/* Without MREMAP_DONTUNMAP (before Linux 5.7): the hole that is left is mapped anew. */
static int move_and_refill(void *dst, void *src, size_t bytes)
{
	bool refilled;

	if (mremap(src, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, dst) == MAP_FAILED)
		return -errno;
	refilled = map(src, bytes, PROT_READ | PROT_WRITE, MAP_FIXED) != NULL;
	/* The kernel made sure of the room before it moved; without it the run is lost. */
	CHECK(refilled);
	return 0;
}

/* A move that failed may have unmapped its destination before it found out. */
static void restore_hole(void *dst, size_t bytes)
{
	void *got = map(dst, bytes, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
	bool still_mapped = got != NULL || errno == EEXIST;

	CHECK(still_mapped);
	if (got != NULL && got != dst)
		(void)munmap(got, bytes);
}

int os_move(void *dst, void *src, size_t bytes)
{
	int saved = errno;
	int err = 0;

	if (mremap(src, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, dst) ==
	    MAP_FAILED) {
		err = -errno;
		if (err == -EINVAL || err == -ENOSYS)
			err = move_and_refill(dst, src, bytes);
		if (err != 0)
			restore_hole(dst, bytes);
	}
	errno = saved;
	return err;
}

/* What the system does not do for us is done by touching. */
static void touch(volatile char *addr, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += os_page_bytes())
		/* Atomic, so that nobody's store is undone. */
		(void)__atomic_fetch_add(addr + at, 0, __ATOMIC_RELAXED);
}

int os_populate(void *addr, size_t bytes)
{
	int saved = errno;
	int err = 0;

	widen(&addr, &bytes);
	if (madvise(addr, bytes, MADV_POPULATE_WRITE) != 0) {
		err = -errno;
		/* Before Linux 5.14. */
		if (err == -EINVAL) {
			touch(addr, bytes);
			err = 0;
		}
	}
	errno = saved;
	return err;
}

int os_collapse(void *addr, size_t bytes)
{
	int saved = errno;
	int err = 0;

	for (size_t at = 0; at + HUGE_BYTES <= bytes; at += HUGE_BYTES) {
		/* One that has no page at all is not collapsed. */
		touch((char *)addr + at, 1);
		if (madvise((char *)addr + at, HUGE_BYTES, MADV_COLLAPSE) != 0)
			err = -errno;
	}
	errno = saved;
	return err;
}

/* --- residency: /proc/self/pagemap; PAGEMAP_SCAN since Linux 6.7, not in older headers --- */

struct scan_region {
	uint64_t start, end, categories;
};

struct scan_request {
	uint64_t size, flags, start, end, walk_end, regions, nr_regions, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_request)
#define SCAN_PRESENT ((uint64_t)1 << 3)
#define SCAN_ZERO ((uint64_t)1 << 5)
#define SCAN_HUGE ((uint64_t)1 << 6)
#define SCAN_REGIONS 64u

static int scan(long fd, char *addr, size_t bytes, size_t *resident, size_t *huge)
{
	struct scan_region regions[SCAN_REGIONS];
	struct scan_request request = {
		.size = sizeof(request),
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + bytes,
		.regions = (uintptr_t)regions,
		.nr_regions = SCAN_REGIONS,
		.category_mask = SCAN_PRESENT,
		.return_mask = SCAN_PRESENT | SCAN_ZERO | SCAN_HUGE,
	};

	*resident = *huge = 0;
	while (request.start < request.end) {
		long nr = syscall(SYS_ioctl, fd, SCAN_IOCTL, &request);

		if (nr < 0)
			return -errno;
		for (long i = 0; i < nr; i++) {
			size_t n = regions[i].end - regions[i].start;

			if ((regions[i].categories & SCAN_ZERO) != 0)
				continue;
			*resident += n;
			*huge += (regions[i].categories & SCAN_HUGE) != 0 ? n : 0;
		}
		if (request.walk_end <= request.start)
			return -EIO;
		request.start = request.walk_end;
	}
	return 0;
}

static long open_pagemap(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

/* A word of pagemap, one for each page. */
#define PAGEMAP_PRESENT ((uint64_t)1 << 63)
#define PAGEMAP_EXCLUSIVE ((uint64_t)1 << 56) /* no other process maps it */

COLD bool os_shared(void *block)
{
	uint64_t pages[PAGEBLOCK_PAGES];
	size_t page = os_page_bytes();
	size_t nr = PAGEBLOCK_BYTES / page;
	int saved = errno;
	long fd = open_pagemap();
	long got = -1;
	bool shared;

	if (fd >= 0) {
		got = syscall(SYS_pread64, fd, pages, nr * sizeof(pages[0]),
			      (uintptr_t)block / page * sizeof(pages[0]));
		(void)syscall(SYS_close, fd);
	}
	shared = got != (long)(nr * sizeof(pages[0]));
	for (size_t i = 0; !shared && i < nr; i++)
		shared = (pages[i] & (PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE)) == PAGEMAP_PRESENT;
	errno = saved;
	return shared;
}

int os_residency(void *addr, size_t bytes, size_t *resident, size_t *huge)
{
	int saved = errno;
	long fd = open_pagemap();
	int err = fd < 0 ? -errno : 0;

	widen(&addr, &bytes);
	if (err == 0) {
		err = scan(fd, addr, bytes, resident, huge);
		(void)syscall(SYS_close, fd);
	}
	errno = saved;
	return err;
}

/* --- facts ----------------------------------------------------------------------------- */

size_t os_memory_bytes(void)
{
	int saved = errno;
	struct sysinfo info;
	size_t bytes = (size_t)4 << 30;

	if (syscall(SYS_sysinfo, &info) == 0)
		bytes = (size_t)info.totalram * info.mem_unit;
	errno = saved;
	return bytes;
}

size_t os_address_limit(void)
{
	int saved = errno;
	struct rlimit limit;
	size_t bytes = SIZE_MAX;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		bytes = (size_t)limit.rlim_cur;
	errno = saved;
	return bytes;
}

size_t os_address_used(void)
{
	int saved = errno;
	size_t pages = 0;
	char text[32];
	/* By syscall(): open() and read() of libc are cancellation points. */
	long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		long len = syscall(SYS_read, fd, text, sizeof(text));

		for (long i = 0; i < len && text[i] >= '0' && text[i] <= '9'; i++)
			pages = pages * 10 + (size_t)(text[i] - '0');
		(void)syscall(SYS_close, fd);
	}
	errno = saved;
	return pages * os_page_bytes();
}

uint64_t os_now_ns(void)
{
	int saved = errno;
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	errno = saved;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void os_write_stderr(const char *text, size_t len)
{
	int saved = errno;

	while (len > 0) {
		long done = syscall(SYS_write, STDERR_FILENO, text, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			break;
		text += done;
		len -= (size_t)done;
	}
	errno = saved;
}

/* --- waiting ----------------------------------------------------------------------------- */

void os_futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	int saved = errno;

	(void)syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
	errno = saved;
}

void os_futex_wake(_Atomic uint32_t *word, int nr)
{
	int saved = errno;

	(void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, nr, NULL, NULL, 0);
	errno = saved;
}

/* What is waited for takes microseconds, or much longer: then others shall have the processor. */
void os_nap(unsigned nr_naps)
{
	const struct timespec a_little = {.tv_nsec = 100 * 1000};
	int saved = errno;
	uint32_t word = 0;

	if (nr_naps < NAPS_AWAKE)
		(void)syscall(SYS_sched_yield);
	else
		(void)syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &a_little,
			      NULL, 0);
	errno = saved;
}

void os_yield(void)
{
	int saved = errno;

	(void)syscall(SYS_sched_yield);
	errno = saved;
}

/* The kernel looks at the word for us: a time that has passed, or a value that is another. */
bool os_readable(const void *addr)
{
	const struct timespec no_time = { 0, 0 };
	int saved = errno;
	/* What no word is likely to be: to wait for one that is takes 75 us, though for no time. */
	long err = syscall(SYS_futex, (uintptr_t)addr & ~(uintptr_t)3,
			   FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0x9e3779b9u, &no_time, NULL, 0);
	bool readable = err == 0 || errno != EFAULT;

	errno = saved;
	return readable;
}

bool os_patch(void *at, const void *bytes, size_t nr_bytes)
{
	int saved = errno;
	size_t page = os_page_bytes();
	uintptr_t from = round_down((uintptr_t)at, page);
	size_t span = round_up((uintptr_t)at + nr_bytes, page) - from;
	bool ok = mprotect((void *)from, span, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;

	if (ok) {
		memcpy(at, bytes, nr_bytes);
		/* A failure leaves it writable, and nothing more. */
		(void)mprotect((void *)from, span, PROT_READ | PROT_EXEC);
	}
	errno = saved;
	return ok;
}
