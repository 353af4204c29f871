/*
 * pageblock top: every process that runs on the library, live, and one in depth with its
 * history.  Keys as in top(1).  With --batch or without a terminal: plain text.
 */
#define _GNU_SOURCE
#include "tools/json.h"
#include "tools/processes.h"
#include "tools/screen.h"

#include "preload/options.h"

#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A column: what it shows, what it is sorted by, and the key for that. */
struct column {
	const char *title;
	char key;
	double (*value)(const struct process *p);
};

static double of_pid(const struct process *p)
{
	return -(double)p->reader.pid; /* lowest first */
}

static double of_rss(const struct process *p)
{
	return (double)p->now.rss;
}

static double of_live(const struct process *p)
{
	return (double)p->now.live;
}

static double of_ratio(const struct process *p)
{
	return p->now.live == 0 ? 0 : (double)p->now.rss / (double)p->now.live;
}

static double of_free(const struct process *p)
{
	return (double)p->now.dirty_free;
}

static double of_slabs_free(const struct process *p)
{
	return (double)p->now.slabs_free;
}

static double of_cached(const struct process *p)
{
	return (double)p->now.cached;
}

static const struct column columns[] = {
	{ "PID", 'N', of_pid },       { "RES", 'M', of_rss },
	{ "LIVE", 'L', of_live },     { "RES/LIVE", 'W', of_ratio },
	{ "FREE", 'F', of_free },     { "SLABFREE", 'S', of_slabs_free },
	{ "CACHED", 'C', of_cached }, { "GIVEN/s", 'P', process_purge_rate },
};
#define NR_COLUMNS (sizeof(columns) / sizeof(columns[0]))

static struct top {
	const struct verb *verb;
	struct processes processes;
	uint64_t delay_ns;
	uint64_t count; /* looks left; 0: for ever */
	unsigned sort;  /* column */
	bool reverse, batch, json, help;
	pid_t only;     /* in depth; 0: the list */
	size_t cursor;
} top = { .delay_ns = 2000000000, .sort = 1 };

/* --- sorting ---------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = columns[top.sort].value(a), y = columns[top.sort].value(b);
	int order = (x < y) - (x > y);

	if (order == 0)
		order = ((const struct process *)a)->reader.pid -
			((const struct process *)b)->reader.pid;
	return top.reverse ? -order : order;
}

static void sort(void)
{
	pid_t at = top.cursor < top.processes.nr ? top.processes.all[top.cursor].reader.pid : 0;

	if (top.processes.nr > 0)
		qsort(top.processes.all, top.processes.nr, sizeof(struct process), compare);
	/* The cursor stays on its process. */
	for (size_t i = 0; i < top.processes.nr; i++) {
		if (top.processes.all[i].reader.pid == at)
			top.cursor = i;
	}
	if (top.cursor >= top.processes.nr)
		top.cursor = top.processes.nr > 0 ? top.processes.nr - 1 : 0;
}

/* --- the list ----------------------------------------------------------------------------------- */

static const char *user_name(uid_t uid, char buffer[16])
{
	const struct passwd *user = getpwuid(uid);

	if (user != NULL)
		snprintf(buffer, 16, "%.8s", user->pw_name);
	else
		snprintf(buffer, 16, "%u", (unsigned)uid);
	return buffer;
}

static void list_row(const struct process *p, char *line, size_t nr_bytes)
{
	char user[16], rss[24], live[24], dirty[24], slabs[24], cached[24], rate[24];
	double per_second = process_purge_rate(p);

	snprintf(line, nr_bytes, "%7d %-8s %-15.15s %10s %10s %9.2f %10s %10s %10s %11s",
		 (int)p->reader.pid, user_name(p->uid, user), p->reader.name,
		 human_bytes(rss, p->now.rss), human_bytes(live, p->now.live), of_ratio(p),
		 human_bytes(dirty, p->now.dirty_free), human_bytes(slabs, p->now.slabs_free),
		 human_bytes(cached, p->now.cached), human_bytes(rate, (uint64_t)per_second));
}

/* Letters of the sorted column's title are capital, as a mark that needs no colour. */
static void list_head(char *line, size_t nr_bytes)
{
	char mark[NR_COLUMNS][16];

	for (unsigned i = 0; i < NR_COLUMNS; i++)
		snprintf(mark[i], sizeof(mark[i]), "%s%s", columns[i].title,
			 i != top.sort ? "" : top.reverse ? "^" : "*");
	snprintf(line, nr_bytes, "%7s %-8s %-15s %10s %10s %9s %10s %10s %10s %11s", mark[0], "USER",
		 "COMMAND", mark[1], mark[2], mark[3], mark[4], mark[5], mark[6], mark[7]);
}

static void summary(char *line, size_t nr_bytes)
{
	uint64_t rss = 0, live = 0, dirty = 0;
	char a[24], b[24], c[24], clock[16];
	time_t now = time(NULL);

	for (size_t i = 0; i < top.processes.nr; i++) {
		rss += top.processes.all[i].now.rss;
		live += top.processes.all[i].now.live;
		dirty += top.processes.all[i].now.dirty_free;
	}
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime(&now));
	snprintf(line, nr_bytes,
		 "pageblock top %s  %zu process%s, %s resident, %s live, %s free",
		 clock, top.processes.nr, top.processes.nr == 1 ? "" : "es", human_bytes(a, rss),
		 human_bytes(b, live), human_bytes(c, dirty));
}

static void show_list(void)
{
	char line[512];

	summary(line, sizeof(line));
	screen_line("1", "%s", line);
	if (top.processes.nr_refused > 0)
		screen_line("2", "and %zu that may not be looked into (another user's)",
			    top.processes.nr_refused);
	else
		screen_line(NULL, " ");
	list_head(line, sizeof(line));
	screen_line("7", "%s", line);
	for (size_t i = 0; i < top.processes.nr; i++) {
		list_row(&top.processes.all[i], line, sizeof(line));
		if (!screen_line(i == top.cursor ? "1;36" : NULL, "%s", line))
			break;
	}
	if (top.processes.nr == 0)
		screen_line(NULL, "No process runs on the library; start one with: pageblock run "
				  "PROGRAM");
	screen_line(NULL, " ");
	screen_line("2", "q quit  h help  Enter one process  M L W F S C P N sort  R reverse");
}

static void show_help(void)
{
	screen_line("1", "pageblock top");
	screen_line(NULL, " ");
	screen_line(NULL, "  up, down    choose a process         Enter  show it in depth");
	screen_line(NULL, "  q, Escape   back, or quit            space  look now");
	screen_line(NULL, "  d           shorter delay            D      longer delay (%.1f s)",
		    (double)top.delay_ns / 1e9);
	screen_line(NULL, "  < >         sort by the column beside it     R  reverse the order");
	screen_line(NULL, " ");
	screen_line(NULL, "  M RES       resident memory of the whole process");
	screen_line(NULL, "  L LIVE      in blocks the program holds");
	screen_line(NULL, "  W RES/LIVE  how much is kept for each byte in use");
	screen_line(NULL, "  F FREE      free pages that have not been given back yet");
	screen_line(NULL, "  S SLABFREE  free between small blocks that are in use");
	screen_line(NULL, "  C CACHED    in threads' caches");
	screen_line(NULL, "  P GIVEN/s   given back to the system, a second");
	screen_line(NULL, "  N PID");
}

/* --- one process in depth ------------------------------------------------------------------------- */

#define CHART_ROWS 10u
#define LIVE_STYLE "38;5;44"
#define RESIDENT_STYLE "48;5;239"
/* Bytes of a line: a character with its styles is shorter than this. */
#define CHART_CELL 32u

/* One cell: what is live of it in front, resident behind it; both in eighths. */
static int chart_cell(char *to, size_t nr_bytes, int live, int resident)
{
	static const char *const full[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };

	live = live < 0 ? 0 : live > 8 ? 8 : live;
	return snprintf(to, nr_bytes, "\033[0;" LIVE_STYLE "%sm%s",
			resident >= 4 ? ";" RESIDENT_STYLE : "", full[live]);
}

/* The last samples, one a column, the newest at the right. */
static void chart(const struct process *p, unsigned width)
{
	size_t nr = p->nr_samples < HISTORY ? p->nr_samples : HISTORY;
	uint64_t most = 1;
	char line[HISTORY * CHART_CELL + 64], text[24];

	if (nr > width)
		nr = width;
	for (size_t i = p->nr_samples - nr; i < p->nr_samples; i++)
		most = p->history[i % HISTORY].rss > most ? p->history[i % HISTORY].rss : most;
	for (unsigned row = CHART_ROWS; row-- > 0;) {
		int len = snprintf(line, sizeof(line), "%10s ",
				   row == CHART_ROWS - 1 ? human_bytes(text, most)
				   : row == 0		 ? "0"
							 : "");

		for (size_t i = p->nr_samples - nr; i < p->nr_samples; i++) {
			const struct sample *s = &p->history[i % HISTORY];
			double eighth = (double)most / (CHART_ROWS * 8);

			len += chart_cell(line + len, sizeof(line) - (size_t)len,
					  (int)((double)s->live / eighth) - (int)row * 8,
					  (int)((double)s->rss / eighth) - (int)row * 8);
		}
		if (!screen_styled_line(line))
			return;
	}
	snprintf(line, sizeof(line),
		 "           \033[" LIVE_STYLE "m█\033[0m live   \033[" RESIDENT_STYLE
		 "m \033[0m resident   over the last %.0f s",
		 (double)(p->now.at_ns - p->history[(p->nr_samples - nr) % HISTORY].at_ns) / 1e9);
	screen_styled_line(line);
}

static int larger(const void *a, const void *b)
{
	const struct class_view *x = a, *y = b;
	uint64_t m = x->nr_slabs * x->slab_bytes, n = y->nr_slabs * y->slab_bytes;

	return (m < n) - (m > n);
}

static void classes(struct snapshot *s)
{
	screen_line("7", "%10s %12s %12s %12s %8s", "CLASS", "BLOCKS", "LIVE", "SLABS", "WASTE");
	qsort(s->classes, s->nr_classes, sizeof(s->classes[0]), larger);
	for (size_t i = 0; i < s->nr_classes && s->classes[i].nr_slabs > 0; i++) {
		const struct class_view *c = &s->classes[i];
		uint64_t slabs = c->nr_slabs * c->slab_bytes, live = c->nr_live * c->bytes;
		char a[24], b[24];

		if (!screen_line(NULL, "%10u %12llu %12s %12s %6.1f %%", c->bytes,
				 (unsigned long long)c->nr_live, human_bytes(a, live),
				 human_bytes(b, slabs),
				 100.0 * (double)(slabs - live) / (double)slabs))
			return;
	}
}

static void show_one(struct process *p)
{
	char a[24], b[24], c[24], d[24];
	unsigned rows, width;
	struct snapshot s;

	screen_size(&rows, &width);
	screen_line("1", "%s (%d)   pageblock %s, heaps with a thread: %zu", p->reader.name,
		    (int)p->reader.pid, p->reader.header.release, p->now.nr_threads);
	if (snapshot_take(&s, &p->reader, LOOK_RESIDENT) != 0)
		return;
	screen_line(NULL, "resident %10s   of these in huge pages %10s", human_bytes(a, s.rss),
		    s.huge_known ? human_bytes(b, s.huge) : "?");
	screen_line(NULL, "live     %10s   in page runs %10s   resident/live %.2f",
		    human_bytes(a, s.live), human_bytes(b, s.large), of_ratio(p));
	screen_line(NULL, "free     %10s   resident %10s   in slabs %10s   cached %10s",
		    human_bytes(a, s.free * PAGE_SIZE_BYTES), human_bytes(b, p->now.dirty_free),
		    human_bytes(c, s.slabs_free), human_bytes(d, p->now.cached));
	screen_line(NULL, "isolated %10s   offline %10s   CMA %10s   given back %10s",
		    human_bytes(a, s.nr_isolated * BLOCK_BYTES),
		    human_bytes(b, s.offline * PAGE_SIZE_BYTES),
		    human_bytes(c, s.cma * PAGE_SIZE_BYTES), human_bytes(d, p->now.purged));
	screen_line(NULL, " ");
	if (p->history != NULL)
		chart(p, width > 12 ? width - 12 : 1);
	screen_line(NULL, " ");
	classes(&s);
	snapshot_free(&s);
}

/* --- looking and drawing ------------------------------------------------------------------------------ */

static struct process *chosen(void)
{
	for (size_t i = 0; i < top.processes.nr; i++) {
		if (top.processes.all[i].reader.pid == top.only)
			return &top.processes.all[i];
	}
	return NULL;
}

static void draw(void)
{
	struct process *p = top.only != 0 ? chosen() : NULL;

	screen_begin();
	if (top.help)
		show_help();
	else if (p != NULL)
		show_one(p);
	else
		show_list();
	screen_end();
}

static void write_json(void)
{
	json_object(NULL);
	json_number("time", (uint64_t)time(NULL));
	json_array("processes");
	for (size_t i = 0; i < top.processes.nr; i++) {
		const struct process *p = &top.processes.all[i];

		json_object(NULL);
		json_number("pid", (uint64_t)p->reader.pid);
		json_string("name", p->reader.name);
		json_number("uid", p->uid);
		json_number("rss_bytes", p->now.rss);
		json_number("live_bytes", p->now.live);
		json_number("dirty_free_bytes", p->now.dirty_free);
		json_number("slab_free_bytes", p->now.slabs_free);
		json_number("cached_bytes", p->now.cached);
		json_number("committed_bytes", p->now.committed);
		json_number("purged_bytes", p->now.purged);
		json_real("purged_bytes_per_second", process_purge_rate(p));
		json_end();
	}
	json_end();
	json_end();
}

static void write_batch(void)
{
	char line[512];

	if (top.json) {
		write_json();
		return;
	}
	summary(line, sizeof(line));
	puts(line);
	list_head(line, sizeof(line));
	puts(line);
	for (size_t i = 0; i < top.processes.nr; i++) {
		list_row(&top.processes.all[i], line, sizeof(line));
		puts(line);
	}
	putchar('\n');
}

/* --- keys --------------------------------------------------------------------------------------------- */

/* False: the end. */
static bool on_key(int key)
{
	for (unsigned i = 0; i < NR_COLUMNS; i++) {
		if (columns[i].key == key)
			top.sort = i;
	}
	if (key == 'R')
		top.reverse = !top.reverse;
	else if (key == '<' && top.sort > 0)
		top.sort--;
	else if (key == '>' && top.sort < NR_COLUMNS - 1)
		top.sort++;
	else if (key == 'd' && top.delay_ns > 250000000)
		top.delay_ns /= 2;
	else if (key == 'D' && top.delay_ns < 60000000000)
		top.delay_ns *= 2;
	else if (key == 'h' || key == '?')
		top.help = !top.help;
	else if (key == KEY_UP && top.cursor > 0)
		top.cursor--;
	else if (key == KEY_DOWN && top.cursor + 1 < top.processes.nr)
		top.cursor++;
	else if (key == KEY_ENTER && top.cursor < top.processes.nr && !top.help)
		top.only = top.processes.all[top.cursor].reader.pid;
	else if (key == 'q' || key == KEY_ESCAPE) {
		if (top.help)
			top.help = false;
		else if (top.only != 0)
			top.only = 0;
		else
			return false;
	}
	return true;
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void interactive(pid_t pid)
{
	for (;;) {
		uint64_t next = clock_ns() + top.delay_ns;

		processes_look(&top.processes, pid);
		for (;;) {
			uint64_t now = clock_ns();
			int key;

			sort();
			draw();
			if (now >= next)
				break;
			key = screen_key((int)((next - now) / 1000000) + 1);
			if (key == ' ')
				break;
			if (!on_key(key))
				return;
		}
		if (top.count > 0 && --top.count == 0)
			return;
	}
}

static void in_batches(pid_t pid)
{
	for (;;) {
		struct timespec delay = { (time_t)(top.delay_ns / 1000000000),
					  (long)(top.delay_ns % 1000000000) };

		processes_look(&top.processes, pid);
		sort();
		write_batch();
		fflush(stdout);
		if ((top.count > 0 && --top.count == 0) || ferror(stdout))
			return;
		nanosleep(&delay, NULL);
	}
}

/* --- the verb ------------------------------------------------------------------------------------------- */

static int parse(int argc, char **argv, pid_t *pid)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },  { "batch", no_argument, NULL, 'b' },
		{ "delay", required_argument, NULL, 'd' }, { "count", required_argument, NULL, 'n' },
		{ "sort", required_argument, NULL, 'o' },  { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "bd:n:", long_options, NULL)) != -1) {
		unsigned i = 0;

		if (c == 'j' || c == 'b') {
			top.batch = true;
			top.json |= c == 'j';
		} else if (c == 'd' || c == 'n') {
			if (!options_parse_number(c == 'd' ? OPTION_TIME : OPTION_INT, optarg,
						  c == 'd' ? &top.delay_ns : &top.count) ||
			    (c == 'd' && top.delay_ns < 10000000)) {
				complain(top.verb, "\"%s\" is not a %s", optarg,
					 c == 'd' ? "time of at least 10ms, such as 2s" : "number");
				return EXIT_USAGE;
			}
		} else if (c == 'o') {
			while (i < NR_COLUMNS && strcasecmp(columns[i].title, optarg) != 0)
				i++;
			if (i == NR_COLUMNS) {
				complain(top.verb, "there is no column \"%s\"", optarg);
				return EXIT_USAGE;
			}
			top.sort = i;
		} else {
			return usage(top.verb);
		}
	}
	if (argc - optind > 1)
		return usage(top.verb);
	if (optind < argc && !reader_parse_pid(top.verb, argv[optind], pid))
		return EXIT_USAGE;
	return 0;
}

int verb_top(const struct verb *verb, int argc, char **argv)
{
	pid_t pid = 0;
	int status;

	top.verb = verb;
	top.processes.verb = verb;
	status = parse(argc, argv, &pid);
	if (status != 0)
		return status;
	if (pid > 0) {
		struct reader r;

		/* Says what is wrong with it, if anything. */
		status = reader_open(&r, verb, pid, false);
		if (status != 0)
			return status;
		reader_close(&r);
		top.only = pid;
	}
	if (!top.batch && screen_open()) {
		interactive(pid);
		screen_close();
	} else {
		if ((!top.batch || top.json) && top.count == 0)
			top.count = 1;
		in_batches(pid);
	}
	processes_free(&top.processes);
	return finish(verb);
}
