/* pageblock run: a program with the library preloaded. */
#define _GNU_SOURCE
#include "tools/tool.h"

#include "preload/options.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	EXIT_OURS = 125,       /* before the program was started, as env(1) has it */
	EXIT_CANNOT_RUN = 126, /* the program is there but cannot be run */
	EXIT_NOT_FOUND = 127
};

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

int verb_run(const struct verb *verb, int argc, char **argv)
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
