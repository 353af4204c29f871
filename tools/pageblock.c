/*
 * pageblock, the program beside the library: runs programs on it and tells about it.
 *
 * A verb is a row of verbs[]; its function gets its own arguments and returns the exit
 * status.  `pageblock help` and pageblock.1 are made of the same rows.
 */
#define _GNU_SOURCE
#include "preload/options.h"

#include "core/util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum exit_status {
	EXIT_USAGE = 2,
	EXIT_OURS = 125,       /* run: before the program was started, as env(1) has it */
	EXIT_CANNOT_RUN = 126, /* run: the program is there but cannot be run */
	EXIT_NOT_FOUND = 127
};

struct verb {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *details; /* full sentences; a line that begins with '-' starts an option */
	int (*run)(const struct verb *verb, int argc, char **argv);
};

static int verb_run(const struct verb *verb, int argc, char **argv);
static int verb_options(const struct verb *verb, int argc, char **argv);
static int verb_version(const struct verb *verb, int argc, char **argv);
static int verb_help(const struct verb *verb, int argc, char **argv);

static const struct verb verbs[] = {
	{ "run", "[--conf NAME:VALUE,...] [--lib PATH] [--] PROGRAM [ARGUMENT...]",
	  "Run a program with the library preloaded.",
	  "The library is put before whatever LD_PRELOAD has, and PROGRAM takes the place "
	  "of this process.  Without --lib it is looked for in the directory of this program "
	  "and in lib beside that.\n"
	  "--conf NAME:VALUE,...\n"
	  "Sets options; they come after what PAGEBLOCK_CONF says and so override it.  A "
	  "mistake in them is an error here.\n"
	  "--lib PATH\n"
	  "Preloads this library.\n",
	  verb_run },
	{ "options", "[--json]", "Show the options of PAGEBLOCK_CONF.",
	  "One line an option: its name, type, default, range and what it does.\n"
	  "--json\n"
	  "Writes an array with one object an option; sizes are in bytes and times in "
	  "nanoseconds.\n",
	  verb_options },
	{ "version", "", "Show the version.", "", verb_version },
	{ "help", "[VERB]", "Show what there is, or how a verb is used.", "", verb_help },
};
#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

/* --- messages ------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void complain(const struct verb *verb,
							   const char *format, ...)
{
	va_list args;

	fputs("pageblock", stderr);
	if (verb != NULL)
		fprintf(stderr, " %s", verb->name);
	fputs(": ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static int usage(const struct verb *verb)
{
	if (verb != NULL)
		fprintf(stderr, "usage: pageblock %s %s\n", verb->name, verb->arguments);
	else
		fprintf(stderr, "usage: pageblock VERB [ARGUMENT...]; see pageblock help\n");
	return EXIT_USAGE;
}

/* Output is done: an error in it is an error of the program. */
static int finish(const struct verb *verb)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_SUCCESS;
	complain(verb, "cannot write: %s", strerror(errno));
	return EXIT_FAILURE;
}

/* --- run ------------------------------------------------------------------------------- */

/* The library's path in path[PATH_MAX]; false when it is in neither place. */
static bool find_library(char *path)
{
	static const char *const places[] = { "", "../lib/" };
	char self[PATH_MAX], candidate[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		return false;
	self[len] = '\0';
	*(strrchr(self, '/') + 1) = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(candidate, sizeof(candidate), "%s%slibpageblock.so", self, places[i]);
		if (realpath(candidate, path) != NULL)
			return true;
	}
	return false;
}

/* name=first, separator and what the variable has already, or just one of the two. */
static bool prepend(const char *name, const char *first, const char *separator,
		    const char *second)
{
	char *value;

	if (first == NULL || second == NULL || *second == '\0')
		return setenv(name, first != NULL ? first : second, 1) == 0;
	if (asprintf(&value, "%s%s%s", first, separator, second) < 0)
		return false;

	bool ok = setenv(name, value, 1) == 0;

	free(value);
	return ok;
}

static void complain_conf(const struct text *line)
{
	fwrite(line->bytes, 1, line->len, stderr);
}

/* The library cannot be preloaded into a program that has no dynamic linker: says so. */
static void warn_if_static(const struct verb *verb, const char *file)
{
	Elf64_Ehdr header;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	bool interpreted = false;

	if (fd < 0)
		return;
	if (pread(fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
	    memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
	    header.e_ident[EI_CLASS] == ELFCLASS64) {
		for (unsigned i = 0; i < header.e_phnum; i++) {
			Elf64_Phdr segment;
			off_t at = (off_t)(header.e_phoff + (uint64_t)i * header.e_phentsize);

			if (pread(fd, &segment, sizeof(segment), at) !=
			    (ssize_t)sizeof(segment))
				break;
			interpreted |= segment.p_type == PT_INTERP;
		}
		if (!interpreted)
			complain(verb, "%s is statically linked and will not use the library",
				 file);
	}
	close(fd);
}

/* As execvp would find it: the first executable file of that name in PATH. */
static void check_program(const struct verb *verb, const char *program)
{
	const char *path = getenv("PATH");
	char file[PATH_MAX];

	if (strchr(program, '/') != NULL) {
		warn_if_static(verb, program);
		return;
	}
	while (path != NULL && *path != '\0') {
		int len = (int)strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", len, path, program);
		if (access(file, X_OK) == 0) {
			warn_if_static(verb, file);
			return;
		}
		path += len + (path[len] == ':');
	}
}

/* Sets the environment for the library; 0 or an exit status. */
static int prepare_run(const struct verb *verb, const char *lib, const char *conf)
{
	char path[PATH_MAX];
	struct options ignored;

	if (lib != NULL && (realpath(lib, path) == NULL || access(path, R_OK) != 0)) {
		complain(verb, "cannot use %s: %s", lib, strerror(errno));
		return EXIT_OURS;
	}
	if (lib == NULL && !find_library(path)) {
		complain(verb, "libpageblock.so is neither beside this program nor in ../lib; "
			       "say where with --lib");
		return EXIT_OURS;
	}
	if (strpbrk(path, " :") != NULL) {
		complain(verb, "%s: the dynamic linker takes no path with a space or a colon",
			 path);
		return EXIT_OURS;
	}
	if (conf != NULL && options_parse(&ignored, conf, "run: --conf", complain_conf) > 0)
		return EXIT_USAGE;
	if (!prepend("LD_PRELOAD", path, ":", getenv("LD_PRELOAD")) ||
	    (conf != NULL && !prepend("PAGEBLOCK_CONF", getenv("PAGEBLOCK_CONF"), ",", conf))) {
		complain(verb, "cannot set the environment: %s", strerror(errno));
		return EXIT_OURS;
	}
	return 0;
}

static int verb_run(const struct verb *verb, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "lib", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	const char *lib = NULL, *conf = NULL;
	int c, status;

	/* "+": what follows the program's name is the program's. */
	while ((c = getopt_long(argc, argv, "+", long_options, NULL)) != -1) {
		if (c == 'c')
			conf = optarg;
		else if (c == 'l')
			lib = optarg;
		else
			return usage(verb);
	}
	if (optind == argc)
		return usage(verb);
	status = prepare_run(verb, lib, conf);
	if (status != 0)
		return status;
	check_program(verb, argv[optind]);
	execvp(argv[optind], argv + optind);
	status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	complain(verb, "%s: %s", argv[optind], strerror(errno));
	return status;
}

/* --- options ----------------------------------------------------------------------------- */

static const char *option_default(struct text *t, enum option_id which)
{
	t->len = 0;
	options_text_value(t, which, option_info[which].standard);
	t->bytes[t->len] = '\0';
	return t->bytes;
}

static const char *option_range(struct text *t, enum option_id which)
{
	t->len = 0;
	options_text_range(t, which);
	t->bytes[t->len] = '\0';
	return t->bytes;
}

static void option_as_text(enum option_id which)
{
	const struct option_info *o = &option_info[which];
	struct text d, r;

	printf("%-12s %-5s default %-6s %s\n    %s\n", o->name, options_type_name(o->type),
	       option_default(&d, which), option_range(&r, which), o->help);
}

static void option_as_markdown(enum option_id which)
{
	const struct option_info *o = &option_info[which];
	struct text d, r;

	if (which == 0)
		puts("| option | type | default | values | what it does |\n"
		     "|---|---|---|---|---|");
	printf("| `%s` | %s | `%s` | ", o->name, options_type_name(o->type),
	       option_default(&d, which));
	/* A bar inside a table's cell must be written apart. */
	for (const char *s = option_range(&r, which); *s != '\0'; s++)
		fputs(*s == '|' ? ", " : (char[]){ *s, '\0' }, stdout);
	printf(" | %s |\n", o->help);
}

/* A line that the formatter must not take for a request. */
static void roff_line(const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", stdout);
	for (; *s != '\0'; s++) {
		if (*s == '-')
			fputs("\\-", stdout);
		else if (*s == '\\')
			fputs("\\e", stdout);
		else
			putchar(*s);
	}
	putchar('\n');
}

static void option_as_roff(enum option_id which)
{
	const struct option_info *o = &option_info[which];
	struct text d, r;

	printf(".TP\n.BR %s \" (%s, default %s)\"\n", o->name, options_type_name(o->type),
	       option_default(&d, which));
	printf("%c", o->help[0] & ~0x20);
	roff_line(o->help + 1);
	fputs(".br\nValues: ", stdout);
	roff_line(option_range(&r, which));
}

static void option_as_json(enum option_id which)
{
	const struct option_info *o = &option_info[which];
	struct text d, r;

	printf("%s  {\"name\": \"%s\", \"type\": \"%s\", \"default\": \"%s\", ",
	       which == 0 ? "[\n" : ",\n", o->name, options_type_name(o->type),
	       option_default(&d, which));
	if (o->type == OPTION_ENUM) {
		fputs("\"values\": [", stdout);
		for (unsigned i = 0; options_choice(which, i) != NULL; i++)
			printf("%s\"%s\"", i > 0 ? ", " : "", options_choice(which, i));
		fputs("], ", stdout);
	} else if (o->type != OPTION_BOOL) {
		printf("\"default_number\": %llu, \"min\": %llu, \"max\": %llu, ",
		       (unsigned long long)o->standard, (unsigned long long)o->least,
		       (unsigned long long)o->most);
	}
	printf("\"range\": \"%s\", \"help\": \"%s\"}%s", option_range(&r, which), o->help,
	       which == NR_OPTIONS - 1 ? "\n]\n" : "");
}

static int verb_options(const struct verb *verb, int argc, char **argv)
{
	/* The last two are for tools/generate. */
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "markdown", no_argument, NULL, 'm' },
		{ "roff", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	void (*show)(enum option_id which) = option_as_text;
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'j')
			show = option_as_json;
		else if (c == 'm')
			show = option_as_markdown;
		else if (c == 'r')
			show = option_as_roff;
		else
			return usage(verb);
	}
	if (optind != argc)
		return usage(verb);
	for (unsigned i = 0; i < NR_OPTIONS; i++)
		show((enum option_id)i);
	return finish(verb);
}

/* --- version and help -------------------------------------------------------------------- */

static int verb_version(const struct verb *verb, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return usage(verb);
	printf("pageblock %s\n", PB_VERSION);
	return finish(verb);
}

/* Insertions, deletions and changes that make one word the other, up to 3. */
static unsigned distance(const char *a, const char *b, unsigned most)
{
	if (*a == *b)
		return *a == '\0' ? 0 : distance(a + 1, b + 1, most);
	if (most == 0)
		return 1;

	unsigned best = most;
	unsigned tries[] = {
		*a != '\0' ? distance(a + 1, b, most - 1) : most,
		*b != '\0' ? distance(a, b + 1, most - 1) : most,
		*a != '\0' && *b != '\0' ? distance(a + 1, b + 1, most - 1) : most,
	};

	for (unsigned i = 0; i < 3; i++)
		best = tries[i] < best ? tries[i] : best;
	return best + 1;
}

static const struct verb *find_verb(const char *name)
{
	const struct verb *nearest = NULL;
	unsigned limit = 3;

	for (size_t i = 0; i < NR_VERBS; i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];

		unsigned d = distance(verbs[i].name, name, limit);

		if (d < limit) {
			nearest = &verbs[i];
			limit = d;
		}
	}
	if (nearest != NULL)
		complain(NULL, "there is no verb \"%s\"; did you mean \"%s\"?", name,
			 nearest->name);
	else
		complain(NULL, "there is no verb \"%s\"; see pageblock help", name);
	return NULL;
}

static void help_as_text(const struct verb *v)
{
	printf("usage: pageblock %s %s\n\n%s\n", v->name, v->arguments, v->summary);
	for (const char *s = v->details; *s != '\0';) {
		int len = (int)strcspn(s, "\n");

		if (*s == '-')
			printf("  %.*s\n", len, s);
		else
			printf("%s%.*s\n", s == v->details ? "" : "      ", len, s);
		s += len + (s[len] == '\n');
	}
}

static void help_as_roff(const struct verb *v)
{
	bool in_option = false;
	char line[1024];

	printf(".SS pageblock %s", v->name);
	putchar('\n');
	if (*v->arguments != '\0') {
		printf(".B pageblock %s\n", v->name);
		roff_line(v->arguments);
		puts(".PP");
	}
	roff_line(v->summary);
	for (const char *s = v->details; *s != '\0';) {
		int len = (int)strcspn(s, "\n");

		snprintf(line, sizeof(line), "%.*s", len, s);
		if (*s == '-') {
			puts(".TP\n.B");
			in_option = true;
		}
		roff_line(line);
		s += len + (s[len] == '\n');
	}
	if (in_option)
		puts(".PP");
}

/* What stops a program, from the table of the messages. */
static void diagnostics_as_roff(void)
{
	static const struct {
		const char *text, *meaning;
	} rows[] = {
#define DOUBLE_FREE "The block was freed before."
#define INTERIOR "The pointer does not point to the beginning of a block."
#define FOREIGN                                                                                \
	"The pointer is of the stack, of a variable, of another allocator, or never was one."
#define CORRUPT "The program wrote to a block after it had freed it."
#define DIAGNOSTIC(name, text) { text, name },
#include "shim/diagnostics.def"
#undef DIAGNOSTIC
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fputs(".TP\n.RI \"pageblock: ", stdout);
		for (const char *s = rows[i].text; *s != '\0'; s++) {
			if (*s != '%') {
				putchar(*s);
				continue;
			}
			s++;
			/* .RI alternates between the two fonts from argument to argument. */
			printf("\" %s \"", *s == 'c'   ? "CALL"
					   : *s == 'p' ? "ADDRESS"
					   : *s == 'n' ? "N"
						       : "BASE");
		}
		puts("\"");
		roff_line(rows[i].meaning);
	}
}

static int verb_help(const struct verb *verb, int argc, char **argv)
{
	if (argc > 2)
		return usage(verb);
	if (argc == 2 && strcmp(argv[1], "--roff") == 0) { /* for tools/generate */
		for (size_t i = 0; i < NR_VERBS; i++)
			help_as_roff(&verbs[i]);
		return finish(verb);
	}
	if (argc == 2 && strcmp(argv[1], "--diagnostics") == 0) { /* likewise */
		diagnostics_as_roff();
		return finish(verb);
	}
	if (argc == 2) {
		const struct verb *v = find_verb(argv[1]);

		if (v == NULL)
			return EXIT_USAGE;
		help_as_text(v);
		return finish(verb);
	}
	puts("pageblock: a malloc replacement whose page allocator mirrors the kernel's\n");
	for (size_t i = 0; i < NR_VERBS; i++)
		printf("  pageblock %-8s %s\n", verbs[i].name, verbs[i].summary);
	puts("\nSee pageblock help VERB, pageblock(1) and pageblock(7).");
	return finish(verb);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	const struct verb *verb;

	if (name == NULL)
		return usage(NULL);
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0)
		name = "version";
	verb = find_verb(name);
	if (verb == NULL)
		return EXIT_USAGE;

	/* getopt's own messages begin with argv[0]. */
	char title[64];

	snprintf(title, sizeof(title), "pageblock %s", verb->name);
	argv[1] = title;
	return verb->run(verb, argc - 1, argv + 1);
}
