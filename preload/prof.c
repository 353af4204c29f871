/* Heap profiles and leak reports; see prof.h. */
#define _GNU_SOURCE
#include "preload/prof.h"

#include "preload/config.h"
#include "preload/export.h"
#include "preload/pageblock.h"
#include "preload/text.h"
#include "preload/unwind.h"
#include "shim/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Stacks that a leak report names. */
#define LEAKS_SHOWN 20u
#define LEAK_FRAMES_SHOWN 24u

static void complain(const char *what)
{
	struct text t;

	t.len = 0;
	text_string(&t, "pageblock: prof: ");
	text_string(&t, what);
	text_end_line(&t);
	text_write(&t, STDERR_FILENO);
}

void prof_start(void)
{
	if (!unwind_load()) {
		complain("there is neither libunwind.so.8 nor libgcc_s.so.1: no profile");
		return;
	}
	if (shim_sample_setup(config_value(OPT_prof_sample), unwind_stack) != 0) {
		complain("no address space for the samples: no profile");
		return;
	}
	(void)shim_sample_switch(config_value(OPT_prof_active) != 0);
}

/* --- writing ---------------------------------------------------------------------------- */

/* Text of any length, written out when the buffer is half full. */
struct writer {
	int fd;
	struct text t;
};

static void flush(struct writer *w)
{
	text_write(&w->t, w->fd);
	w->t.len = 0;
}

static void flush_if_long(struct writer *w)
{
	if (w->t.len > TEXT_BYTES / 2)
		flush(w);
}

/* What the process has mapped, as pprof wants to have it to name addresses. */
static void copy_maps(struct writer *w)
{
	ssize_t n;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	text_string(&w->t, "\nMAPPED_LIBRARIES:\n");
	flush(w);
	if (fd < 0)
		return;
	while ((n = read(fd, w->t.bytes, sizeof(w->t.bytes))) > 0) {
		w->t.len = (size_t)n;
		flush(w);
	}
	close(fd);
}

/* --- the form google-pprof reads -----------------------------------------------------------
 */

/* live objects: bytes [allocated objects: bytes] @ */
static void counts(struct text *t, const struct shim_site *s)
{
	text_number(t, s->nr_live, 6);
	text_string(t, ": ");
	text_number(t, s->bytes_live, 8);
	text_string(t, " [");
	text_number(t, s->nr_allocated, 6);
	text_string(t, ": ");
	text_number(t, s->bytes_allocated, 8);
	text_string(t, "] @");
}

void prof_write(int fd)
{
	struct shim_site site, all = { .nr_live = 0 };
	struct shim_samples samples;
	struct writer w = { .fd = fd };
	const uint64_t *frames;

	shim_sample_read(&samples);
	for (uint32_t i = 1; shim_sample_site(i, &site, &frames); i++) {
		all.nr_live += site.nr_live;
		all.bytes_live += site.bytes_live;
		all.nr_allocated += site.nr_allocated;
		all.bytes_allocated += site.bytes_allocated;
	}
	w.t.len = 0;
	text_string(&w.t, "heap profile: ");
	counts(&w.t, &all);
	text_string(&w.t, " heap_v2/");
	text_number(&w.t, samples.rate, 0);
	text_end_line(&w.t);
	for (uint32_t i = 1; shim_sample_site(i, &site, &frames); i++) {
		counts(&w.t, &site);
		for (uint32_t k = 0; k < site.nr_frames; k++) {
			text_char(&w.t, ' ');
			text_address(&w.t, frames[k]);
			flush_if_long(&w);
		}
		text_end_line(&w.t);
		flush_if_long(&w);
	}
	copy_maps(&w);
}

int prof_write_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	prof_write(fd);
	return close(fd) == 0 ? 0 : errno;
}

EXPORT int pb_prof_write(const char *path)
{
	struct shim_samples samples;
	int err;

	shim_sample_read(&samples);
	err = samples.rate == 0 ? ENODATA : prof_write_file(path);
	if (err == 0)
		return 0;
	errno = err;
	return -1;
}

/* --- leaks ---------------------------------------------------------------------------------
 */

/* All live samples of one stack. */
struct leak {
	uint32_t stack;
	uint64_t nr, bytes, weight;
	double variance; /* of weight */
};

static uint64_t square_root(double x)
{
	double root = x > 1 ? x : 1;

	for (int i = 0; i < 200 && root * root > x * 1.000001; i++)
		root = (root + x / root) / 2;
	return (uint64_t)root;
}

static void leak_add(struct leak *leak, const struct shim_site *site)
{
	double w = (double)site->weight_live;

	if (site->nr_live == 0)
		return;
	leak->nr += site->nr_live;
	leak->bytes += site->bytes_live;
	leak->weight += site->weight_live;
	/* Of a sum of nr weights w / nr, each drawn with the chance bytes / w. */
	leak->variance += w * w / (double)site->nr_live * (1 - (double)site->bytes_live / w);
}

/* Reads the live samples into leaks[nr_sites + 1], one for each stack; how many bytes. */
static uint64_t collect_leaks(struct leak *leaks, uint64_t nr_sites)
{
	struct shim_site site;
	const uint64_t *frames;
	uint64_t weight = 0;

	memset(leaks, 0, (nr_sites + 1) * sizeof(*leaks));
	for (uint32_t i = 1; i <= nr_sites && shim_sample_site(i, &site, &frames); i++) {
		leaks[site.stack].stack = site.stack;
		leak_add(&leaks[site.stack], &site);
		weight += site.weight_live;
	}
	return weight;
}

/* Takes the largest out; one without weight: there is none left. */
static struct leak take_largest(struct leak *leaks, uint64_t nr_sites)
{
	struct leak *largest = &leaks[0], taken;

	for (uint64_t i = 1; i <= nr_sites; i++) {
		if (leaks[i].weight > largest->weight)
			largest = &leaks[i];
	}
	taken = *largest;
	largest->weight = 0;
	return taken;
}

static void write_frame(struct writer *w, uint64_t address)
{
	Dl_info info;
	/* It is where the call returns to; the call may be a function's last instruction. */
	const char *call = (const char *)(uintptr_t)address - 1;

	text_string(&w->t, "    ");
	text_address(&w->t, address);
	if (dladdr(call, &info) != 0 && info.dli_fname != NULL) {
		text_char(&w->t, ' ');
		if (info.dli_sname != NULL) {
			text_string(&w->t, info.dli_sname);
			text_string(&w->t, " + ");
			text_number(&w->t, (uint64_t)(call + 1 - (const char *)info.dli_saddr),
				    0);
			text_string(&w->t, " in ");
		}
		text_string(&w->t, info.dli_fname);
		text_string(&w->t, " + ");
		text_address(&w->t, (uint64_t)(call + 1 - (const char *)info.dli_fbase));
	}
	text_end_line(&w->t);
	flush_if_long(w);
}

static void write_leak(struct writer *w, const struct leak *leak)
{
	struct shim_site site;
	const uint64_t *frames;

	text_string(&w->t, "pageblock: leak: about ");
	text_size(&w->t, leak->weight);
	text_string(&w->t, " (give or take ");
	text_size(&w->t, 2 * square_root(leak->variance));
	text_string(&w->t, "), ");
	text_number(&w->t, leak->nr, 0);
	text_string(&w->t, leak->nr == 1 ? " sample" : " samples");
	text_string(&w->t, ", allocated by");
	text_end_line(&w->t);
	(void)shim_sample_site(leak->stack, &site, &frames);
	if (site.nr_frames == 0) {
		text_string(&w->t, "    an unknown stack");
		text_end_line(&w->t);
	}
	for (uint32_t k = 0; k < site.nr_frames && k < LEAK_FRAMES_SHOWN; k++)
		write_frame(w, frames[k]);
}

static void write_head(struct writer *w, const struct shim_samples *samples, uint64_t weight)
{
	text_string(&w->t, "pageblock: leaks: about ");
	text_size(&w->t, weight);
	text_string(&w->t, " not freed at exit, by ");
	text_number(&w->t, samples->nr_live, 0);
	text_string(&w->t, " samples, one in ");
	text_size(&w->t, samples->rate);
	text_string(&w->t, " bytes; a place that leaks less than ");
	text_size(&w->t, samples->rate * 3);
	text_string(&w->t, " in all may be missing (5 %), below ");
	text_size(&w->t, samples->rate / 20 > 0 ? samples->rate / 20 : 1);
	text_string(&w->t, " it mostly is");
	text_end_line(&w->t);
}

void prof_write_leaks(int fd)
{
	struct writer w = { .fd = fd };
	struct shim_samples samples;
	struct leak *leaks, leak;
	uint64_t weight;

	shim_sample_read(&samples);
	if (samples.rate == 0)
		return;
	leaks = shim_malloc((samples.nr_sites + 1) * sizeof(*leaks));
	if (leaks == NULL)
		return;
	weight = collect_leaks(leaks, samples.nr_sites);
	w.t.len = 0;
	write_head(&w, &samples, weight);
	for (unsigned n = 0; n < LEAKS_SHOWN; n++) {
		leak = take_largest(leaks, samples.nr_sites);
		if (leak.weight == 0)
			break;
		write_leak(&w, &leak);
		weight -= leak.weight;
	}
	if (weight > 0) {
		text_string(&w.t, "pageblock: leak: about ");
		text_size(&w.t, weight);
		text_string(&w.t, " by other stacks");
		text_end_line(&w.t);
	}
	flush(&w);
	shim_free(leaks);
}

/* --- the end ----------------------------------------------------------------------------- */

static void write_final(int fd)
{
	struct text path, line;
	int err;

	path.len = 0;
	text_string(&path, "pageblock.");
	text_number(&path, (uint64_t)getpid(), 0);
	text_string(&path, ".heap");
	path.bytes[path.len] = '\0';
	err = prof_write_file(path.bytes);
	line.len = 0;
	text_string(&line, "pageblock: prof: ");
	text_string(&line, path.bytes);
	text_string(&line, err == 0 ? " written" : " cannot be written");
	text_end_line(&line);
	if (fd >= 0)
		text_write(&line, fd);
}

void prof_end(int fd)
{
	struct shim_samples samples;

	shim_sample_read(&samples);
	if (samples.rate == 0)
		return;
	(void)shim_sample_switch(false);
	if (config_value(OPT_prof_final))
		write_final(fd);
	if (config_value(OPT_leak_report) && fd >= 0)
		prof_write_leaks(fd);
}
