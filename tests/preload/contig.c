/* Contiguous memory, memory out of use and the hint, as pageblock.h says. */
#include "tests/preload/test.h"

#include <sys/resource.h>

#define MB ((size_t)1 << 20)
#define ALL (PB_CONTIG_HARD | PB_CONTIG_CMA | PB_CONTIG_PREFAULT | PB_CONTIG_COLLAPSE)

static struct pb_contig_info look(void *p)
{
	struct pb_contig_info info = {.size = sizeof(info)};
	int status = pb_contig_info(p, &info);

	if (status != 0 && errno == ENOSYS)
		skip("this kernel has no PAGEMAP_SCAN");
	EXPECT(status == 0);
	return info;
}

static struct pb_stats stats(void)
{
	struct pb_stats now = {.size = sizeof(now)};

	EXPECT(pb_get_stats(&now) == 0);
	return now;
}

/* --- contiguous memory ---------------------------------------------------------------- */

static void sizes(void)
{
	static const size_t all[] = {1,	     4096,	 4097,	       2 * MB, 2 * MB + 1,
				     8 * MB, 100 * MB + 5, 1024 * MB};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char *p = pb_alloc_contig(all[i], i % 2 != 0 ? PB_CONTIG_HARD : 0,
					  i % 2 != 0 ? pb_deadline(5000) : 0);

		EXPECT(p != NULL && (uintptr_t)p % PB_PAGEBLOCK_BYTES == 0);
		p[0] = p[all[i] - 1] = 1;
		EXPECT(look(p).nr_bytes == (all[i] + 4095) / 4096 * 4096);
		pb_check();
		EXPECT(pb_free_contig(p) == 0);
		errno = 0;
		EXPECT(pb_free_contig(p) == -1 && errno == EINVAL);
	}
	pb_check();
}

/* Huge pages behind all anonymous memory of this process, as the kernel counts them. */
static size_t anon_huge_bytes(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	size_t kib = 0;

	if (f == NULL)
		skip("no /proc/self/smaps_rollup");
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "AnonHugePages: %zu", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

/* What is said of huge pages is what the kernel says elsewhere too. */
static void backing(void)
{
	size_t nr = 16 * MB + 4096, before = anon_huge_bytes();
	struct pb_contig_info info;
	char *p = pb_alloc_contig(nr, 0, 0);

	EXPECT(p != NULL);
	info = look(p);
	EXPECT(info.resident_bytes == 0 && info.huge_bytes == 0);
	p[5 * 4096] = 1;
	info = look(p);
	EXPECT(info.resident_bytes >= 4096 && info.resident_bytes - info.huge_bytes <= 4096);
	EXPECT(pb_free_contig(p) == 0);

	p = pb_alloc_contig(nr, PB_CONTIG_PREFAULT, 0);
	EXPECT(p != NULL && look(p).resident_bytes == nr);
	EXPECT(pb_free_contig(p) == 0);
	pb_trim();

	/* The system may refuse some of them, when somebody else holds a page: three tries. */
	for (int try = 0;; try++) {
		before = anon_huge_bytes();
		p = pb_alloc_contig(nr, PB_CONTIG_PREFAULT | PB_CONTIG_COLLAPSE, 0);
		EXPECT(p != NULL);
		info = look(p);
		EXPECT(info.resident_bytes == nr && info.huge_bytes % PB_PAGEBLOCK_BYTES == 0);
		EXPECT(info.huge_bytes == anon_huge_bytes() - before);
		if (info.huge_bytes == 16 * MB || try == 2)
			break;
		dprintf(STDOUT_FILENO, "only %zu MiB of huge pages\n",
			(size_t)info.huge_bytes / MB);
		EXPECT(pb_free_contig(p) == 0);
		pb_trim();
	}
	if (info.huge_bytes == 0)
		skip("no huge page was to be had");
	EXPECT(info.huge_bytes == 16 * MB);
	EXPECT(pb_free_contig(p) == 0);
	pb_trim();
	EXPECT(anon_huge_bytes() <= before);
	pb_check();
}

static void expect_error(int error, size_t nr_bytes, unsigned flags, uint64_t deadline)
{
	errno = 0;
	EXPECT(pb_alloc_contig(nr_bytes, flags, deadline) == NULL && errno == error);
}

static void bad_input(void)
{
	struct pb_contig_info info = {.size = sizeof(info)};
	char *p = pb_alloc_contig(4 * MB, 0, 0), *block = malloc(100), *run = malloc(3 * MB);
	struct pb_stats before, after;
	void *wild[] = {NULL,	       (void *)1, &info,    block, run,
			p + MB,	       p + 4096,  p + 2 * MB, (void *)(uintptr_t)(1ul << 46),
			(void *)~0ul};

	pb_trim();
	before = stats();
	expect_error(EINVAL, 0, 0, 0);
	expect_error(EINVAL, 1024 * MB + 1, 0, 0);
	expect_error(EINVAL, SIZE_MAX, 0, 0);
	expect_error(EINVAL, MB, ALL + 1, 0);
	expect_error(EINVAL, MB, ~0u, 0);
	expect_error(ETIMEDOUT, MB, 0, 1);
	expect_error(ETIMEDOUT, MB, PB_CONTIG_HARD, 0);
	expect_error(ETIMEDOUT, MB, PB_CONTIG_HARD, 1);
	/* No reserve was made. */
	expect_error(ENOMEM, MB, PB_CONTIG_CMA, 0);
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		errno = 0;
		EXPECT(pb_free_contig(wild[i]) == -1 && errno == EINVAL);
		errno = 0;
		EXPECT(pb_contig_info(wild[i], &info) == -1 && errno == EINVAL);
	}
	info.size = sizeof(size_t) - 1;
	errno = 0;
	EXPECT(pb_contig_info(p, &info) == -1 && errno == EINVAL);

	errno = 0;
	EXPECT(pb_offline(0, 0) == 0 && errno == EINVAL);
	errno = 0;
	EXPECT(pb_offline(PB_PAGEBLOCK_BYTES + 4096, 0) == 0 && errno == EINVAL);
	errno = 0;
	EXPECT(pb_offline(PB_PAGEBLOCK_BYTES, 1) == 0 && errno == ETIMEDOUT);
	EXPECT(pb_online(0) == 0 && pb_online(SIZE_MAX) == 0);
	EXPECT(!pb_defrag_hint(NULL) && !pb_defrag_hint(&info) && !pb_defrag_hint((void *)~0ul));
	pb_trim();
	after = stats();
	EXPECT(before.committed_bytes == after.committed_bytes);
	EXPECT(before.live_bytes == after.live_bytes);
	pb_check();
	EXPECT(pb_free_contig(p) == 0);
	free(block);
	free(run);
	errno = 7;
	EXPECT(pb_free_contig(pb_alloc_contig(MB, 0, 0)) == 0 && errno == 7);
	pb_check();
}

/* --- offline ----------------------------------------------------------------------------- */

static void offline(void)
{
	size_t nr = 64 * MB, done, before;
	char *p = malloc(nr), *q;
	uint64_t committed;

	memset(p, 1, nr);
	before = resident_bytes();
	free(p);
	EXPECT(pb_offline(nr / 2, 0) == nr / 2);
	/* But for what the call itself has touched. */
	EXPECT(resident_bytes() <= before - nr / 2 + MB / 2);
	/* All of it: what is really there is said. */
	errno = 0;
	done = pb_offline(1024 * MB, 0);
	EXPECT(done < 1024 * MB && done >= nr / 2 - PB_PAGEBLOCK_BYTES && errno == EBUSY);
	EXPECT(done % PB_PAGEBLOCK_BYTES == 0);
	committed = stats().committed_bytes;
	pb_check();
	/* The process goes on, and grows. */
	q = malloc(nr);
	memset(q, 2, nr);
	EXPECT(stats().committed_bytes > committed);
	free(q);
	EXPECT(pb_online(nr / 2) == nr / 2);
	EXPECT(pb_online(SIZE_MAX) == done && pb_online(SIZE_MAX) == 0);
	q = malloc(nr);
	memset(q, 3, nr);
	free(q);
	pb_check();

	/* What is in use is waited for, not taken; then the answer is what went. */
	pb_trim();
	q = malloc(nr);
	memset(q, 4, nr);
	errno = 0;
	done = pb_offline(1024 * MB, pb_deadline(100));
	EXPECT(done < 1024 * MB && errno == ETIMEDOUT);
	for (size_t i = 0; i < nr; i++)
		EXPECT(q[i] == 4);
	EXPECT(pb_online(SIZE_MAX) == done);
	free(q);
	pb_check();
}

/* --- a reserve; run with cma:64M ----------------------------------------------------------- */

static void cma(void)
{
	char *all = pb_alloc_contig(64 * MB, PB_CONTIG_CMA, 0), *part[8], *more;

	EXPECT(all != NULL);
	memset(all, 1, 64 * MB);
	errno = 0;
	EXPECT(pb_alloc_contig(MB, PB_CONTIG_CMA, 0) == NULL && (errno == EBUSY || errno == ENOMEM));
	errno = 0;
	EXPECT(pb_alloc_contig(65 * MB, PB_CONTIG_CMA, 0) == NULL && errno == ENOMEM);
	more = pb_alloc_contig(8 * MB, 0, 0);
	EXPECT(more != NULL && (more + 8 * MB <= all || more >= all + 64 * MB));
	EXPECT(pb_free_contig(more) == 0 && pb_free_contig(all) == 0);
	for (unsigned i = 0; i < 8; i++) {
		part[i] = pb_alloc_contig(8 * MB, PB_CONTIG_CMA | PB_CONTIG_HARD,
					  pb_deadline(1000));
		EXPECT(part[i] >= all && part[i] + 8 * MB <= all + 64 * MB);
	}
	for (unsigned i = 0; i < 8; i++)
		EXPECT(pb_free_contig(part[i]) == 0);
	pb_check();
}

/* --- memory that can move --------------------------------------------------------------------- */

static void expect_no_handle(pb_handle_t handle, int error)
{
	errno = 0;
	EXPECT(pb_handle_pin(handle) == NULL && errno == error);
	errno = 0;
	EXPECT(pb_handle_unpin(handle) == -1 && errno == error);
	errno = 0;
	EXPECT(pb_handle_free(handle) == -1 && errno == error);
	errno = 0;
	EXPECT(pb_handle_size(handle) == 0 && errno == error);
}

/* A reserve is lent to handles, and is had back whole: with cma:64M and no room to grow. */
static void handles(void)
{
	enum { NR_HANDLES = 2000, BYTES = 60000 };
	static pb_handle_t all[NR_HANDLES];
	static char *room[64];
	struct pb_contig_info info = {.size = sizeof(info)};
	unsigned nr = 0, nr_room = 0;
	char *p, *area, *pinned;
	pb_handle_t h = pb_handle_alloc(10);

	EXPECT(h != 0 && pb_handle_size(h) == 10 && pb_handle_pin(h) != NULL);
	errno = 0;
	EXPECT(pb_handle_free(h) == -1 && errno == EBUSY);
	EXPECT(pb_handle_unpin(h) == 0);
	errno = 0;
	EXPECT(pb_handle_unpin(h) == -1 && errno == EPERM);
	EXPECT(pb_handle_free(h) == 0);
	expect_no_handle(h, ESTALE);
	expect_no_handle(0, EINVAL);
	expect_no_handle(~(pb_handle_t)0, EINVAL);

	/* 64 MiB of room outside of the reserve, and nothing beyond it. */
	for (; nr_room < 64; nr_room++) {
		room[nr_room] = malloc(MB);
		EXPECT(room[nr_room] != NULL);
	}
	EXPECT(setrlimit(RLIMIT_DATA, &(struct rlimit){4096, RLIM_INFINITY}) == 0);
	for (; nr < NR_HANDLES; nr++) {
		all[nr] = pb_handle_alloc(BYTES);
		if (all[nr] == 0)
			break;
		p = pb_handle_pin(all[nr]);
		memset(p, (int)nr, BYTES);
		EXPECT(pb_handle_unpin(all[nr]) == 0);
	}
	/* More than has room elsewhere. */
	EXPECT(nr * (size_t)BYTES > 32 * MB);
	while (nr_room > 0)
		free(room[--nr_room]);
	area = pb_alloc_contig(64 * MB, PB_CONTIG_CMA | PB_CONTIG_HARD, pb_deadline(5000));
	EXPECT(area != NULL);
	EXPECT(pb_contig_info(area, &info) == 0 || errno == ENOSYS);
	EXPECT(info.nr_bytes == 64 * MB);
	for (unsigned i = 0; i < nr; i++) {
		pinned = pb_handle_pin(all[i]);
		EXPECT(pinned + BYTES <= area || pinned >= area + 64 * MB);
		for (size_t k = 0; k < BYTES; k += 97)
			EXPECT(pinned[k] == (char)i);
		EXPECT(pb_handle_unpin(all[i]) == 0 && pb_handle_free(all[i]) == 0);
	}
	EXPECT(pb_free_contig(area) == 0);
	EXPECT(pb_compact(1) == 0);
	pb_check();
}

/* --- the hint -------------------------------------------------------------------------------- */

#define NR 200000u

/* Every fourth block stays; copying those that are said to help gives the slabs back. */
static void defrag(void)
{
	static char *kept[NR];
	size_t moved = 0;
	uint64_t full, sparse, dense;

	for (size_t i = 0; i < NR; i++) {
		kept[i] = malloc(100);
		memset(kept[i], (int)i, 100);
	}
	full = stats().slab_bytes;
	for (size_t i = 0; i < NR; i++)
		EXPECT(!pb_defrag_hint(kept[i]) || i + 2000 > NR);
	for (size_t i = 0; i < NR; i++) {
		if (i % 4 != 0) {
			free(kept[i]);
			kept[i] = NULL;
		}
	}
	sparse = stats().slab_bytes;
	for (size_t i = 0; i < NR; i++) {
		char *to;

		if (kept[i] == NULL || !pb_defrag_hint(kept[i]))
			continue;
		to = malloc(100);
		memcpy(to, kept[i], 100);
		free(kept[i]);
		kept[i] = to;
		moved++;
	}
	dense = stats().slab_bytes;
	dprintf(STDOUT_FILENO, "moved %zu of %u; slabs: %zu KiB, %zu after frees, %zu after moves\n",
		moved, NR / 4, (size_t)full / 1024, (size_t)sparse / 1024, (size_t)dense / 1024);
	EXPECT(dense * 10 <= sparse * 4 && moved <= NR / 4);
	for (size_t i = 0; i < NR; i++) {
		for (size_t k = 0; k < 100 && kept[i] != NULL; k++)
			EXPECT(kept[i][k] == (char)i);
		free(kept[i]);
	}
	pb_check();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {{"sizes", sizes},	   {"backing", backing}, {"bad-input", bad_input},
		     {"offline", offline}, {"cma", cma},	 {"defrag", defrag},
		     {"handles", handles}};

	expect_library();
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && argc == 2; i++) {
		if (strcmp(parts[i].name, argv[1]) != 0)
			continue;
		parts[i].run();
		return 0;
	}
	dprintf(STDOUT_FILENO, "no such part\n");
	return 1;
}
