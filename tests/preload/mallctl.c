/* jemalloc's functions: the tree of names, and blocks that go in and out by them. */
#include "tests/preload/test.h"

#include "preload/jemalloc.h"

#include <malloc.h>
#include <stdbool.h>

#define ZERO 0x40

static size_t get(const char *name)
{
	size_t value = 0, len = sizeof(value);

	EXPECT(mallctl(name, &value, &len, NULL, 0) == 0);
	EXPECT(len == sizeof(value));
	return value;
}

static uint64_t new_epoch(void)
{
	uint64_t epoch = 1;
	size_t len = sizeof(epoch);

	EXPECT(mallctl("epoch", &epoch, &len, &epoch, len) == 0);
	return epoch;
}

static void test_figures(void)
{
	uint64_t epoch = new_epoch();
	size_t before = get("stats.allocated"), resident;
	char *p = malloc(64 << 20);

	HIDE(p);
	memset(p, 1, 64 << 20);
	EXPECT(get("stats.allocated") == before);
	EXPECT(new_epoch() == epoch + 1);
	EXPECT(get("stats.allocated") == before + (64 << 20));
	EXPECT(get("stats.arenas.0.large.allocated") >= 64 << 20);
	EXPECT(get("stats.allocated") <= get("stats.active"));
	EXPECT(get("stats.active") <= get("stats.resident"));
	EXPECT(get("stats.resident") <= get("stats.mapped") + get("stats.metadata"));
	/* What is said to be resident is what the system sees, but for the program itself. */
	resident = resident_bytes();
	EXPECT(get("stats.resident") > 64 << 20 &&
	       get("stats.resident") < resident + (8 << 20));
	free(p);
	EXPECT(mallctl("arena.0.purge", NULL, NULL, NULL, 0) == 0);
	new_epoch();
	EXPECT(resident_bytes() < resident - (60 << 20));
	EXPECT(get("stats.allocated") == before);
	EXPECT(get("stats.retained") >= 60 << 20);
}

static void test_names(void)
{
	size_t mib[8], len = 8, value, value_len = sizeof(value);
	unsigned narenas, small;
	char name[32];

	value = sizeof(narenas);
	EXPECT(mallctl("arenas.narenas", &narenas, &value, NULL, 0) == 0 && narenas == 1);
	snprintf(name, sizeof(name), "arena.%u.purge", narenas);
	EXPECT(mallctl(name, NULL, NULL, NULL, 0) == 0);
	EXPECT(mallctl("arena.4096.decay", NULL, NULL, NULL, 0) == 0);
	EXPECT(mallctl("arena.2.purge", NULL, NULL, NULL, 0) == ENOENT);

	EXPECT(mallctl("nothing", NULL, NULL, NULL, 0) == ENOENT);
	EXPECT(mallctl("", NULL, NULL, NULL, 0) == ENOENT);
	EXPECT(mallctl("stats", NULL, NULL, NULL, 0) == ENOENT);
	EXPECT(mallctl("stats.allocated.more", NULL, NULL, NULL, 0) == ENOENT);
	EXPECT(mallctl("arenas.bin.x.size", NULL, NULL, NULL, 0) == ENOENT);
	EXPECT(mallctl("thread.allocated", NULL, NULL, NULL, 0) == ENOENT);
	/* Too short: as much as there is room for, and said so. */
	value = sizeof(small);
	EXPECT(mallctl("stats.allocated", &small, &value, NULL, 0) == EINVAL);
	EXPECT(value == sizeof(small));
	EXPECT(mallctl("stats.allocated", NULL, NULL, &value, sizeof(value)) == EPERM);
	EXPECT(mallctl("thread.tcache.flush", &value, &value_len, NULL, 0) == EPERM);
	EXPECT(mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) == 0);

	EXPECT(mallctlnametomib("arenas.bin.0.size", mib, &len) == 0 && len == 4);
	for (size_t i = 0, last = 0; i < 8; i++, last = value) {
		mib[2] = i;
		value_len = sizeof(value);
		EXPECT(mallctlbymib(mib, len, &value, &value_len, NULL, 0) == 0);
		EXPECT(value > last && value == nallocx(value, 0));
	}
	mib[2] = 1000;
	EXPECT(mallctlbymib(mib, len, &value, &value_len, NULL, 0) == ENOENT);
	len = 8;
	EXPECT(mallctlnametomib("stats.arenas.0", mib, &len) == 0 && len == 3);
	EXPECT(mallctlbymib(mib, len, &value, &value_len, NULL, 0) == ENOENT);
	len = 1;
	EXPECT(mallctlnametomib("stats.allocated", mib, &len) == 0 && len == 1);
	len = 8;
	EXPECT(mallctlnametomib("stats.allocate", mib, &len) == ENOENT);
}

static void test_options(void)
{
	static const char *const names[] = { "opt.abort", "opt.prof",     "opt.retain",
					     "opt.zero",  "config.stats", "background_thread" };
	const char *text = NULL;
	size_t len = sizeof(text);
	bool on;

	EXPECT(mallctl("version", &text, &len, NULL, 0) == 0 && strncmp(text, "5.", 2) == 0);
	EXPECT(mallctl("opt.thp", &text, &len, NULL, 0) == 0 && strcmp(text, "auto") == 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		len = sizeof(on);
		EXPECT(mallctl(names[i], &on, &len, NULL, 0) == 0);
	}
	on = true;
	EXPECT(mallctl("background_thread", NULL, NULL, &on, sizeof(on)) == 0);
}

static void test_blocks(void)
{
	for (size_t size = 1; size < 100000; size = size * 5 / 4 + 1) {
		for (int lg = 0; lg < 14; lg++) {
			char *p = mallocx(size, lg | ZERO);

			EXPECT(p != NULL && (uintptr_t)p % ((size_t)1 << lg) == 0);
			for (size_t i = 0; i < size; i++)
				EXPECT(p[i] == 0);
			EXPECT(sallocx(p, 0) == malloc_usable_size(p));
			EXPECT(nallocx(size, lg) == malloc_usable_size(p));
			EXPECT(xallocx(p, size, 0, lg) >= size);
			memset(p, 1, sallocx(p, 0));

			size_t usable = sallocx(p, 0);

			p = rallocx(p, size * 3, lg | ZERO);
			EXPECT((uintptr_t)p % ((size_t)1 << lg) == 0 && p[size - 1] == 1);
			for (size_t i = usable; i < size * 3; i++)
				EXPECT(p[i] == 0);
			p = rallocx(p, size, lg);
			EXPECT((uintptr_t)p % ((size_t)1 << lg) == 0 && p[size - 1] == 1);
			if (lg % 3 == 0)
				free(p);
			else if (lg % 3 == 1)
				dallocx(p, lg);
			else
				sdallocx(p, size, lg);
		}
	}
	EXPECT(nallocx(SIZE_MAX, 0) == 0);
	errno = 0;
	EXPECT(mallocx(SIZE_MAX / 2, 12) == NULL && errno == ENOMEM);
	void *p = rallocx(malloc(10), 100, 0);

	pb_check();
	sdallocx(p, 100, 0);
}

static char printed[4096];

static void keep(void *arg, const char *text)
{
	EXPECT(arg == printed);
	strncat(printed, text, sizeof(printed) - strlen(printed) - 1);
}

static void test_print(void)
{
	malloc_stats_print(keep, printed, NULL);
	EXPECT(strstr(printed, "heaps") != NULL);
	printed[0] = '\0';
	malloc_stats_print(keep, printed, "J");
	EXPECT(strstr(printed, "{\"jemalloc\":{") == printed);
	EXPECT(strstr(printed, "\"allocated\":") != NULL);
}

int main(void)
{
	expect_library();
	test_figures();
	test_names();
	test_options();
	test_blocks();
	test_print();
	return 0;
}
