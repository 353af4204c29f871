/*
 * What of a process is resident, as the system tells: PAGEMAP_SCAN where the kernel has it
 * (6.7), which also knows huge pages, else /proc/PID/pagemap and smaps.
 */
#define _GNU_SOURCE
#include "tools/look.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PRESENT ((uint64_t)1 << 63) /* in an entry of pagemap */

/* From linux/fs.h, which may be older than the kernel. */
struct scan_region {
	uint64_t start, end, categories;
};
struct scan_argument {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan_argument)
#define SCAN_PRESENT ((uint64_t)1 << 3)
#define SCAN_ZERO ((uint64_t)1 << 5)
#define SCAN_HUGE ((uint64_t)1 << 6)
#define SCAN_REGIONS 1024u

bool look_present(const struct reader *r, uint64_t address, size_t nr_pages, bool *present)
{
	uint64_t entries[64];

	for (size_t done = 0; done < nr_pages;) {
		size_t n = nr_pages - done < 64 ? nr_pages - done : 64;
		off_t at = (off_t)((address / PAGE_SIZE_BYTES + done) * 8);

		if (r->pagemap < 0 || sysconf(_SC_PAGESIZE) != PAGE_SIZE_BYTES ||
		    pread(r->pagemap, entries, n * 8, at) != (ssize_t)(n * 8))
			return false;
		for (size_t i = 0; i < n; i++)
			present[done + i] = (entries[i] & PRESENT) != 0;
		done += n;
	}
	return true;
}

/* --- by PAGEMAP_SCAN --------------------------------------------------------------------- */

/* What a region adds to the blocks it covers; *at is the block to begin with. */
static void add_region(struct snapshot *s, const struct scan_region *region, size_t *at)
{
	bool huge = (region->categories & SCAN_HUGE) != 0;

	while (*at < s->nr_blocks && s->blocks[*at].address + BLOCK_BYTES <= region->start)
		(*at)++;
	for (size_t i = *at; i < s->nr_blocks && s->blocks[i].address < region->end; i++) {
		struct block_view *b = &s->blocks[i];
		uint64_t from = region->start > b->address ? region->start : b->address;
		uint64_t end = region->end < b->address + BLOCK_BYTES
				       ? region->end
				       : b->address + BLOCK_BYTES;
		uint16_t nr = (uint16_t)((end - from) / PAGE_SIZE_BYTES);

		b->nr_resident = (uint16_t)(b->nr_resident + nr);
		b->huge |= huge && nr == BLOCK_PAGES;
		s->huge += huge ? (uint64_t)nr * PAGE_SIZE_BYTES : 0;
	}
}

/* Scans the blocks [from, to), which are neighbours. */
static bool scan_blocks(struct snapshot *s, const struct reader *r, size_t from, size_t to,
			struct scan_region *regions)
{
	struct scan_argument arg = {
		.size = sizeof(arg),
		.start = s->blocks[from].address,
		.end = s->blocks[to - 1].address + BLOCK_BYTES,
		.vec = (uintptr_t)regions,
		.vec_len = SCAN_REGIONS,
		.category_inverted = SCAN_ZERO,
		.category_mask = SCAN_PRESENT | SCAN_ZERO,
		.return_mask = SCAN_PRESENT | SCAN_HUGE,
	};
	size_t at = from;

	while (arg.start < arg.end) {
		int nr = ioctl(r->pagemap, SCAN, &arg);

		if (nr < 0 || arg.walk_end <= arg.start)
			return false;
		for (int i = 0; i < nr; i++)
			add_region(s, &regions[i], &at);
		arg.start = arg.walk_end;
	}
	return true;
}

static bool scan(struct snapshot *s, const struct reader *r)
{
	struct scan_region *regions = malloc(SCAN_REGIONS * sizeof(*regions));
	bool ok = regions != NULL && r->pagemap >= 0;

	for (size_t from = 0; from < s->nr_blocks && ok;) {
		size_t to = from + 1;

		while (to < s->nr_blocks &&
		       s->blocks[to].address == s->blocks[to - 1].address + BLOCK_BYTES)
			to++;
		ok = scan_blocks(s, r, from, to, regions);
		from = to;
	}
	free(regions);
	return ok;
}

/* --- by pagemap and smaps ------------------------------------------------------------------ */

static bool count_present(struct snapshot *s, const struct reader *r)
{
	bool present[BLOCK_PAGES];

	for (size_t i = 0; i < s->nr_blocks; i++) {
		if (!look_present(r, s->blocks[i].address, BLOCK_PAGES, present))
			return false;
		s->blocks[i].nr_resident = 0;
		for (unsigned page = 0; page < BLOCK_PAGES; page++)
			s->blocks[i].nr_resident =
				(uint16_t)(s->blocks[i].nr_resident + present[page]);
	}
	return true;
}

static bool in_blocks(const struct snapshot *s, uint64_t address)
{
	size_t low = 0, high = s->nr_blocks;

	/* Spans are in no order of addresses: few enough to look at each block. */
	for (; low < high; low++) {
		if (address - s->blocks[low].address < BLOCK_BYTES)
			return true;
	}
	return false;
}

/* Sums of smaps over the mappings that hold blocks. */
static bool read_smaps(struct snapshot *s, const struct reader *r)
{
	char path[64], line[512];
	bool ours = false;
	unsigned long long n;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)r->pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	s->resident = s->huge = 0;
	while (fgets(line, sizeof(line), file) != NULL) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = in_blocks(s, start);
		else if (ours && sscanf(line, "Rss: %llu kB", &n) == 1)
			s->resident += n * 1024;
		else if (ours && sscanf(line, "AnonHugePages: %llu kB", &n) == 1)
			s->huge += n * 1024;
	}
	fclose(file);
	return true;
}

static uint64_t read_rss(const struct reader *r)
{
	char path[64];
	unsigned long long size, resident = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)r->pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void look_at_resident(struct snapshot *s, struct reader *r, bool by_block)
{
	s->rss = read_rss(r);
	if (!by_block)
		return;
	if (scan(s, r)) {
		s->resident_known = s->huge_known = true;
	} else {
		s->huge_known = read_smaps(s, r);
		s->resident_known = count_present(s, r);
	}
	if (!s->resident_known)
		return;
	s->resident = 0;
	for (size_t i = 0; i < s->nr_blocks; i++)
		s->resident += (uint64_t)s->blocks[i].nr_resident * PAGE_SIZE_BYTES;
}
