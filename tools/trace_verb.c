/* pageblock trace: what is in an allocation trace. */
#define _GNU_SOURCE
#include "tools/tool.h"

#include "tools/trace.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_NO_TRACE = 1 };

#define NR_SIZES 49u /* classes of powers of two; 0 has one of its own */
#define NR_SITES_SHOWN 10u

struct size_row {
	uint64_t objects, bytes, alive; /* allocated; never freed */
	uint64_t life;                  /* sum of lives, in bytes allocated meanwhile */
};

struct site_row {
	uint64_t objects, bytes;
	uint32_t site;
};

struct summary {
	const struct trace *trace;
	uint64_t ops[NR_TRACE_OPS];
	uint64_t bytes, live, peak_live;
	uint64_t remote; /* frees by another thread */
	struct size_row sizes[NR_SIZES];
	struct site_row *sites;
};

static unsigned size_class(uint64_t size)
{
	return size == 0 ? 0 : 64 - (unsigned)__builtin_clzll(size);
}

static void summary_death(struct summary *s, const struct trace_event *birth, uint64_t born_at,
			  unsigned thread)
{
	s->live -= birth->size;
	s->remote += birth->thread != thread;
	s->sizes[size_class(birth->size)].alive--;
	s->sizes[size_class(birth->size)].life += s->bytes - born_at;
}

static bool summarise(struct summary *s, const struct trace *t)
{
	uint32_t *birth = calloc((size_t)t->nr_objects + 1, sizeof(*birth));
	uint64_t *born_at = calloc((size_t)t->nr_objects + 1, sizeof(*born_at));

	*s = (struct summary){ .trace = t };
	s->sites = calloc((size_t)t->nr_sites + 1, sizeof(*s->sites));
	for (uint64_t i = 0;
	     birth != NULL && born_at != NULL && s->sites != NULL && i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];
		uint32_t dying = e->op == TRACE_FREE ? e->object : e->from;

		s->ops[e->op]++;
		if (e->op == TRACE_FREE || e->op == TRACE_REALLOC)
			summary_death(s, &t->events[birth[dying]], born_at[dying], e->thread);
		if (!trace_op_allocates(e->op))
			continue;
		birth[e->object] = (uint32_t)i;
		s->bytes += e->size;
		born_at[e->object] = s->bytes;
		s->live += e->size;
		s->peak_live = s->live > s->peak_live ? s->live : s->peak_live;
		s->sizes[size_class(e->size)].objects++;
		s->sizes[size_class(e->size)].bytes += e->size;
		s->sizes[size_class(e->size)].alive++;
		s->sites[e->site].objects++;
		s->sites[e->site].bytes += e->size;
		s->sites[e->site].site = e->site;
	}

	bool ok = birth != NULL && born_at != NULL && s->sites != NULL;

	free(birth);
	free(born_at);
	return ok;
}

static int by_bytes(const void *a, const void *b)
{
	const struct site_row *x = a, *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static const char *const op_names[NR_TRACE_OPS] = { "",        "malloc", "calloc", "aligned",
						    "realloc", "free",   "end",    "" };

/* MODULE+OFFSET of a site, or "?". */
static void print_site(FILE *file, const struct trace *t, uint32_t site)
{
	if (site == 0)
		fputc('?', file);
	else
		fprintf(file, "%s+0x%" PRIx64, t->modules[t->sites[site - 1].module],
			t->sites[site - 1].offset);
}

/* Bytes with a unit, for people. */
static const char *human(uint64_t bytes, char text[24])
{
	static const char units[] = "BKMGT";
	double n = (double)bytes;
	unsigned unit = 0;

	for (; n >= 1024 && unit < 4; unit++)
		n /= 1024;
	snprintf(text, 24, unit == 0 ? "%.0f%c" : "%.1f%c", n, units[unit]);
	return text;
}

static void print_sizes(const struct summary *s)
{
	char below[24], bytes[24], life[24];

	printf("\n%10s %12s %10s %12s %16s\n", "size up to", "blocks", "bytes", "never freed",
	       "average life");
	for (unsigned i = 0; i < NR_SIZES; i++) {
		const struct size_row *row = &s->sizes[i];

		if (row->objects == 0)
			continue;
		printf("%10s %12" PRIu64 " %10s %12" PRIu64 " %16s\n",
		       human(i == 0 ? 0 : ((uint64_t)1 << i) - 1, below), row->objects,
		       human(row->bytes, bytes), row->alive,
		       row->objects > row->alive
			       ? human(row->life / (row->objects - row->alive), life)
			       : "-");
	}
	puts("life: bytes allocated between a block's allocation and its free");
}

static void print_sites(const struct summary *s)
{
	const struct trace *t = s->trace;
	char bytes[24];

	if (t->nr_sites == 0)
		return;
	qsort(s->sites, (size_t)t->nr_sites + 1, sizeof(*s->sites), by_bytes);
	printf("\n%10s %12s  call site, the first of %u\n", "bytes", "blocks", t->nr_sites);
	for (uint32_t i = 0; i <= t->nr_sites && i < NR_SITES_SHOWN && s->sites[i].objects;
	     i++) {
		printf("%10s %12" PRIu64 "  ", human(s->sites[i].bytes, bytes),
		       s->sites[i].objects);
		print_site(stdout, t, s->sites[i].site);
		putchar('\n');
	}
}

static void print_summary(const struct summary *s)
{
	const struct trace *t = s->trace;
	char peak[24], end[24], all[24];

	printf("program        %s\n", t->program);
	printf("events         %" PRIu64 ":", t->nr_events);
	for (unsigned op = 0; op < NR_TRACE_OPS; op++)
		if (s->ops[op] > 0)
			printf(" %" PRIu64 " %s", s->ops[op], op_names[op]);
	printf("\nthreads        %u, %" PRIu64 " frees of another thread's block\n",
	       t->nr_threads, s->remote);
	printf("allocated      %s in %u blocks\n", human(s->bytes, all), t->nr_objects);
	printf("live           %s at the peak, %s at the end\n", human(s->peak_live, peak),
	       human(s->live, end));
	print_sizes(s);
	print_sites(s);
}

static void json_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	putchar('"');
}

static void print_json(const struct summary *s)
{
	const struct trace *t = s->trace;
	const char *comma = "";

	fputs("{\"program\": ", stdout);
	json_string(t->program);
	printf(", \"events\": %" PRIu64 ", \"objects\": %u, \"threads\": %u, \"sites\": %u, "
	       "\"allocated_bytes\": %" PRIu64 ", \"peak_live_bytes\": %" PRIu64
	       ", \"end_live_bytes\": %" PRIu64 ", \"remote_frees\": %" PRIu64
	       ",\n \"calls\": {",
	       t->nr_events, t->nr_objects, t->nr_threads, t->nr_sites, s->bytes, s->peak_live,
	       s->live, s->remote);
	for (unsigned op = TRACE_MALLOC; op < TRACE_TIME; op++, comma = ", ")
		printf("%s\"%s\": %" PRIu64, comma, op_names[op], s->ops[op]);
	fputs("},\n \"sizes\": [", stdout);
	comma = "";
	for (unsigned i = 0; i < NR_SIZES; i++) {
		const struct size_row *row = &s->sizes[i];

		if (row->objects == 0)
			continue;
		printf("%s\n  {\"max\": %" PRIu64 ", \"objects\": %" PRIu64
		       ", \"bytes\": %" PRIu64 ", \"never_freed\": %" PRIu64
		       ", \"life_bytes\": %" PRIu64 "}",
		       comma, i == 0 ? 0 : ((uint64_t)1 << i) - 1, row->objects, row->bytes,
		       row->alive, row->life);
		comma = ",";
	}
	puts("]}");
}

static void print_events(const struct trace *t)
{
	for (uint64_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];

		printf("%u %s", e->thread, op_names[e->op]);
		if (e->op == TRACE_REALLOC)
			printf(" %u ->", e->from);
		if (e->op != TRACE_END)
			printf(" %u", e->object);
		if (trace_op_allocates(e->op))
			printf(" size %" PRIu64, e->size);
		if (e->op == TRACE_ALIGNED)
			printf(" align %u", 1u << e->align_log2);
		if (e->think_us > 0)
			printf(" after %u us", e->think_us);
		if (trace_op_allocates(e->op) && (t->flags & TRACE_SITES) != 0) {
			fputs(" at ", stdout);
			print_site(stdout, t, e->site);
		}
		putchar('\n');
	}
}

int verb_trace(const struct verb *verb, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "events", no_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false, events = false;
	struct summary summary;
	struct trace trace;
	char why[256];
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'j')
			json = true;
		else if (c == 'e')
			events = true;
		else
			return usage(verb);
	}
	if (optind != argc - 1 || (json && events))
		return usage(verb);
	if (!trace_load(&trace, argv[optind], why)) {
		complain(verb, "%s: %s", argv[optind], why);
		return EXIT_NO_TRACE;
	}
	if (events) {
		print_events(&trace);
	} else if (summarise(&summary, &trace)) {
		if (json)
			print_json(&summary);
		else
			print_summary(&summary);
		free(summary.sites);
	} else {
		complain(verb, "no memory");
	}
	trace_free(&trace);
	return finish(verb);
}
