/*
 * What the parts of the program pageblock share: the table of verbs, messages, exit
 * statuses.  A new verb is a row of verbs.def and its function in a file of tools/.
 */
#ifndef PB_TOOLS_TOOL_H
#define PB_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beside 0, and 1 for output that could not be written; `run` has more. */
enum exit_status {
	EXIT_USAGE = 2,        /* the command line is wrong */
	EXIT_NO_PROCESS = 3,   /* there is no such process, or it ended meanwhile */
	EXIT_NO_PERMISSION = 4,
	EXIT_NO_LIBRARY = 5,   /* the process runs without the library */
	EXIT_OTHER_VERSION = 6, /* its library's structures are not of a version known here */
	EXIT_GARBLED = 7,      /* what is in the process makes no sense */
	EXIT_NO_ANSWER = 8,    /* nobody in the process answered a request in time */
	EXIT_REFUSED = 9       /* the process answered that it cannot or will not */
};

struct verb {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *details; /* full sentences; a line that begins with '-' starts an option */
	int (*run)(const struct verb *verb, int argc, char **argv);
};

#define VERB(name, arguments, summary, details)                                                \
	int verb_##name(const struct verb *verb, int argc, char **argv);
#include "tools/verbs.def"
#undef VERB

extern const struct verb verbs[];
extern const size_t nr_verbs;

/* NULL after a complaint that names the nearest one. */
const struct verb *find_verb(const char *name);

/* One line on standard error: "pageblock VERB: ..."; verb may be NULL. */
__attribute__((format(printf, 2, 3))) void complain(const struct verb *verb,
						    const char *format, ...);
/* Says how the verb is used; EXIT_USAGE. */
int usage(const struct verb *verb);
/* Output is done: an error in it is an error of the program.  The exit status. */
int finish(const struct verb *verb);

/* A line that the manual's formatter must not take for a request. */
void roff_line(const char *s);

#endif
