/*
 * The kernel's own views, in its formats: buddyinfo, pagetypeinfo, zoneinfo, vmstat of
 * /proc and extfrag_index and unusable_index of debugfs, for one process.  A process is one
 * node with one zone, called Normal.
 */
#include "tools/view.h"

#include <stdio.h>

#define ZONE "Node 0, zone   Normal "

/* --- buddyinfo ---------------------------------------------------------------------------- */

int verb_buddyinfo(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, 0);

	if (status != 0)
		return status;
	if (v.json) {
		view_json_begin(&v);
		json_array("free_runs_by_order");
		for (unsigned order = 0; order < NR_ORDERS; order++)
			json_number(NULL, snapshot_runs(&v.s, order));
		json_end();
		json_end();
	} else {
		fputs(ZONE, stdout);
		for (unsigned order = 0; order < NR_ORDERS; order++)
			printf("%6llu ", (unsigned long long)snapshot_runs(&v.s, order));
		putchar('\n');
	}
	return view_end(&v);
}

/* --- pagetypeinfo ------------------------------------------------------------------------- */

static uint64_t blocks_of_type(const struct snapshot *s, unsigned type)
{
	uint64_t nr = 0;

	for (size_t i = 0; i < s->nr_blocks; i++)
		nr += s->blocks[i].type == type && s->blocks[i].state == BLOCK_OPEN;
	return nr;
}

static void type_row(const char *label, const uint64_t *runs)
{
	printf("Node %4d, zone %8s, type %12s ", 0, "Normal", label);
	for (unsigned order = 0; order < NR_ORDERS; order++)
		printf("%6llu ", (unsigned long long)runs[order]);
	putchar('\n');
}

static void pagetypeinfo_text(const struct snapshot *s)
{
	printf("Page block order: 9\nPages per block:  %u\n\n%-43s ", BLOCK_PAGES,
	       "Free pages count per migrate type at order");
	for (unsigned order = 0; order < NR_ORDERS; order++)
		printf("%6u ", order);
	putchar('\n');
	for (unsigned type = 0; type < NR_TYPES; type++)
		type_row(type_labels[type], s->runs[type]);
	type_row("Isolate", s->isolated_runs);

	printf("\n%-23s", "Number of blocks type ");
	for (unsigned type = 0; type < NR_TYPES; type++)
		printf("%12s ", type_labels[type]);
	printf("%12s %12s \n" ZONE, "Isolate", "Offline");
	for (unsigned type = 0; type < NR_TYPES; type++)
		printf("%12llu ", (unsigned long long)blocks_of_type(s, type));
	printf("%12llu %12llu \n", (unsigned long long)s->nr_isolated,
	       (unsigned long long)s->nr_offline);
	printf("\n%-23s\n" ZONE "%12llu \n", "Number of mixed blocks ",
	       (unsigned long long)s->nr_mixed);
}

static void json_runs(const char *label, uint64_t nr_blocks, const uint64_t *runs)
{
	json_object(label);
	json_number("blocks", nr_blocks);
	json_array("free_runs_by_order");
	for (unsigned order = 0; order < NR_ORDERS; order++)
		json_number(NULL, runs[order]);
	json_end();
	json_end();
}

int verb_pagetypeinfo(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, LOOK_CLIENTS);

	if (status != 0)
		return status;
	if (!v.json) {
		pagetypeinfo_text(&v.s);
		return view_end(&v);
	}
	view_json_begin(&v);
	json_number("pages_per_block", BLOCK_PAGES);
	json_object("types");
	for (unsigned type = 0; type < NR_TYPES; type++)
		json_runs(type_labels[type], blocks_of_type(&v.s, type), v.s.runs[type]);
	json_runs("Isolate", v.s.nr_isolated, v.s.isolated_runs);
	json_end();
	json_number("offline_blocks", v.s.nr_offline);
	json_number("mixed_blocks", v.s.nr_mixed);
	json_end();
	return view_end(&v);
}

/* --- extfrag -------------------------------------------------------------------------------- */

static void index_row(const char *title, const struct snapshot *s,
		      int (*index)(const struct snapshot *s, unsigned order))
{
	printf("%s\n" ZONE, title);
	for (unsigned order = 0; order < NR_ORDERS; order++) {
		int n = index(s, order);

		printf("%d.%03d ", n / 1000, n < 0 ? -n % 1000 : n % 1000);
	}
	putchar('\n');
}

static void json_index(const char *name, const struct snapshot *s,
		       int (*index)(const struct snapshot *s, unsigned order))
{
	json_array(name);
	for (unsigned order = 0; order < NR_ORDERS; order++)
		json_real(NULL, index(s, order) / 1000.0);
	json_end();
}

int verb_extfrag(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, 0);

	if (status != 0)
		return status;
	if (v.json) {
		view_json_begin(&v);
		json_index("extfrag_index", &v.s, snapshot_fragmentation_index);
		json_index("unusable_index", &v.s, snapshot_unusable_index);
		json_end();
	} else {
		index_row("extfrag_index", &v.s, snapshot_fragmentation_index);
		index_row("unusable_index", &v.s, snapshot_unusable_index);
	}
	return view_end(&v);
}

/* --- vmstat ------------------------------------------------------------------------------------ */

/* The kernel's names where it counts the same thing. */
static void each_counter(const struct snapshot *s, void (*show)(const char *name, uint64_t n))
{
	char name[64];

	show("nr_free_pages", s->free);
	show("nr_free_cma", s->cma_free);
	show("nr_isolated_free", s->isolated);
	show("nr_offline", s->offline);
	show("nr_purging", s->purging);
	show("nr_pcp_pages", s->cached);
	show("nr_allocated", s->allocated);
	show("nr_dirty_free", s->dirty);
	show("nr_pages", s->total);
	show("nr_pageblocks", s->nr_blocks);
	show("nr_spans", s->nr_spans);
	show("nr_heaps", s->nr_heaps);
	show("nr_slab_live", s->live > s->large ? (s->live - s->large) / PAGE_SIZE_BYTES : 0);
	show("nr_slab_free", s->slabs_free / PAGE_SIZE_BYTES);
	show("pgpurged", s->purged_pages);
	show("purge_calls", s->purge_calls);
	show("span_grown", s->grown);
	show("pcp_drains", s->pcp_drains);
	show("isolate_success", s->isolate_ok);
	show("isolate_busy", s->isolate_busy);
	show("contig_success", s->contig_ok);
	show("contig_fail", s->contig_failed);
	show("pageblock_claim", s->claims);
	show("pageblock_steal", s->steals);
	for (unsigned from = 0; from < NR_TYPES; from++) {
		for (unsigned to = 0; to < NR_TYPES; to++) {
			if (from == to)
				continue;
			snprintf(name, sizeof(name), "claim_%s_to_%s", type_labels[from],
				 type_labels[to]);
			for (char *c = name; *c != '\0'; c++)
				*c = (char)(*c >= 'A' && *c <= 'Z' ? *c | 0x20 : *c);
			show(name, s->claims_of[from][to]);
			memcpy(name, "steal", 5);
			show(name, s->steals_of[from][to]);
		}
	}
}

/* What other parts of the library count, by the names it gives them. */
static void each_shown_counter(struct reader *r, void (*show)(const char *name, uint64_t n))
{
	for (size_t i = 0; i < INSPECT_OBJECTS_MAX; i++) {
		const struct inspect_object *o = &r->header.objects[i];
		uint64_t n;

		if (strncmp(o->name, "vm.", 3) == 0 && o->size == sizeof(n) &&
		    reader_read(r, o->address, &n, sizeof(n)))
			show(o->name + 3, n);
	}
}

static void text_counter(const char *name, uint64_t n)
{
	printf("%s %llu\n", name, (unsigned long long)n);
}

int verb_vmstat(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, 0);

	if (status != 0)
		return status;
	if (v.json) {
		view_json_begin(&v);
		each_counter(&v.s, json_number);
		each_shown_counter(&v.reader, json_number);
		json_end();
	} else {
		each_counter(&v.s, text_counter);
		each_shown_counter(&v.reader, text_counter);
	}
	return view_end(&v);
}

/* --- zoneinfo ---------------------------------------------------------------------------------- */

static void text_zone_counter(const char *name, uint64_t n)
{
	printf("      %-12s %llu\n", name, (unsigned long long)n);
}

static void zoneinfo_text(const struct snapshot *s)
{
	const struct block_view *first = s->nr_blocks > 0 ? &s->blocks[0] : NULL;

	printf("Node 0, zone   Normal\n"
	       "  pages free     %llu\n"
	       "        boost    0\n        min      0\n        low      0\n        high     0\n"
	       "        spanned  %llu\n        present  %llu\n        managed  %llu\n"
	       "        cma      %llu\n"
	       "        protection: (0)\n",
	       (unsigned long long)s->free, (unsigned long long)s->total,
	       (unsigned long long)(s->total - s->offline),
	       (unsigned long long)(s->total - s->offline), (unsigned long long)s->cma);
	each_counter(s, text_zone_counter);
	puts("  pagesets");
	for (size_t i = 0; i < s->nr_pcps; i++)
		printf("    cpu: %zu\n              count:    %llu\n              high:     %llu\n"
		       "              batch:    %llu\n",
		       i, (unsigned long long)s->pcps[i].nr_pages,
		       (unsigned long long)s->pcps[i].high, 1ull << s->pcps[i].refills % 64);
	printf("  node_unreclaimable:  0\n  start_pfn:           %llu\n",
	       (unsigned long long)(first == NULL ? 0 : first->address / PAGE_SIZE_BYTES));
}

int verb_zoneinfo(const struct verb *verb, int argc, char **argv)
{
	struct view v;
	int status = view_begin(&v, verb, argc, argv, 0);

	if (status != 0)
		return status;
	if (!v.json) {
		zoneinfo_text(&v.s);
		return view_end(&v);
	}
	view_json_begin(&v);
	json_number("spanned", v.s.total);
	json_number("present", v.s.total - v.s.offline);
	json_number("cma", v.s.cma);
	each_counter(&v.s, json_number);
	json_bool("pcps_disabled", v.s.pcps_disabled);
	json_array("pagesets");
	for (size_t i = 0; i < v.s.nr_pcps; i++) {
		json_object(NULL);
		json_number("count", v.s.pcps[i].nr_pages);
		json_number("high", v.s.pcps[i].high);
		json_number("batch", (uint64_t)1 << v.s.pcps[i].refills % 64);
		json_end();
	}
	json_end();
	json_end();
	return view_end(&v);
}
