/*
 * pageblock record: runs a program with the recorder preloaded, and makes a trace of what the
 * recorder leaves (record/raw.h).
 *
 * Events are put in their order by their numbers, of which each is used once.  Addresses
 * become objects: an address is an object from the event that returned it to the one that
 * frees it.  A free of an address that no event returned is left out and counted; so is an
 * object whose address is returned again without a free, which then dies just before.
 */
#define _GNU_SOURCE
#include "tools/tool.h"

#include "tools/record/raw.h"
#include "tools/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	EXIT_OURS = 125, /* the program could not be started, or the trace not be made */
	EXIT_CANNOT_RUN = 126,
	EXIT_NOT_FOUND = 127
};

struct settings {
	const struct verb *verb;
	const char *output;
	const char *lib;
	bool children;
	bool sites;
	bool times;
	bool quiet;
	char directory[PATH_MAX];
};

/* --- addresses and objects --------------------------------------------------------------- */

/* Open addressing; a key of 0 is an empty place, and what is taken out is closed up. */
struct map {
	struct entry {
		uint64_t key, value;
	} * entries;
	size_t nr, mask;
};

static size_t map_home(const struct map *map, uint64_t key)
{
	return (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & map->mask;
}

static struct entry *map_find(const struct map *map, uint64_t key)
{
	size_t at = map_home(map, key);

	while (map->entries[at].key != 0 && map->entries[at].key != key)
		at = (at + 1) & map->mask;
	return &map->entries[at];
}

static bool map_grow(struct map *map)
{
	struct map larger = { .mask = map->entries != NULL ? 2 * map->mask + 1 : 1023 };

	larger.entries = calloc(larger.mask + 1, sizeof(*larger.entries));
	if (larger.entries == NULL)
		return false;
	for (size_t i = 0; map->entries != NULL && i <= map->mask; i++)
		if (map->entries[i].key != 0)
			*map_find(&larger, map->entries[i].key) = map->entries[i];
	larger.nr = map->nr;
	free(map->entries);
	*map = larger;
	return true;
}

static bool map_put(struct map *map, uint64_t key, uint64_t value)
{
	struct entry *entry;

	if (map->entries == NULL || map->nr >= map->mask / 2)
		if (!map_grow(map))
			return false;
	entry = map_find(map, key);
	map->nr += entry->key == 0;
	*entry = (struct entry){ key, value };
	return true;
}

static bool map_take(struct map *map, uint64_t key, uint64_t *value)
{
	struct entry *entry = map->entries != NULL ? map_find(map, key) : NULL;
	size_t hole, at;

	if (entry == NULL || entry->key == 0)
		return false;
	*value = entry->value;
	map->nr--;
	hole = at = (size_t)(entry - map->entries);
	for (;;) {
		at = (at + 1) & map->mask;
		if (map->entries[at].key == 0)
			break;
		/* It may move into the hole unless its home lies between the two. */
		if (((at - map_home(map, map->entries[at].key)) & map->mask) >=
		    ((at - hole) & map->mask)) {
			map->entries[hole] = map->entries[at];
			hole = at;
		}
	}
	map->entries[hole].key = 0;
	return true;
}

/* --- from a raw file to a trace ------------------------------------------------------------
 */

struct mapping {
	uint64_t start, end, offset;
	uint32_t module;
};

struct converter {
	const struct settings *settings;
	struct trace trace;
	const unsigned char *raw;
	size_t raw_bytes;
	const struct raw_event **in_order;
	uint64_t nr_places;
	double ticks_us;        /* ticks a microsecond */
	struct map objects;     /* address to object + 1 */
	struct map sites;       /* return address to site */
	uint64_t *reallocating; /* by thread: the object + 1 that is being reallocated */
	uint16_t *threads;      /* by recorder's number: the trace's + 1 */
	struct mapping *mappings;
	size_t nr_mappings;
	uint64_t nr_unknown; /* frees of what no event returned */
	uint64_t nr_unfreed; /* addresses returned again */
	uint32_t stopped;
	bool no_memory;
};

static const struct raw_chunk *chunk_at(const struct converter *c, size_t n)
{
	const struct raw_chunk *chunk =
		(const struct raw_chunk *)(const void *)(c->raw + n * RAW_CHUNK_BYTES);

	if ((n + 1) * RAW_CHUNK_BYTES > c->raw_bytes || chunk->magic != RAW_MAGIC)
		return NULL;
	return chunk;
}

static size_t nr_chunks(const struct converter *c)
{
	return c->raw_bytes / RAW_CHUNK_BYTES;
}

static void find_rate(struct converter *c, const struct raw_chunk *first)
{
	uint64_t ticks = first->end_ticks, ns = first->end_ns;

	for (size_t n = 1; n < nr_chunks(c); n++) {
		const struct raw_chunk *chunk = chunk_at(c, n);

		if (chunk != NULL && chunk->ns > ns) {
			ns = chunk->ns;
			ticks = chunk->ticks;
		}
	}
	/* Without a moment to tell it from, as most machines have it: about. */
	c->ticks_us = 2000;
	if (ns > first->ns + 100000)
		c->ticks_us = (double)(ticks - first->ticks) / (double)(ns - first->ns) * 1e3;
}

/* Places events by their numbers; some may be missing where the program was killed. */
static bool put_in_order(struct converter *c)
{
	uint64_t last = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t n = 0; n < nr_chunks(c); n++) {
			const struct raw_chunk *chunk = chunk_at(c, n);
			const struct raw_event *e;

			if (chunk == NULL || chunk->kind != RAW_EVENTS)
				continue;
			e = (const struct raw_event *)(chunk + 1);
			for (size_t i = 0; i < RAW_EVENTS_MAX && e[i].order != 0; i++) {
				uint64_t place = e[i].order >> 16;

				if (pass == 0)
					last = place > last ? place : last;
				else
					c->in_order[place] = &e[i];
			}
		}
		if (pass == 0) {
			/* More places than there is room for in the file cannot be. */
			if (last > 2 * (c->raw_bytes / sizeof(struct raw_event)) + 1024)
				return false;
			c->nr_places = last + 1;
			c->in_order = calloc(last + 1, sizeof(c->in_order[0]));
			if (c->in_order == NULL)
				return false;
		}
	}
	return true;
}

static uint32_t find_module(struct trace *t, const char *name)
{
	char **modules;

	for (uint32_t i = 0; i < t->nr_modules; i++)
		if (strcmp(t->modules[i], name) == 0)
			return i;
	modules = realloc(t->modules, (t->nr_modules + 1) * sizeof(modules[0]));
	if (modules == NULL)
		return 0;
	t->modules = modules;
	modules[t->nr_modules] = strdup(name);
	if (modules[t->nr_modules] == NULL)
		return 0;
	return t->nr_modules++;
}

static void read_mapping(struct converter *c, const char *line)
{
	char name[PATH_MAX] = "[anonymous]";
	struct mapping m, *grown;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %*s %*s %4095s", &m.start,
		   &m.end, &m.offset, name) < 3)
		return;
	for (size_t i = 0; i < c->nr_mappings; i++)
		if (c->mappings[i].start == m.start && c->mappings[i].end == m.end)
			return;
	grown = realloc(c->mappings, (c->nr_mappings + 1) * sizeof(m));
	if (grown == NULL)
		return;
	m.module = find_module(&c->trace, name);
	c->mappings = grown;
	c->mappings[c->nr_mappings++] = m;
}

/* The last look at the mappings is the first to be believed. */
static void read_maps(struct converter *c)
{
	for (size_t n = nr_chunks(c); n-- > 0;) {
		const struct raw_chunk *chunk = chunk_at(c, n);
		char *text, *rest, *line;

		if (chunk == NULL || chunk->kind != RAW_MAPS)
			continue;
		text = strndup((const char *)(chunk + 1), RAW_CHUNK_BYTES - sizeof(*chunk));
		if (text == NULL)
			return;
		for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
			read_mapping(c, line);
		free(text);
	}
}

/* The number of a return address in the trace; 0 when it is in no mapping. */
static uint32_t find_site(struct converter *c, uint64_t address)
{
	struct trace *t = &c->trace;
	const struct mapping *m = NULL;
	uint32_t known = t->nr_sites;
	struct entry *entry;

	if (c->sites.entries != NULL) {
		entry = map_find(&c->sites, address);
		if (entry->key == address)
			return (uint32_t)entry->value;
	}
	for (size_t i = 0; m == NULL && i < c->nr_mappings; i++)
		if (address >= c->mappings[i].start && address < c->mappings[i].end)
			m = &c->mappings[i];
	if (m == NULL)
		return 0;
	if ((known & (known - 1)) == 0) {
		struct trace_site *grown =
			realloc(t->sites, (known > 0 ? 2 * known : 1) * sizeof(*grown));

		if (grown == NULL)
			return 0;
		t->sites = grown;
	}
	t->sites[known] = (struct trace_site){ m->module, address - m->start + m->offset };
	t->nr_sites = known + 1;
	c->no_memory |= !map_put(&c->sites, address, known + 1);
	return known + 1;
}

static struct trace_event *emit(struct converter *c, const struct raw_event *raw, unsigned op)
{
	struct trace *t = &c->trace;
	struct trace_event *e = &t->events[t->nr_events++];
	uint32_t thread = (uint32_t)(raw->addr >> 48);
	double think = (double)raw_think_ticks(raw->size >> 48) / c->ticks_us;

	if (c->threads[thread] == 0)
		c->threads[thread] = (uint16_t)++t->nr_threads;
	*e = (struct trace_event){ .op = (uint8_t)op,
				   .thread = (uint16_t)(c->threads[thread] - 1),
				   .think_us = think < 4e9 ? (uint32_t)think : UINT32_MAX };
	return e;
}

static void emit_birth(struct converter *c, const struct raw_event *raw, unsigned op)
{
	struct trace *t = &c->trace;
	uint64_t addr = raw->addr & 0xffffffffffff;
	uint64_t lost, *from = &c->reallocating[raw->addr >> 48];
	struct trace_event *e;

	if (map_take(&c->objects, addr, &lost)) {
		e = emit(c, raw, TRACE_FREE);
		e->object = (uint32_t)(lost - 1);
		c->nr_unfreed++;
	}
	if (op == TRACE_REALLOC && *from == 0)
		op = TRACE_MALLOC;
	e = emit(c, raw, op);
	e->object = t->nr_objects++;
	e->size = raw->size & 0xffffffffffff;
	e->align_log2 = op == TRACE_ALIGNED ? raw->order >> 4 & 31 : 0;
	if (op == TRACE_REALLOC) {
		e->from = (uint32_t)(*from - 1);
		*from = 0;
	}
	if (c->settings->sites)
		e->site = find_site(c, raw->site);
	c->no_memory |= !map_put(&c->objects, addr, e->object + 1u);
}

static void convert_event(struct converter *c, const struct raw_event *raw)
{
	uint64_t addr = raw->addr & 0xffffffffffff;
	uint64_t object, *from = &c->reallocating[raw->addr >> 48];
	unsigned op = raw->order & 15;

	switch (op) {
	case TRACE_MALLOC:
	case TRACE_CALLOC:
	case TRACE_ALIGNED:
	case TRACE_REALLOC:
		emit_birth(c, raw, op);
		break;
	case TRACE_FREE:
		if (map_take(&c->objects, addr, &object))
			emit(c, raw, TRACE_FREE)->object = (uint32_t)(object - 1);
		else
			c->nr_unknown++;
		break;
	case RAW_REALLOC_FROM:
		if (!map_take(&c->objects, addr, from)) {
			*from = 0;
			c->nr_unknown++;
		}
		break;
	case RAW_REALLOC_FAILED:
		if (*from != 0)
			c->no_memory |= !map_put(&c->objects, addr, *from);
		*from = 0;
		break;
	case TRACE_END:
		emit(c, raw, TRACE_END);
		break;
	default:
		break;
	}
}

static bool convert(struct converter *c)
{
	struct trace *t = &c->trace;

	const struct raw_chunk *first = nr_chunks(c) > 0 ? chunk_at(c, 0) : NULL;

	if (first == NULL)
		return false;
	t->flags = (c->settings->sites ? TRACE_SITES : 0u) |
		   (c->settings->times ? TRACE_TIMES : 0u);
	t->program = strndup(first->program, sizeof(first->program));
	c->stopped = first->stopped;
	find_rate(c, first);
	if (c->settings->sites)
		read_maps(c);
	if (!put_in_order(c))
		return false;
	/* An event may become two. */
	t->events = calloc(2 * c->nr_places + 1, sizeof(t->events[0]));
	c->reallocating = calloc(TRACE_THREADS_MAX + 1, sizeof(c->reallocating[0]));
	c->threads = calloc(TRACE_THREADS_MAX + 1, sizeof(c->threads[0]));
	if (t->events == NULL || c->reallocating == NULL || c->threads == NULL)
		return false;
	for (uint64_t i = 0; i < c->nr_places; i++)
		if (c->in_order[i] != NULL)
			convert_event(c, c->in_order[i]);
	return !c->no_memory;
}

static void converter_free(struct converter *c)
{
	trace_free(&c->trace);
	free(c->in_order);
	free(c->objects.entries);
	free(c->sites.entries);
	free(c->reallocating);
	free(c->threads);
	free(c->mappings);
}

/* --- files ---------------------------------------------------------------------------------
 */

static void say_what(const struct converter *c, const char *output)
{
	const struct verb *verb = c->settings->verb;
	struct stat st;

	if (c->stopped != 0)
		complain(verb, "%s: the recording stopped early: %s", output,
			 strerror((int)c->stopped));
	if (c->settings->quiet)
		return;
	fprintf(stderr, "%s: %" PRIu64 " events, %u objects, %u thread%s, %.1f KiB", output,
		c->trace.nr_events, c->trace.nr_objects, c->trace.nr_threads,
		c->trace.nr_threads == 1 ? "" : "s",
		stat(output, &st) == 0 ? (double)st.st_size / 1024 : 0.0);
	if (c->nr_unknown + c->nr_unfreed > 0)
		fprintf(stderr,
			"; %" PRIu64 " frees of blocks it did not see, %" PRIu64
			" blocks whose free it did not see",
			c->nr_unknown, c->nr_unfreed);
	fputc('\n', stderr);
}

/* Writes the trace of a raw file; false after a complaint. */
static bool write_trace(const struct settings *settings, const char *raw, const char *output)
{
	struct converter c = { .settings = settings };
	int fd = open(raw, O_RDONLY | O_CLOEXEC);
	struct stat st;
	FILE *file = NULL;
	void *bytes = MAP_FAILED;
	bool ok = false;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes != MAP_FAILED) {
		c.raw = bytes;
		c.raw_bytes = (size_t)st.st_size;
		ok = convert(&c);
	}
	if (!ok) {
		complain(settings->verb, "%s: what was recorded makes no sense or is too much",
			 output);
	} else {
		file = fopen(output, "we");
		ok = file != NULL && trace_save(&c.trace, file);
		if (file != NULL && fclose(file) != 0)
			ok = false;
		if (ok)
			say_what(&c, output);
		else
			complain(settings->verb, "cannot write %s: %s", output,
				 strerror(errno));
	}
	converter_free(&c);
	if (bytes != MAP_FAILED)
		munmap(bytes, c.raw_bytes);
	if (fd >= 0)
		close(fd);
	return ok;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/*
 * The last image of the program's process is the trace asked for; others, with --children,
 * are written beside it.  The directory is removed.
 */
static bool collect(const struct settings *settings, pid_t pid)
{
	struct dirent **entries;
	int nr = scandir(settings->directory, &entries, visible, by_name);
	char main_name[300] = "", path[2 * PATH_MAX], output[PATH_MAX + 300];
	bool ok = true;

	for (int i = 0; i < nr; i++)
		if (atol(entries[i]->d_name) == (long)pid)
			snprintf(main_name, sizeof(main_name), "%s", entries[i]->d_name);
	if (main_name[0] == '\0') {
		complain(settings->verb, "nothing was recorded: is the program statically "
					 "linked, or set-user-ID?");
		ok = false;
	}
	for (int i = 0; i < nr; i++) {
		const char *name = entries[i]->d_name;

		snprintf(path, sizeof(path), "%s/%s", settings->directory, name);
		if (strcmp(name, main_name) == 0)
			ok &= write_trace(settings, path, settings->output);
		else if (settings->children) {
			snprintf(output, sizeof(output), "%s.%s", settings->output, name);
			ok &= write_trace(settings, path, output);
		}
		unlink(path);
		free(entries[i]);
	}
	if (nr >= 0)
		free(entries);
	rmdir(settings->directory);
	return ok;
}

/* --- running ---------------------------------------------------------------------------------
 */

_Noreturn static void become(const struct settings *settings, char **argv)
{
	char *preload = NULL, pid[24];
	const char *before = getenv("LD_PRELOAD");
	int error;

	snprintf(pid, sizeof(pid), "%ld", settings->children ? 0 : (long)getpid());
	if (asprintf(&preload, "%s%s%s", settings->lib, before != NULL ? ":" : "",
		     before != NULL ? before : "") < 0 ||
	    setenv("LD_PRELOAD", preload, 1) != 0 ||
	    setenv("PAGEBLOCK_RECORD_PID", pid, 1) != 0 ||
	    setenv("PAGEBLOCK_RECORD", settings->directory, 1) != 0)
		_exit(EXIT_OURS);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	execvp(argv[0], argv);
	error = errno;
	complain(settings->verb, "%s: %s", argv[0], strerror(error));
	_exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

/* The recorder: beside this program, or in ../lib. */
static bool find_recorder(char *path)
{
	static const char *const places[] = { "", "../lib/" };
	char self[PATH_MAX], candidate[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		return false;
	self[len] = '\0';
	*(strrchr(self, '/') + 1) = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(candidate, sizeof(candidate), "%s%slibpageblock-record.so", self,
			 places[i]);
		if (realpath(candidate, path) != NULL)
			return strpbrk(path, " :") == NULL;
	}
	return false;
}

/* Runs it to its end; the exit status as a shell has it. */
static int run(const struct settings *settings, char **argv, pid_t *pid)
{
	int status;

	/* They are meant for the program: what it did until then is still wanted. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	*pid = fork();
	if (*pid == 0)
		become(settings, argv);
	if (*pid < 0) {
		complain(settings->verb, "cannot start a process: %s", strerror(errno));
		return EXIT_OURS;
	}
	while (waitpid(*pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_OURS;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Where the trace goes, in full: the program may change its directory. */
static bool prepare(struct settings *settings, const char *program)
{
	static char output[PATH_MAX];
	const char *name = strrchr(program, '/') != NULL ? strrchr(program, '/') + 1 : program;
	const char *slash;

	if (settings->output == NULL) {
		snprintf(output, sizeof(output), "%s.pbt", name);
		settings->output = output;
	}
	slash = strrchr(settings->output, '/');
	if (slash == NULL && getcwd(settings->directory, sizeof(settings->directory)) == NULL)
		return false;
	if (slash != NULL) {
		char *folder =
			strndup(settings->output, (size_t)(slash - settings->output) + 1);

		if (folder == NULL || realpath(folder, settings->directory) == NULL) {
			free(folder);
			return false;
		}
		free(folder);
	}
	if (strlen(settings->directory) + 32 > sizeof(settings->directory))
		return false;
	strcat(settings->directory, "/.pageblock-record-XXXXXX");
	return mkdtemp(settings->directory) != NULL;
}

int verb_record(const struct verb *verb, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "children", no_argument, NULL, 'c' },
		{ "no-sites", no_argument, NULL, 's' },
		{ "no-times", no_argument, NULL, 't' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "lib", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	struct settings settings = { .verb = verb, .sites = true, .times = true };
	static char lib[PATH_MAX];
	int c, status;
	pid_t pid = 0;

	while ((c = getopt_long(argc, argv, "+o:q", long_options, NULL)) != -1) {
		if (c == 'o')
			settings.output = optarg;
		else if (c == 'c')
			settings.children = true;
		else if (c == 's')
			settings.sites = false;
		else if (c == 't')
			settings.times = false;
		else if (c == 'q')
			settings.quiet = true;
		else if (c == 'l')
			settings.lib = optarg;
		else
			return usage(verb);
	}
	if (optind == argc)
		return usage(verb);
	if (settings.lib != NULL ? realpath(settings.lib, lib) == NULL : !find_recorder(lib)) {
		complain(verb,
			 settings.lib != NULL
				 ? "there is no such recorder"
				 : "libpageblock-record.so is neither beside this program "
				   "nor in ../lib; say where with --lib");
		return EXIT_OURS;
	}
	settings.lib = lib;
	if (!prepare(&settings, argv[optind])) {
		complain(verb, "cannot write where %s shall be: %s",
			 settings.output != NULL ? settings.output : "the trace",
			 strerror(errno));
		return EXIT_OURS;
	}
	status = run(&settings, argv + optind, &pid);
	if (status == EXIT_NOT_FOUND || status == EXIT_CANNOT_RUN) {
		/* It never began, unless there is something after all. */
		if (rmdir(settings.directory) == 0)
			return status;
	}
	if (!collect(&settings, pid))
		return EXIT_OURS;
	return status;
}
