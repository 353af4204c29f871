/* pageblock info: one process at a glance. */
#include "tools/view.h"

#include <stdio.h>
#include <stdlib.h>

#define CLASSES_SHOWN 10u

static double percent(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

static uint64_t slab_bytes(const struct class_view *c)
{
	return c->nr_slabs * c->slab_bytes;
}

static uint64_t waste(const struct class_view *c)
{
	return slab_bytes(c) - c->nr_live * c->bytes;
}

static int by_size(const void *a, const void *b)
{
	const struct class_view *x = *(const struct class_view *const *)a;
	const struct class_view *y = *(const struct class_view *const *)b;

	return (slab_bytes(x) < slab_bytes(y)) - (slab_bytes(x) > slab_bytes(y));
}

/* The largest classes first; how many have a slab at all. */
static size_t sort_classes(const struct snapshot *s, const struct class_view **sorted)
{
	size_t nr = 0;

	for (size_t i = 0; i < s->nr_classes; i++) {
		if (s->classes[i].nr_slabs > 0)
			sorted[nr++] = &s->classes[i];
	}
	qsort(sorted, nr, sizeof(sorted[0]), by_size);
	return nr;
}

static void row(const char *what, uint64_t nr_bytes, const char *note)
{
	char text[24];

	printf("  %-28s %12s%s%s\n", what, human_bytes(text, nr_bytes), *note != '\0' ? "   " : "",
	       note);
}

static void memory_as_text(const struct snapshot *s)
{
	char note[80], text[24];

	snprintf(note, sizeof(note), "of the whole process");
	row("resident", s->rss, note);
	if (s->resident_known) {
		snprintf(note, sizeof(note), "%.0f %% of what is committed",
			 percent(s->resident, s->total * PAGE_SIZE_BYTES));
		row("  in pageblocks", s->resident, note);
	}
	if (s->huge_known) {
		snprintf(note, sizeof(note), "%.0f %% of these", percent(s->huge, s->resident));
		row("  in huge pages", s->huge, note);
	}
	snprintf(note, sizeof(note), "%zu pageblocks in %u span%s", s->nr_blocks, s->nr_spans,
		 s->nr_spans == 1 ? "" : "s");
	row("committed", s->total * PAGE_SIZE_BYTES, note);
	putchar('\n');
	snprintf(note, sizeof(note), "%s in page runs of their own",
		 human_bytes(text, s->large));
	row("live", s->live, note);
	snprintf(note, sizeof(note), "%s in pages given back",
		 human_bytes(text, s->holes * PAGE_SIZE_BYTES));
	row("free in slabs", s->slabs_free, note);
	row("cached by threads: objects", s->slabs_cached, "");
	row("                   pages", s->cached * PAGE_SIZE_BYTES, "");
	snprintf(note, sizeof(note), "%s of these may be resident, %llu whole pageblocks",
		 human_bytes(text, s->dirty * PAGE_SIZE_BYTES), (unsigned long long)s->nr_whole);
	row("free", s->free * PAGE_SIZE_BYTES, note);
	if (s->purging > 0)
		row("being given back", s->purging * PAGE_SIZE_BYTES, "");
	row("isolated", s->nr_isolated * BLOCK_BYTES, "");
	row("offline", s->offline * PAGE_SIZE_BYTES, "");
	snprintf(note, sizeof(note), "%s of these free",
		 human_bytes(text, s->cma_free * PAGE_SIZE_BYTES));
	row("CMA", s->cma * PAGE_SIZE_BYTES, s->cma > 0 ? note : "");
	row("given back since the start", s->purged_pages * PAGE_SIZE_BYTES, "");
}

static void fragmentation_as_text(const struct snapshot *s)
{
	const unsigned order = NR_ORDERS - 2;

	printf("\nfragmentation: %.0f %% of free memory is in no whole pageblock; "
	       "%.0f %% of slabs is free;\n"
	       "               resident is %.2f times live\n",
	       s->free == 0 ? 0 : snapshot_unusable_index(s, order) / 10.0,
	       percent(s->slabs_free + s->slabs_cached, s->slabs),
	       s->live == 0 ? 0 : (double)s->resident / (double)s->live);
}

static void classes_as_text(const struct snapshot *s)
{
	const struct class_view **sorted = calloc(s->nr_classes, sizeof(*sorted));
	size_t nr;

	if (sorted == NULL)
		return;
	nr = sort_classes(s, sorted);
	printf("\n%8s %12s %12s %12s %12s %7s\n", "class", "live blocks", "live", "slabs",
	       "waste", "");
	for (size_t i = 0; i < nr && i < CLASSES_SHOWN; i++) {
		const struct class_view *c = sorted[i];
		char live[24], slabs[24], lost[24];

		printf("%8u %12llu %12s %12s %12s %5.1f %%\n", c->bytes,
		       (unsigned long long)c->nr_live, human_bytes(live, c->nr_live * c->bytes),
		       human_bytes(slabs, slab_bytes(c)), human_bytes(lost, waste(c)),
		       percent(waste(c), slab_bytes(c)));
	}
	if (nr > CLASSES_SHOWN)
		printf("     and %zu smaller ones (all of them: --json)\n", nr - CLASSES_SHOWN);
	free(sorted);
}

static void info_as_text(const struct view *v)
{
	const struct snapshot *s = &v->s;

	printf("%s (%d), pageblock %s, %zu heap%s, %zu of them without a thread%s\n\n",
	       v->reader.name, (int)v->reader.pid, v->reader.header.release, s->nr_heaps,
	       s->nr_heaps == 1 ? "" : "s", s->nr_ownerless,
	       s->exact ? "" : "; seen while it was at work");
	memory_as_text(s);
	fragmentation_as_text(s);
	classes_as_text(s);
}

static void info_as_json(const struct view *v)
{
	const struct snapshot *s = &v->s;

	view_json_begin(v);
	json_number("rss_bytes", s->rss);
	if (s->resident_known)
		json_number("resident_bytes", s->resident);
	if (s->huge_known)
		json_number("huge_bytes", s->huge);
	json_number("committed_bytes", s->total * PAGE_SIZE_BYTES);
	json_number("live_bytes", s->live);
	json_number("large_bytes", s->large);
	json_number("nr_large", s->nr_large);
	json_number("slab_bytes", s->slabs);
	json_number("slab_free_bytes", s->slabs_free);
	json_number("slab_hole_bytes", s->holes * PAGE_SIZE_BYTES);
	json_number("object_cache_bytes", s->slabs_cached);
	json_number("page_cache_bytes", s->cached * PAGE_SIZE_BYTES);
	json_number("free_bytes", s->free * PAGE_SIZE_BYTES);
	json_number("dirty_free_bytes", s->dirty * PAGE_SIZE_BYTES);
	json_number("purging_bytes", s->purging * PAGE_SIZE_BYTES);
	json_number("isolated_bytes", s->nr_isolated * BLOCK_BYTES);
	json_number("isolated_free_bytes", s->isolated * PAGE_SIZE_BYTES);
	json_number("offline_bytes", s->offline * PAGE_SIZE_BYTES);
	json_number("cma_bytes", s->cma * PAGE_SIZE_BYTES);
	json_number("cma_free_bytes", s->cma_free * PAGE_SIZE_BYTES);
	json_number("purged_bytes", s->purged_pages * PAGE_SIZE_BYTES);
	json_number("nr_blocks", s->nr_blocks);
	json_number("nr_whole_blocks", s->nr_whole);
	json_number("nr_isolated_blocks", s->nr_isolated);
	json_number("nr_offline_blocks", s->nr_offline);
	json_number("nr_mixed_blocks", s->nr_mixed);
	json_number("nr_spans", s->nr_spans);
	json_number("nr_heaps", s->nr_heaps);
	json_number("nr_ownerless_heaps", s->nr_ownerless);
	json_real("unusable_index", snapshot_unusable_index(s, NR_ORDERS - 2) / 1000.0);
	json_number("torn_reads_repeated", v->reader.nr_torn);
	json_array("classes");
	for (size_t i = 0; i < s->nr_classes; i++) {
		const struct class_view *c = &s->classes[i];

		json_object(NULL);
		json_number("bytes", c->bytes);
		json_number("nr_slabs", c->nr_slabs);
		json_number("nr_live", c->nr_live);
		json_number("nr_free", c->nr_free);
		json_number("nr_cached", c->nr_cached);
		json_number("waste_bytes", waste(c));
		json_end();
	}
	json_end();
	json_end();
}

int verb_info(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, LOOK_RESIDENT | LOOK_CLIENTS | LOOK_CHAINS);

	if (status != 0)
		return status;
	if (v.json)
		info_as_json(&v);
	else
		info_as_text(&v);
	return view_end(&v);
}
