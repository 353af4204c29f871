/*
 * backing MODE - what backs memory.
 *
 *   ready      PAGEBLOCK_CONF=reserve:64M,background:true: no page faults for a thread that
 *              allocates less than that
 *   mappings   every other pageblock sparse: that costs mappings, until it is given back whole
 *   max-maps   the process has as many mappings as it may: memory still comes and goes
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#define MIB ((size_t)1 << 20)

static size_t nr_mappings(void)
{
	char text[8192];
	int fd = open("/proc/self/maps", O_RDONLY);
	size_t nr = 0;
	ssize_t n;

	EXPECT(fd >= 0);
	while ((n = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < n; i++)
			nr += text[i] == '\n';
	close(fd);
	return nr;
}

static long faults(void)
{
	struct rusage usage;

	EXPECT(getrusage(RUSAGE_THREAD, &usage) == 0);
	return usage.ru_minflt;
}

static void wait_until_resident(size_t bytes)
{
	time_t until = time(NULL) + 20;

	while (resident_bytes() < bytes) {
		EXPECT(time(NULL) < until);
		usleep(10000);
	}
}

static void use(size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 16000) {
		char *p = malloc(16000);

		EXPECT(p != NULL);
		memset(p, 1, 16000);
	}
}

static int ready(void)
{
	long before;

	wait_until_resident(64 * MIB);
	/* The rest of the block that the process began with is not ready. */
	use(4 * MIB);
	wait_until_resident(66 * MIB);
	before = faults();
	use(24 * MIB);
	printf("%ld page faults for 24 MiB\n", faults() - before);
	fflush(stdout);
	/* 6,144 of small pages, 12 of huge ones; the metadata's remain. */
	EXPECT(faults() - before < 100);
	/* And it is made again. */
	wait_until_resident(64 * MIB + 20 * MIB);
	return 0;
}

/* Blocks of 256 KiB, eight to a pageblock. */
enum { NR = 8 * 240 };
static char *blocks[NR];

static void make_sparse(void)
{
	for (int i = 0; i < NR; i++) {
		blocks[i] = malloc(256 << 10);
		EXPECT(blocks[i] != NULL);
		*blocks[i] = 1;
	}
	for (int i = 0; i < NR; i++)
		if (i / 8 % 2 == 0 && i % 8 != 0) {
			free(blocks[i]);
			blocks[i] = NULL;
		}
	EXPECT(pb_trim() > 0);
}

static int mappings(void)
{
	size_t before = nr_mappings(), after;

	make_sparse();
	after = nr_mappings();
	printf("%zu mappings, then %zu\n", before, after);
	fflush(stdout);
	EXPECT(after <= before + 1000); /* the bound as such: tests/core/test_backing.c */
	EXPECT(after > before + 100);
	for (int i = 0; i < NR; i++)
		free(blocks[i]);
	EXPECT(pb_trim() > 0);
	printf("%zu at the end\n", nr_mappings());
	fflush(stdout);
	EXPECT(nr_mappings() < before + 100);
	return 0;
}

static int max_maps(void)
{
	size_t nr = 0, bytes = 70000 * 2 * (size_t)4096;
	char *at;

	free(malloc(100));
	at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	EXPECT(at != MAP_FAILED);
	for (; nr < 70000; nr++)
		if (mprotect(at + nr * 8192, 4096, PROT_NONE) != 0)
			break;
	if (nr == 70000)
		skip("vm.max_map_count is too large to reach here");
	printf("no more after %zu\n", nr);
	fflush(stdout);
	make_sparse();
	for (int i = 0; i < NR; i++)
		free(blocks[i]);
	EXPECT(pb_trim() > 0);
	EXPECT(resident_bytes() < 100 * MIB);
	pb_check();
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	expect_library();
	if (strcmp(mode, "ready") == 0)
		return ready();
	if (strcmp(mode, "mappings") == 0)
		return mappings();
	if (strcmp(mode, "max-maps") == 0)
		return max_maps();
	return 2;
}
