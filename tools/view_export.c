/*
 * pageblock export: metrics of processes in Prometheus's text format, for node_exporter's
 * textfile collector.  Samples of one metric stand together, as the format wants it.
 */
#define _GNU_SOURCE
#include "tools/json.h"
#include "tools/processes.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* METRIC(name, type, help, value of a struct snapshot *s): without labels but the process. */
#define METRICS(METRIC)                                                                        \
	METRIC(process_resident_bytes, gauge, "Resident memory of the process.", s->rss)       \
	METRIC(resident_bytes, gauge, "Resident memory in pageblocks.", s->resident)           \
	METRIC(huge_bytes, gauge, "Memory in pageblocks backed by huge pages.", s->huge)       \
	METRIC(committed_bytes, gauge, "Pageblocks in use.", s->total *PAGE_SIZE_BYTES)        \
	METRIC(live_bytes, gauge, "Blocks the program holds.", s->live)                        \
	METRIC(large_bytes, gauge, "Of these, in page runs of their own.", s->large)           \
	METRIC(slab_bytes, gauge, "Slabs of small blocks.", s->slabs)                          \
	METRIC(slab_free_bytes, gauge, "Free in slabs.", s->slabs_free)                        \
	METRIC(object_cache_bytes, gauge, "Blocks cached by threads.", s->slabs_cached)        \
	METRIC(page_cache_bytes, gauge, "Pages cached by threads.", s->cached *PAGE_SIZE_BYTES) \
	METRIC(free_bytes, gauge, "Free pages.", s->free *PAGE_SIZE_BYTES)                     \
	METRIC(dirty_free_bytes, gauge, "Free pages that may be resident.",                    \
	       s->dirty *PAGE_SIZE_BYTES)                                                      \
	METRIC(isolated_bytes, gauge, "Isolated pageblocks.", s->nr_isolated *BLOCK_BYTES)     \
	METRIC(offline_bytes, gauge, "Offline pageblocks.", s->offline *PAGE_SIZE_BYTES)       \
	METRIC(cma_bytes, gauge, "Pageblocks of reserves.", s->cma *PAGE_SIZE_BYTES)           \
	METRIC(whole_blocks, gauge, "Wholly free pageblocks.", s->nr_whole)                    \
	METRIC(heaps, gauge, "Heaps of threads, idle ones included.", s->nr_heaps)             \
	METRIC(idle_heaps, gauge, "Heaps without a thread.", s->nr_ownerless)                  \
	METRIC(purged_bytes_total, counter, "Given back to the system.",                       \
	       s->purged_pages *PAGE_SIZE_BYTES)                                               \
	METRIC(purge_calls_total, counter, "Calls of madvise for that.", s->purge_calls)       \
	METRIC(claims_total, counter, "Pageblocks that changed their type.", s->claims)        \
	METRIC(steals_total, counter, "Runs taken from blocks of another type.", s->steals)    \
	METRIC(grown_total, counter, "Times a span grew.", s->grown)                           \
	METRIC(pcp_drains_total, counter, "Drains of all page caches.", s->pcp_drains)         \
	METRIC(isolate_total, counter, "Ranges isolated.", s->isolate_ok)                      \
	METRIC(isolate_busy_total, counter, "Ranges that could not be.", s->isolate_busy)      \
	METRIC(contig_total, counter, "Contiguous allocations.", s->contig_ok)                 \
	METRIC(contig_failed_total, counter, "Contiguous allocations that failed.",            \
	       s->contig_failed)

struct one {
	pid_t pid;
	char name[64];
	struct snapshot s;
};

static struct one *all;
static size_t nr_all;

/* --- output -------------------------------------------------------------------------------- */

static void head(const char *name, const char *type, const char *help)
{
	printf("# HELP pageblock_%s %s\n# TYPE pageblock_%s %s\n", name, help, name, type);
}

/* name{pid="1",name="x" and what is left open for more labels. */
static void begin_sample(const char *metric, const struct one *one)
{
	printf("pageblock_%s{pid=\"%d\",name=\"", metric, (int)one->pid);
	for (const char *c = one->name; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			putchar('\\');
		putchar(*c);
	}
	putchar('"');
}

static void end_sample(uint64_t n)
{
	printf("} %llu\n", (unsigned long long)n);
}

static void by_type_and_order(void)
{
	head("free_runs", "gauge", "Free runs of pages, by type and order.");
	for (size_t i = 0; i < nr_all; i++) {
		for (unsigned type = 0; type < NR_TYPES; type++) {
			for (unsigned order = 0; order < NR_ORDERS; order++) {
				begin_sample("free_runs", &all[i]);
				printf(",type=\"%s\",order=\"%u\"", type_labels[type], order);
				end_sample(all[i].s.runs[type][order]);
			}
		}
	}
	head("blocks", "gauge", "Pageblocks, by type.");
	for (size_t i = 0; i < nr_all; i++) {
		for (unsigned type = 0; type < NR_TYPES; type++) {
			begin_sample("blocks", &all[i]);
			printf(",type=\"%s\"", type_labels[type]);
			end_sample(all[i].s.blocks_of[type]);
		}
	}
}

static void by_class(const char *metric, const char *help, bool live)
{
	head(metric, "gauge", help);
	for (size_t i = 0; i < nr_all; i++) {
		for (size_t k = 0; k < all[i].s.nr_classes; k++) {
			const struct class_view *c = &all[i].s.classes[k];

			if (c->nr_slabs == 0)
				continue;
			begin_sample(metric, &all[i]);
			printf(",class=\"%u\"", c->bytes);
			end_sample(live ? c->nr_live * c->bytes : c->nr_slabs * c->slab_bytes);
		}
	}
}

static void write_metrics(void)
{
#define METRIC(metric, type, help, value)                                                      \
	head(#metric, #type, help);                                                            \
	for (size_t i = 0; i < nr_all; i++) {                                                  \
		const struct snapshot *s = &all[i].s;                                          \
                                                                                               \
		begin_sample(#metric, &all[i]);                                                \
		end_sample(value);                                                             \
	}
	METRICS(METRIC)
#undef METRIC
	by_type_and_order();
	by_class("class_live_bytes", "Blocks the program holds, by size class.", true);
	by_class("class_slab_bytes", "Slabs, by size class.", false);
}

static void write_json(void)
{
	json_array(NULL);
	for (size_t i = 0; i < nr_all; i++) {
		const struct snapshot *s = &all[i].s;

		json_object(NULL);
		json_number("pid", (uint64_t)all[i].pid);
		json_string("name", all[i].name);
#define METRIC(metric, type, help, value) json_number(#metric, value);
		METRICS(METRIC)
#undef METRIC
		json_end();
	}
	json_end();
}

/* --- collecting ------------------------------------------------------------------------------ */

static int add(const struct verb *verb, pid_t pid)
{
	struct one *more = realloc(all, (nr_all + 1) * sizeof(*all));
	struct reader r;
	int status;

	if (more == NULL)
		return EXIT_FAILURE;
	all = more;
	status = reader_open(&r, verb, pid, false);
	if (status != 0)
		return status;
	status = snapshot_take(&all[nr_all].s, &r, LOOK_RESIDENT);
	if (status == 0) {
		all[nr_all].pid = pid;
		snprintf(all[nr_all].name, sizeof(all[nr_all].name), "%s", r.name);
		nr_all++;
	}
	reader_close(&r);
	return status;
}

/* Every process that may be looked into and runs on the library. */
static int add_all(const struct verb *verb)
{
	struct processes processes = { .verb = verb };
	int status = 0;

	processes_look(&processes, 0);
	for (size_t i = 0; i < processes.nr && status == 0; i++)
		status = add(verb, processes.all[i].reader.pid);
	processes_free(&processes);
	/* One that has ended meanwhile is none. */
	return status == EXIT_NO_PROCESS ? 0 : status;
}

/* --- the verb ----------------------------------------------------------------------------------- */

/* Writes into a file beside it first: the collector must not see half of it. */
static int write_file(const struct verb *verb, const char *output, void (*write)(void))
{
	char beside[PATH_MAX];
	int status;

	if (output == NULL) {
		write();
		return finish(verb);
	}
	if (snprintf(beside, sizeof(beside), "%s.%d", output, (int)getpid()) >=
		    (int)sizeof(beside) ||
	    freopen(beside, "w", stdout) == NULL) {
		complain(verb, "cannot write %s: %s", beside, strerror(errno));
		return EXIT_FAILURE;
	}
	write();
	status = finish(verb);
	if (status == 0 && rename(beside, output) != 0) {
		complain(verb, "cannot write %s: %s", output, strerror(errno));
		status = EXIT_FAILURE;
	}
	if (status != 0)
		unlink(beside);
	return status;
}

int verb_export(const struct verb *verb, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "output", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	void (*write)(void) = write_metrics;
	const char *output = NULL;
	int c, status = 0, failed = 0;
	pid_t pid;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'j')
			write = write_json;
		else if (c == 'o')
			output = optarg;
		else
			return usage(verb);
	}
	if (optind == argc)
		failed = add_all(verb);
	for (int i = optind; i < argc; i++) {
		if (!reader_parse_pid(verb, argv[i], &pid))
			return EXIT_USAGE;
		status = add(verb, pid);
		if (status != 0)
			failed = status;
	}
	status = write_file(verb, output, write);
	for (size_t i = 0; i < nr_all; i++)
		snapshot_free(&all[i].s);
	free(all);
	return status != 0 ? status : failed;
}
