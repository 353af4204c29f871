/*
 * The fake operating system.  See fake_os.h.  One thread at a time.
 */
#include "tests/support/fake_os.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <string.h>
#include <unistd.h>

#define DATA_MAX 64u

#define COMMITTED 1u
#define IN_USE 2u
#define TOUCHED 4u

struct fake_os fake_os = {
	.now_ns = 1000000000u,
	.memory_bytes = (size_t)4 << 30,
	.address_limit = SIZE_MAX,
	.reserve_limit = SIZE_MAX,
	.commit_limit = SIZE_MAX,
};

static struct data {
	pfn_t start, end;
	uint8_t *pages;
} datas[DATA_MAX];
static unsigned nr_datas;

static void violation(const char *what, pfn_t pfn)
{
	fake_os.violations++;
	fprintf(stderr, "fake_os: %s: page %#llx\n", what, (unsigned long long)pfn);
}

static struct data *data_of(pfn_t pfn)
{
	for (unsigned i = 0; i < nr_datas; i++)
		if (pfn >= datas[i].start && pfn < datas[i].end)
			return &datas[i];
	return NULL;
}

static uint8_t *page_state(pfn_t pfn)
{
	static uint8_t nowhere;
	struct data *data = data_of(pfn);

	if (data == NULL) {
		violation("not a page of a span", pfn);
		return &nowhere;
	}
	return &data->pages[pfn - data->start];
}

static void *map_zero(size_t bytes, int prot)
{
	void *got = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return got == MAP_FAILED ? NULL : got;
}

/* Whether this call is the one that is to fail. */
static bool fails(void)
{
	fake_os.nr_fallible++;
	return fake_os.fail_at > 0 && --fake_os.fail_at == 0;
}

/* --- for tests ---------------------------------------------------------------------------- */

int fake_os_data(void *start, size_t bytes)
{
	struct data *data = &datas[nr_datas];

	if (fails() || nr_datas == DATA_MAX)
		return -ENOMEM;
	data->pages = map_zero(bytes >> PAGE_SHIFT, PROT_READ | PROT_WRITE);
	if (data->pages == NULL)
		return -ENOMEM;
	data->start = pfn_of(start);
	data->end = data->start + (bytes >> PAGE_SHIFT);
	nr_datas++;
	return 0;
}

void fake_os_use(pfn_t pfn, size_t nr_pages)
{
	for (; nr_pages > 0; pfn++, nr_pages--) {
		uint8_t *state = page_state(pfn);

		if ((*state & COMMITTED) == 0)
			violation("handed out but not committed", pfn);
		if ((*state & IN_USE) != 0)
			violation("handed out twice", pfn);
		*state |= IN_USE | TOUCHED;
	}
}

void fake_os_unuse(pfn_t pfn, size_t nr_pages)
{
	for (; nr_pages > 0; pfn++, nr_pages--) {
		uint8_t *state = page_state(pfn);

		if ((*state & IN_USE) == 0)
			violation("given up but not in use", pfn);
		*state &= (uint8_t)~IN_USE;
	}
}

void fake_os_clean(pfn_t pfn, size_t nr_pages)
{
	for (; nr_pages > 0; pfn++, nr_pages--)
		*page_state(pfn) &= (uint8_t)~TOUCHED;
}

void fake_os_touch(pfn_t pfn, size_t nr_pages)
{
	for (; nr_pages > 0; pfn++, nr_pages--)
		*page_state(pfn) |= TOUCHED;
}

bool fake_os_touched(pfn_t pfn)
{
	return (*page_state(pfn) & TOUCHED) != 0;
}

bool fake_os_zero(pfn_t pfn, size_t nr_pages)
{
	bool zero = true;

	for (; nr_pages > 0; pfn++, nr_pages--)
		zero &= !fake_os_touched(pfn);
	return zero;
}

bool fake_os_committed(pfn_t pfn, size_t nr_pages)
{
	bool committed = true;

	for (; nr_pages > 0; pfn++, nr_pages--)
		committed &= (*page_state(pfn) & COMMITTED) != 0;
	return committed;
}

/* --- the interface of core/os.c ------------------------------------------------------------- */

void *os_reserve(size_t bytes, size_t align)
{
	char *got, *start;

	fake_os.nr_reserves++;
	if (fails() || bytes > fake_os.reserve_limit - fake_os.reserved_bytes)
		return NULL;
	got = map_zero(bytes + align, PROT_NONE);
	if (got == NULL)
		return NULL;
	fake_os.reserved_bytes += bytes;
	start = (char *)round_up((uintptr_t)got, align);
	if (start != got)
		(void)munmap(got, (size_t)(start - got));
	(void)munmap(start + bytes, align - (size_t)(start - got));
	return start;
}

bool os_reserve_at(void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	return false;
}

void *os_reserve_readable(size_t bytes, size_t align)
{
	(void)bytes;
	(void)align;
	return NULL;
}

void os_unreserve(void *addr, size_t bytes)
{
	struct data *last = nr_datas > 0 ? &datas[nr_datas - 1] : NULL;

	fake_os.nr_unreserves++;
	fake_os.reserved_bytes -= bytes;
	/* A span that was given up after it was announced. */
	if (last != NULL && last->start == pfn_of(addr))
		nr_datas--;
	(void)munmap(addr, bytes);
}

static bool over_limit(size_t bytes)
{
	return bytes > fake_os.commit_limit - fake_os.committed_bytes;
}

int os_commit(void *addr, size_t bytes)
{
	bool is_data = data_of(pfn_of(addr)) != NULL;

	fake_os.nr_commits++;
	if (fails() || (is_data && over_limit(bytes)))
		return -ENOMEM;
	if (!is_data)
		return mprotect(addr, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -ENOMEM;
	fake_os.last_commit = addr;
	fake_os.last_commit_bytes = bytes;
	fake_os.committed_bytes += bytes;
	for (size_t i = 0; i < bytes >> PAGE_SHIFT; i++) {
		uint8_t *state = page_state(pfn_of(addr) + i);

		if (*state != 0)
			violation("committed twice", pfn_of(addr) + i);
		*state = COMMITTED;
	}
	return 0;
}

int os_commit_small(void *addr, size_t bytes)
{
	return os_commit(addr, bytes);
}

void os_uncommit(void *addr, size_t bytes)
{
	fake_os.nr_uncommits++;
	if (data_of(pfn_of(addr)) != NULL)
		violation("data uncommitted", pfn_of(addr));
	(void)mmap(addr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		   -1, 0);
}

bool os_hugepage(void *addr, size_t bytes, bool on)
{
	(void)addr;
	(void)bytes;
	if (fake_os.fail_hugepage) {
		fake_os.nr_hugepage_refused++;
		return false;
	}
	fake_os.nr_hugepage_on += on;
	fake_os.nr_hugepage_off += !on;
	return true;
}

int os_collapse(void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	fake_os.nr_collapses++;
	return fake_os.fail_hugepage ? -EINVAL : 0;
}

int os_resident(void *addr, size_t bytes, size_t *resident)
{
	*resident = 0;
	for (size_t i = 0; i < bytes >> PAGE_SHIFT; i++)
		*resident += fake_os_touched(pfn_of(addr) + i) ? PAGE_BYTES : 0;
	return 0;
}

bool os_shared(void *block)
{
	(void)block;
	return fake_os.shared;
}

int os_populate(void *addr, size_t bytes)
{
	fake_os.nr_populates++;
	if (fails()) {
		/* After a part of it. */
		*page_state(pfn_of(addr)) |= TOUCHED;
		return -ENOMEM;
	}
	for (size_t i = 0; i < bytes >> PAGE_SHIFT; i++) {
		uint8_t *state = page_state(pfn_of(addr) + i);

		if ((*state & (IN_USE | COMMITTED)) != COMMITTED)
			violation("populated but in use or not committed", pfn_of(addr) + i);
		*state |= TOUCHED;
	}
	return 0;
}

static size_t released_bytes;

/* Without counting a call. */
static int purge(void *addr, size_t bytes, bool lazily)
{
	pfn_t first = pfn_of(addr);
	size_t nr_pages = bytes >> PAGE_SHIFT;
	bool any = false;

	if (data_of(first) == NULL && data_of(first + nr_pages - 1) == NULL) {
		/* Metadata: real memory. */
		fake_os.nr_metadata_purges++;
		memset(addr, 0, bytes);
		return 0;
	}
	for (pfn_t pfn = first; pfn < first + nr_pages; pfn++) {
		uint8_t *state = page_state(pfn);

		if ((*state & COMMITTED) == 0)
			violation("purged but not committed", pfn);
		if ((*state & IN_USE) != 0)
			violation("purged while in use", pfn);
		any |= (*state & TOUCHED) != 0;
	}
	if (!any)
		violation("purged again while idle", first);
	if (fake_os.during_purge != NULL)
		fake_os.during_purge(addr, bytes);
	if (fake_os.fail_purge || fails())
		return -EAGAIN;
	for (pfn_t pfn = first; pfn < first + nr_pages; pfn++) {
		uint8_t *state = page_state(pfn);

		if ((*state & IN_USE) != 0)
			violation("handed out while being purged", pfn);
		released_bytes += (*state & TOUCHED) != 0 ? PAGE_BYTES : 0;
		/* Lazily: it keeps what it has, for a while. */
		if (!lazily)
			*state &= (uint8_t)~TOUCHED;
	}
	return 0;
}

int os_purge(void *addr, size_t bytes)
{
	fake_os.nr_purges++;
	return purge(addr, bytes, false);
}

unsigned os_purge_ranges(struct os_range *ranges, unsigned nr, bool lazily)
{
	unsigned nr_calls = fake_os.takes_vectors && nr > 0 ? 1 : nr;

	fake_os.nr_purges += nr_calls;
	for (unsigned i = 0; i < nr; i++)
		ranges[i].err = purge(ranges[i].addr, ranges[i].bytes, lazily);
	return nr_calls;
}

void os_released_begin(void)
{
	released_bytes = 0;
}

size_t os_released_end(void)
{
	return released_bytes;
}

int os_move(void *dst, void *src, size_t bytes)
{
	(void)dst;
	(void)src;
	(void)bytes;
	return -ENOSYS;
}

size_t os_page_bytes(void)
{
	return PAGE_BYTES;
}

size_t os_memory_bytes(void)
{
	return fake_os.memory_bytes;
}

size_t os_address_limit(void)
{
	return fake_os.address_limit;
}

size_t os_address_used(void)
{
	return fake_os.address_used + fake_os.reserved_bytes;
}

uint64_t os_now_ns(void)
{
	return fake_os.now_ns;
}

void os_write_stderr(const char *text, size_t len)
{
	ssize_t done = write(STDERR_FILENO, text, len);

	(void)done;
}

void os_futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	if (fake_os.futex_wait != NULL && fake_os.futex_wait(word, value))
		return;
	(void)syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void os_futex_wake(_Atomic uint32_t *word, int nr)
{
	if (fake_os.futex_wake != NULL && fake_os.futex_wake(word, nr))
		return;
	(void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, nr, NULL, NULL, 0);
}

void os_nap(unsigned nr_naps)
{
	(void)nr_naps;
	os_yield();
}

void os_yield(void)
{
	/* Written only by tests with one thread that yields. */
	if (fake_os.yield_ns > 0)
		fake_os.now_ns += fake_os.yield_ns;
	if (fake_os.yielded != NULL)
		fake_os.yielded();
	else
		(void)syscall(SYS_sched_yield);
}
