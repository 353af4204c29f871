/*
 * pageblock profile, blame, leaks: who allocates, who holds sparse pageblocks, what stays.
 * All three turn the process's samples into shares by stack and write these in one of the
 * forms of samples.h.
 */
#include "tools/samples.h"

#include "tools/json.h"
#include "tools/snapshot.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STACKS_SHOWN 10u
#define FRAMES_SHOWN 8u
#define FUNCTIONS_SHOWN 20u

enum what { WHAT_LIVE, WHAT_ALLOCATED, WHAT_PEAK };

/* What the three verbs have in common. */
struct task {
	const struct verb *verb;
	struct reader reader;
	struct samples_view v;
	struct symbols *symbols;
	struct stack_share *shares;
	size_t nr;
	enum share_form form;
	bool pprof;
	enum what what;
	double seconds;        /* profile: how long to look; 0: since the start */
	uint64_t older_ns;     /* leaks */
	double sparse_percent; /* blame */
	double total;          /* sum of the shares' weights */
};

/* --- arguments ------------------------------------------------------------------------------
 */

static bool parse_seconds(const char *text, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	return end != text && (*end == '\0' || strcmp(end, "s") == 0) && *seconds > 0 &&
	       *seconds <= 86400;
}

static bool take_option(struct task *t, int c)
{
	char *end;
	double seconds;

	switch (c) {
	case 'j':
	case 'c':
	case 's':
		t->form = c == 'j' ? FORM_JSON : c == 'c' ? FORM_COLLAPSED : FORM_SVG;
		return true;
	case 'P':
		t->pprof = true;
		return true;
	case 'l':
	case 'a':
	case 'p':
		t->what = c == 'l' ? WHAT_LIVE : c == 'a' ? WHAT_ALLOCATED : WHAT_PEAK;
		return true;
	case 'o':
		if (freopen(optarg, "w", stdout) != NULL)
			return true;
		complain(t->verb, "%s cannot be written", optarg);
		return false;
	case 'O':
		if (!parse_seconds(optarg, &seconds))
			return false;
		t->older_ns = (uint64_t)(seconds * 1e9);
		return true;
	case 'S':
		t->sparse_percent = strtod(optarg, &end);
		return end != optarg && t->sparse_percent > 0 && t->sparse_percent <= 100;
	default:
		return false;
	}
}

/* Reads the arguments and opens the process; 0 or an exit status. */
static int begin(struct task *t, int argc, char **argv, const struct option *options,
		 bool timed)
{
	pid_t pid;
	int c, status;

	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (!take_option(t, c))
			return usage(t->verb);
	}
	if (optind >= argc || optind + (timed ? 2 : 1) < argc)
		return usage(t->verb);
	if (!reader_parse_pid(t->verb, argv[optind], &pid))
		return EXIT_USAGE;
	if (optind + 1 < argc && !parse_seconds(argv[optind + 1], &t->seconds))
		return usage(t->verb);
	status = reader_open(&t->reader, t->verb, pid, false);
	if (status != 0)
		return status;
	status = samples_read(&t->v, &t->reader);
	if (status == 0 && !t->v.on && t->seconds > 0) {
		complain(t->verb, "%s (%d) takes no samples now; pageblock set %d prof_active:true",
			 t->reader.name, (int)pid, (int)pid);
		status = EXIT_REFUSED;
	}
	if (status != 0) {
		samples_free(&t->v);
		reader_close(&t->reader);
	}
	return status;
}

static int end(struct task *t, int status)
{
	symbols_close(t->symbols);
	samples_free(&t->v);
	reader_close(&t->reader);
	free(t->shares);
	return status != 0 ? status : finish(t->verb);
}

/* Names, and the shares sorted; false: no memory. */
static bool prepare(struct task *t)
{
	t->symbols = symbols_open(t->reader.pid);
	if (t->symbols == NULL || t->shares == NULL) {
		complain(t->verb, "no memory");
		return false;
	}
	symbols_prepare(t->symbols, t->v.frames, t->v.nr_frames);
	t->nr = stack_shares_sort(t->shares, t->v.nr_sites);
	for (size_t i = 0; i < t->nr; i++)
		t->total += t->shares[i].weight;
	return true;
}

/* --- output
 * ------------------------------------------------------------------------------------ */

static double percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

static const char *bytes_of(char text[24], double nr_bytes)
{
	return human_bytes(text, nr_bytes > 0 ? (uint64_t)nr_bytes : 0);
}

/* "1.2 MiB +- 300.0 KiB": twice the standard error. */
static void print_estimate(const struct stack_share *s)
{
	char value[24], error[24];

	printf("%11s +- %-11s", bytes_of(value, s->weight),
	       bytes_of(error, 2 * square_root(s->variance)));
}

static void json_head(const struct task *t)
{
	json_object(NULL);
	json_number("pid", (uint64_t)t->reader.pid);
	json_string("name", t->reader.name);
	json_number("sample_bytes", t->v.rate);
	json_number("nr_taken", t->v.nr_taken);
	json_number("nr_dropped", t->v.nr_dropped);
	json_number("live_bytes", t->v.weight_live);
	json_number("peak_bytes", t->v.weight_peak);
}

static void graph(const struct task *t, const char *unit)
{
	char title[128];

	snprintf(title, sizeof(title), "%s (%d)", t->reader.name, (int)t->reader.pid);
	if (t->form == FORM_SVG)
		shares_as_svg(&t->v, t->shares, t->nr, t->symbols, title, unit);
	else
		shares_as_collapsed(&t->v, t->shares, t->nr, t->symbols);
}

/* --- profile
 * ------------------------------------------------------------------------------------- */

static const char *const what_names[] = {
	[WHAT_LIVE] = "live",
	[WHAT_ALLOCATED] = "allocated",
	[WHAT_PEAK] = "live at the peak",
};

static struct tally chosen(const struct task *t, const struct site_view *s)
{
	return t->what == WHAT_LIVE ? s->live : t->what == WHAT_PEAK ? s->peak : s->allocated;
}

static struct tally less(struct tally a, struct tally b)
{
	return (struct tally){ a.nr > b.nr ? a.nr - b.nr : 0,
			       a.bytes > b.bytes ? a.bytes - b.bytes : 0,
			       a.weight > b.weight ? a.weight - b.weight : 0 };
}

/* Sums the sites by stack; before: what is not to be counted, or NULL. */
static void add_sites(struct task *t, const struct samples_view *before)
{
	for (size_t i = 1; i < t->v.nr_sites; i++) {
		const struct site_view *site = &t->v.sites[i];
		struct stack_share *s = &t->shares[site->stack];
		struct tally tally = chosen(t, site);

		if (before != NULL && i < before->nr_sites)
			tally = less(tally, chosen(t, &before->sites[i]));
		s->stack = site->stack;
		s->weight += (double)tally.weight;
		s->variance += samples_error(&tally) * samples_error(&tally);
		s->nr += tally.nr;
	}
}

/* Waits and reads again; *before: what was there at first. */
static int wait_and_read(struct task *t, struct samples_view *before)
{
	struct timespec left = { (time_t)t->seconds,
				 (long)((t->seconds - (double)(time_t)t->seconds) * 1e9) };

	*before = t->v;
	memset(&t->v, 0, sizeof(t->v));
	while (nanosleep(&left, &left) != 0)
		;
	return samples_read(&t->v, &t->reader);
}

struct function {
	const char *name;
	const char *file;
	double self, below;
};

static int by_self(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	if (x->self < y->self || x->self > y->self)
		return x->self < y->self ? 1 : -1;
	return (x->below < y->below) - (x->below > y->below);
}

static int by_name(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	return (x->name > y->name) - (x->name < y->name);
}

/* One function a frame of each stack, a name only once in each; how many. */
static size_t collect_functions(const struct task *t, struct function *all)
{
	size_t nr = 0;

	for (size_t i = 0; i < t->nr; i++) {
		const struct site_view *site = &t->v.sites[t->shares[i].stack];
		size_t first = nr;

		for (unsigned k = 0; k < site->nr_frames; k++) {
			uint64_t frame = t->v.frames[site->first_frame + k];
			const char *name = symbols_name(t->symbols, frame);
			size_t seen = first;

			while (seen < nr && all[seen].name != name)
				seen++;
			if (seen == nr)
				all[nr++] = (struct function){ name,
							       symbols_file(t->symbols, frame),
							       k == 0 ? t->shares[i].weight : 0,
							       t->shares[i].weight };
		}
	}
	return nr;
}

static void functions_as_text(const struct task *t)
{
	size_t nr_frames = 1, nr, merged = 0;
	struct function *all;

	for (size_t i = 0; i < t->nr; i++)
		nr_frames += t->v.sites[t->shares[i].stack].nr_frames;
	all = calloc(nr_frames, sizeof(*all));
	if (all == NULL)
		return;
	nr = collect_functions(t, all);
	qsort(all, nr, sizeof(*all), by_name);
	for (size_t i = 0; i < nr; i++) {
		if (merged > 0 && all[merged - 1].name == all[i].name) {
			all[merged - 1].self += all[i].self;
			all[merged - 1].below += all[i].below;
		} else {
			all[merged++] = all[i];
		}
	}
	qsort(all, merged, sizeof(*all), by_self);
	printf("\n%11s %7s %11s %7s\n", "self", "", "with callees", "");
	for (size_t i = 0; i < merged && i < FUNCTIONS_SHOWN; i++) {
		char self[24], below[24];

		printf("%11s %5.1f %% %11s %5.1f %%  %s%s%s%s\n", bytes_of(self, all[i].self),
		       percent(all[i].self, t->total), bytes_of(below, all[i].below),
		       percent(all[i].below, t->total), all[i].name,
		       *all[i].file != '\0' ? " (" : "", all[i].file,
		       *all[i].file != '\0' ? ")" : "");
	}
	free(all);
}

static void profile_as_text(const struct task *t)
{
	char live[24], peak[24], rate[24], total[24];
	uint64_t nr = 0;

	for (size_t i = 0; i < t->nr; i++)
		nr += t->shares[i].nr;
	printf("%s (%d): about %s live, %s at the peak, by %llu samples, one in %s\n",
	       t->reader.name, (int)t->reader.pid, human_bytes(live, t->v.weight_live),
	       human_bytes(peak, t->v.weight_peak), (unsigned long long)t->v.nr_taken,
	       human_bytes(rate, t->v.rate));
	if (!t->v.on)
		puts("no more samples are being taken (prof_active:false)");
	if (t->v.nr_dropped > 0)
		printf("%llu samples were dropped for want of room\n",
		       (unsigned long long)t->v.nr_dropped);
	printf("%s %s", bytes_of(total, t->total), what_names[t->what]);
	if (t->seconds > 0)
		printf(" in %g s", t->seconds);
	printf(", %llu samples\n", (unsigned long long)nr);
	functions_as_text(t);
	printf("\nby stack:\n");
	for (size_t i = 0; i < t->nr && i < STACKS_SHOWN; i++) {
		print_estimate(&t->shares[i]);
		printf(" %5.1f %%\n", percent(t->shares[i].weight, t->total));
		stack_as_text(&t->v, t->shares[i].stack, t->symbols, FRAMES_SHOWN);
	}
}

static void profile_as_json(const struct task *t)
{
	json_head(t);
	json_string("what", what_names[t->what]);
	json_real("seconds", t->seconds);
	json_real("total_bytes", t->total);
	json_array("stacks");
	for (size_t i = 0; i < t->nr; i++) {
		json_object(NULL);
		json_real("bytes", t->shares[i].weight);
		json_real("error_bytes", 2 * square_root(t->shares[i].variance));
		json_number("samples", t->shares[i].nr);
		stack_as_json(&t->v, t->shares[i].stack, t->symbols);
		json_end();
	}
	json_end();
	json_end();
}

/* The form that google-pprof reads, with both live and allocated objects. */
static int profile_as_pprof(const struct task *t)
{
	struct tally live = { 0, 0, 0 }, allocated = { 0, 0, 0 };
	char path[64], line[8192];
	FILE *maps;

	for (size_t i = 1; i < t->v.nr_sites; i++) {
		live.nr += t->v.sites[i].live.nr;
		live.bytes += t->v.sites[i].live.bytes;
		allocated.nr += t->v.sites[i].allocated.nr;
		allocated.bytes += t->v.sites[i].allocated.bytes;
	}
	printf("heap profile: %6llu: %8llu [%6llu: %8llu] @ heap_v2/%llu\n",
	       (unsigned long long)live.nr, (unsigned long long)live.bytes,
	       (unsigned long long)allocated.nr, (unsigned long long)allocated.bytes,
	       (unsigned long long)t->v.rate);
	for (size_t i = 1; i < t->v.nr_sites; i++) {
		const struct site_view *s = &t->v.sites[i];

		printf("%6llu: %8llu [%6llu: %8llu] @", (unsigned long long)s->live.nr,
		       (unsigned long long)s->live.bytes, (unsigned long long)s->allocated.nr,
		       (unsigned long long)s->allocated.bytes);
		for (unsigned k = 0; k < s->nr_frames; k++)
			printf(" 0x%llx", (unsigned long long)t->v.frames[s->first_frame + k]);
		putchar('\n');
	}
	puts("\nMAPPED_LIBRARIES:");
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)t->reader.pid);
	maps = fopen(path, "re");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		fputs(line, stdout);
	if (maps != NULL)
		fclose(maps);
	return 0;
}

int verb_profile(const struct verb *verb, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { "collapsed", no_argument, NULL, 'c' },
		{ "svg", no_argument, NULL, 's' },  { "pprof", no_argument, NULL, 'P' },
		{ "live", no_argument, NULL, 'l' }, { "allocated", no_argument, NULL, 'a' },
		{ "peak", no_argument, NULL, 'p' }, { NULL, 0, NULL, 0 },
	};
	struct task t = { .verb = verb };
	struct samples_view before = { .rate = 0 };
	int status = begin(&t, argc, argv, options, true);

	if (status != 0)
		return status;
	if (t.seconds > 0) {
		t.what = WHAT_ALLOCATED;
		status = wait_and_read(&t, &before);
	}
	if (status == 0 && t.pprof) {
		status = profile_as_pprof(&t);
	} else if (status == 0) {
		t.shares = calloc(t.v.nr_sites + 1, sizeof(*t.shares));
		if (t.shares != NULL)
			add_sites(&t, t.seconds > 0 ? &before : NULL);
		if (!prepare(&t))
			status = EXIT_FAILURE;
		else if (t.form == FORM_JSON)
			profile_as_json(&t);
		else if (t.form == FORM_TEXT)
			profile_as_text(&t);
		else
			graph(&t, what_names[t.what]);
	}
	samples_free(&before);
	return end(&t, status);
}

/* --- blame
 * ----------------------------------------------------------------------------------------- */

struct block {
	const struct block_view *view;
	double held; /* bytes resident, when it is sparse and held; else 0 */
};

/* How many bytes a block holds that is sparse but cannot go, and what in it is live. */
static double held_bytes(const struct task *t, const struct snapshot *s,
			 const struct block_view *b, double *live)
{
	unsigned in_use = BLOCK_PAGES - b->nr_free;
	double resident = PAGE_SIZE_BYTES *
			  (double)(s->resident_known ? b->nr_resident : in_use + b->nr_dirty);

	*live = b->live_bytes + (double)b->run_pages * PAGE_SIZE_BYTES;
	if (b->state != BLOCK_OPEN || b->nr_live + b->nr_runs == 0 ||
	    resident < PAGE_SIZE_BYTES * BLOCK_PAGES / 16.0)
		return 0;
	return *live < resident * t->sparse_percent / 100 ? resident : 0;
}

static int by_block(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	return (x->view->address > y->view->address) - (x->view->address < y->view->address);
}

static const struct block *block_of(const struct block *blocks, size_t nr, uint64_t address)
{
	size_t low = 0, high = nr;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (blocks[middle].view->address + BLOCK_BYTES <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < nr && blocks[low].view->address <= address ? &blocks[low] : NULL;
}

struct sparse {
	size_t nr;
	double held, live;
	uint64_t nr_samples;
};

/*
 * Each live object of a block holds as much of it as any other.  A sampled one stands for
 * weight / size of its kind, so that held * weight / size / objects is what its stack holds,
 * unbiased; as all that is held has a holder, the sum is known and the shares are scaled.
 */
static void blame_records(struct task *t, const struct block *blocks, size_t nr,
			  struct sparse *sparse)
{
	double sum = 0;

	for (size_t i = 0; i < t->v.nr_records; i++) {
		const struct record_view *r = &t->v.records[i];
		const struct block *b = block_of(blocks, nr, r->address);
		struct stack_share *s = &t->shares[t->v.sites[r->site].stack];
		double like_it = (double)r->weight / (double)(r->size > 0 ? r->size : 1), share;

		if (b == NULL || b->held <= 0)
			continue;
		share = like_it / (b->view->nr_live + b->view->nr_runs);
		s->stack = t->v.sites[r->site].stack;
		s->weight += b->held * share;
		s->variance += b->held * share * b->held * share;
		s->nr_blocks += share;
		s->live_bytes += (double)r->weight;
		s->nr++;
		sum += b->held * share;
		sparse->nr_samples++;
	}
	for (size_t i = 0; i < t->v.nr_sites && sum > 0; i++) {
		double scale = sparse->held / sum;

		t->shares[i].weight *= scale;
		t->shares[i].variance *= scale * scale;
		t->shares[i].nr_blocks *= scale;
	}
}

static void blame_as_text(const struct task *t, const struct sparse *sparse)
{
	char held[24], live[24], rate[24];
	double part = 0;
	size_t nr = 0;

	while (nr < t->nr && nr < STACKS_SHOWN && part < 0.95 * t->total)
		part += t->shares[nr++].weight;
	if (sparse->nr == 0) {
		printf("%s (%d): no pageblock is sparse\n", t->reader.name, (int)t->reader.pid);
		return;
	}
	printf("%s (%d): %zu sparse pageblock%s, %s resident for %s live\n", t->reader.name,
	       (int)t->reader.pid, sparse->nr, sparse->nr == 1 ? "" : "s",
	       bytes_of(held, sparse->held), bytes_of(live, sparse->live));
	if (sparse->nr_samples == 0) {
		printf("none of what is in them was sampled (one in %s): a smaller prof_sample "
		       "would show who holds them\n",
		       human_bytes(rate, t->v.rate));
		return;
	}
	printf("%zu site%s hold%s %.0f %% of that, by %llu samples, one in %s\n\n", nr,
	       nr == 1 ? "" : "s", nr == 1 ? "s" : "", percent(part, t->total),
	       (unsigned long long)sparse->nr_samples, human_bytes(rate, t->v.rate));
	printf("%11s    %-11s %7s %8s %11s %8s\n", "held", "", "", "blocks", "live", "samples");
	for (size_t i = 0; i < t->nr && i < STACKS_SHOWN; i++) {
		print_estimate(&t->shares[i]);
		printf(" %5.1f %% %8.0f %11s %8llu\n", percent(t->shares[i].weight, t->total),
		       t->shares[i].nr_blocks, bytes_of(live, t->shares[i].live_bytes),
		       (unsigned long long)t->shares[i].nr);
		stack_as_text(&t->v, t->shares[i].stack, t->symbols, FRAMES_SHOWN);
	}
}

static void blame_as_json(const struct task *t, const struct sparse *sparse)
{
	json_head(t);
	json_number("sparse_blocks", sparse->nr);
	json_real("held_bytes", sparse->held);
	json_real("held_live_bytes", sparse->live);
	json_number("samples", sparse->nr_samples);
	json_array("sites");
	for (size_t i = 0; i < t->nr; i++) {
		const struct stack_share *s = &t->shares[i];

		json_object(NULL);
		json_real("held_bytes", s->weight);
		json_real("error_bytes", 2 * square_root(s->variance));
		json_real("share", t->total > 0 ? s->weight / t->total : 0);
		json_real("blocks", s->nr_blocks);
		json_real("live_bytes", s->live_bytes);
		json_number("samples", s->nr);
		stack_as_json(&t->v, s->stack, t->symbols);
		json_end();
	}
	json_end();
	json_end();
}

static int blame(struct task *t, struct snapshot *s)
{
	struct block *blocks = calloc(s->nr_blocks + 1, sizeof(*blocks));
	struct sparse sparse = { .nr = 0 };

	t->shares = calloc(t->v.nr_sites + 1, sizeof(*t->shares));
	if (blocks == NULL || t->shares == NULL) {
		free(blocks);
		complain(t->verb, "no memory");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < s->nr_blocks; i++) {
		double live;

		blocks[i] =
			(struct block){ &s->blocks[i], held_bytes(t, s, &s->blocks[i], &live) };
		if (blocks[i].held > 0) {
			sparse.nr++;
			sparse.held += blocks[i].held;
			sparse.live += live;
		}
	}
	qsort(blocks, s->nr_blocks, sizeof(*blocks), by_block);
	blame_records(t, blocks, s->nr_blocks, &sparse);
	free(blocks);
	if (!prepare(t))
		return EXIT_FAILURE;
	if (t->form == FORM_JSON)
		blame_as_json(t, &sparse);
	else if (t->form == FORM_TEXT)
		blame_as_text(t, &sparse);
	else
		graph(t, "held in sparse pageblocks");
	return 0;
}

int verb_blame(const struct verb *verb, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "collapsed", no_argument, NULL, 'c' },
		{ "svg", no_argument, NULL, 's' },
		{ "sparse", required_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	struct task t = { .verb = verb, .sparse_percent = 25 };
	struct snapshot s;
	int status = begin(&t, argc, argv, options, false);

	if (status != 0)
		return status;
	status = snapshot_take(&s, &t.reader, LOOK_RESIDENT | LOOK_CLIENTS);
	if (status == 0) {
		status = blame(&t, &s);
		snapshot_free(&s);
	}
	return end(&t, status);
}

/* --- leaks
 * -------------------------------------------------------------------------------------------
 */

/* What is live and older than asked for, by stack. */
static void add_survivors(struct task *t)
{
	for (size_t i = 0; i < t->v.nr_records; i++) {
		const struct record_view *r = &t->v.records[i];
		struct stack_share *s = &t->shares[t->v.sites[r->site].stack];
		double weight = (double)r->weight;

		if (r->born_ns + t->older_ns > t->v.now_ns)
			continue;
		s->stack = t->v.sites[r->site].stack;
		s->weight += weight;
		s->variance += weight * (weight - (double)r->size);
		if (s->nr++ == 0 || r->born_ns < s->oldest_ns)
			s->oldest_ns = r->born_ns;
		if (r->born_ns > s->newest_ns)
			s->newest_ns = r->born_ns;
	}
	for (size_t i = 1; i < t->v.nr_sites; i++)
		t->shares[t->v.sites[i].stack].allocated.weight +=
			t->v.sites[i].allocated.weight;
}

static double age_s(const struct task *t, uint64_t born_ns)
{
	return t->v.now_ns > born_ns ? (double)(t->v.now_ns - born_ns) / 1e9 : 0;
}

static double survival_percent(const struct stack_share *s)
{
	double p = percent(s->weight, (double)s->allocated.weight);

	return p < 100 ? p : 100;
}

static void leaks_as_text(const struct task *t)
{
	char total[24], rate[24], least[24];

	printf("%s (%d): about %s is live that was allocated more than %g s ago; one sample in "
	       "%s:\n"
	       "what is less than %s in all may be missing\n\n",
	       t->reader.name, (int)t->reader.pid, bytes_of(total, t->total),
	       (double)t->older_ns / 1e9, human_bytes(rate, t->v.rate),
	       human_bytes(least, 3 * t->v.rate));
	printf("%11s    %-11s %8s %9s %17s\n", "live", "", "samples", "survives", "ages");
	for (size_t i = 0; i < t->nr && i < STACKS_SHOWN; i++) {
		const struct stack_share *s = &t->shares[i];

		print_estimate(s);
		printf(" %8llu %7.0f %% %6.0f to %.0f s\n", (unsigned long long)s->nr,
		       survival_percent(s), age_s(t, s->newest_ns), age_s(t, s->oldest_ns));
		stack_as_text(&t->v, s->stack, t->symbols, FRAMES_SHOWN);
	}
}

static void leaks_as_json(const struct task *t)
{
	json_head(t);
	json_real("older_than_s", (double)t->older_ns / 1e9);
	json_real("total_bytes", t->total);
	json_array("stacks");
	for (size_t i = 0; i < t->nr; i++) {
		const struct stack_share *s = &t->shares[i];

		json_object(NULL);
		json_real("bytes", s->weight);
		json_real("error_bytes", 2 * square_root(s->variance));
		json_number("samples", s->nr);
		json_real("survives_percent", survival_percent(s));
		json_real("newest_s", age_s(t, s->newest_ns));
		json_real("oldest_s", age_s(t, s->oldest_ns));
		stack_as_json(&t->v, s->stack, t->symbols);
		json_end();
	}
	json_end();
	json_end();
}

int verb_leaks(const struct verb *verb, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "collapsed", no_argument, NULL, 'c' },
		{ "svg", no_argument, NULL, 's' },
		{ "older", required_argument, NULL, 'O' },
		{ NULL, 0, NULL, 0 },
	};
	struct task t = { .verb = verb, .older_ns = 10000000000u };
	int status = begin(&t, argc, argv, options, false);

	if (status != 0)
		return status;
	t.shares = calloc(t.v.nr_sites + 1, sizeof(*t.shares));
	if (t.shares != NULL)
		add_survivors(&t);
	if (!prepare(&t))
		status = EXIT_FAILURE;
	else if (t.form == FORM_JSON)
		leaks_as_json(&t);
	else if (t.form == FORM_TEXT)
		leaks_as_text(&t);
	else
		graph(&t, "survived");
	return end(&t, status);
}
