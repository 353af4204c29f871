/*
 * readings PID N [every=MS] [within=S] [BYTES:LOWEST:HIGHEST...] - takes N snapshots of a
 * process, one after the other, and compares each with what is possible; within: fewer when
 * they take longer than that.  BYTES: how many blocks of a class may
 * be live.  Writes one line of JSON; exit status 1 when a figure was impossible.
 */
#define _GNU_SOURCE
#include "tools/snapshot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static unsigned nr_bad;

__attribute__((format(printf, 1, 2))) static void bad(const char *format, ...)
{
	va_list args;

	if (nr_bad++ >= 10)
		return;
	va_start(args, format);
	fputs("impossible: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

#define UL(n) ((unsigned long long)(n))

struct bound {
	unsigned bytes;
	unsigned long long low, high, least, most;
};

static void check_pages(const struct snapshot *s)
{
	uint64_t by_runs = 0;

	if (s->free + s->isolated + s->purging + s->offline + s->cached + s->allocated !=
	    s->total)
		bad("%llu pages are not the sum of their parts", UL(s->total));
	if (s->total != s->nr_blocks * BLOCK_PAGES)
		bad("%llu pages in %zu blocks", UL(s->total), s->nr_blocks);
	for (unsigned type = 0; type < NR_TYPES; type++)
		for (unsigned order = 0; order < NR_ORDERS; order++)
			by_runs += s->runs[type][order] << order;
	if (by_runs != s->free)
		bad("%llu free pages, %llu in runs", UL(s->free), UL(by_runs));
	if (s->dirty > s->free + s->isolated)
		bad("%llu of %llu free pages are dirty", UL(s->dirty), UL(s->free));
	if (s->slabs + s->large != s->allocated * PAGE_SIZE_BYTES)
		bad("%llu bytes of slabs and %llu of runs in %llu pages", UL(s->slabs),
		    UL(s->large), UL(s->allocated));
	if (s->live > s->allocated * PAGE_SIZE_BYTES)
		bad("%llu bytes live in %llu pages", UL(s->live), UL(s->allocated));
	if (s->allocated > s->total)
		bad("%llu pages allocated of %llu", UL(s->allocated), UL(s->total));
}

static void check_classes(const struct snapshot *s, struct bound *bounds, int nr)
{
	for (size_t i = 0; i < s->nr_classes; i++) {
		const struct class_view *c = &s->classes[i];

		if (c->nr_live + c->nr_free + c->nr_cached != c->nr_slabs * c->nr_objects)
			bad("class %u is not the sum of its parts", c->bytes);
		for (int k = 0; k < nr; k++) {
			if (bounds[k].bytes != c->bytes)
				continue;
			if (c->nr_live < bounds[k].least)
				bounds[k].least = c->nr_live;
			if (c->nr_live > bounds[k].most)
				bounds[k].most = c->nr_live;
			if (c->nr_live < bounds[k].low || c->nr_live > bounds[k].high)
				bad("class %u: %llu live blocks, not %llu to %llu", c->bytes,
				    UL(c->nr_live), bounds[k].low, bounds[k].high);
		}
	}
}

/* Totals since the start never go back. */
static void check_totals(const struct snapshot *s, const struct snapshot *before)
{
#define X(name)                                                                                \
	if (s->name < before->name)                                                            \
		bad(#name " went from %llu to %llu", UL(before->name), UL(s->name));
	ZONE_COUNTERS(X)
#undef X
	if (s->nr_blocks < before->nr_blocks)
		bad("%zu blocks after %zu", s->nr_blocks, before->nr_blocks);
}

/* Mostly as top does, now and then as info does. */
static unsigned what_to_look_at(unsigned long i)
{
	return i % 16 == 0 ? LOOK_RESIDENT | LOOK_CLIENTS | LOOK_CHAINS : 0;
}

int main(int argc, char **argv)
{
	static const struct verb verb = { .name = "readings" };
	static struct bound bounds[64];
	struct snapshot before = { .exact = false };
	unsigned long nr = argc > 2 ? strtoul(argv[2], NULL, 10) : 0, exact = 0;
	struct reader r;
	unsigned every_ms = 0, within_s = UINT32_MAX;
	time_t began = time(NULL);
	int nr_bounds = 0;

	for (int i = 3; i < argc && nr_bounds < 64; i++) {
		struct bound *b = &bounds[nr_bounds];

		if (sscanf(argv[i], "every=%u", &every_ms) == 1 ||
		    sscanf(argv[i], "within=%u", &within_s) == 1)
			continue;
		nr_bounds++;
		b->least = UINT64_MAX;
		if (sscanf(argv[i], "%u:%llu:%llu", &b->bytes, &b->low, &b->high) != 3)
			return 2;
	}
	if (nr == 0 || reader_open(&r, &verb, atoi(argv[1]), false) != 0)
		return 2;
	for (unsigned long i = 0; i < nr; i++) {
		struct snapshot s;

		if (time(NULL) - began > within_s)
			nr = i + 1;

		if (snapshot_take(&s, &r, what_to_look_at(i)) != 0)
			return 2;
		exact += s.exact;
		check_pages(&s);
		check_classes(&s, bounds, nr_bounds);
		check_totals(&s, &before);
		before = s;
		snapshot_free(&s);
		if (every_ms > 0)
			usleep(every_ms * 1000);
	}
	printf("{\"reads\": %lu, \"exact\": %lu, \"repeated\": %llu, \"impossible\": %u", nr, exact,
	       UL(r.nr_torn), nr_bad);
	for (int k = 0; k < nr_bounds; k++)
		printf(", \"%u\": [%llu, %llu]", bounds[k].bytes, bounds[k].least,
		       bounds[k].most);
	puts("}");
	reader_close(&r);
	return nr_bad > 0;
}
