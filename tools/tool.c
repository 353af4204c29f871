/* Messages and output; see tool.h. */
#include "tools/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void complain(const struct verb *verb, const char *format, ...)
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

int usage(const struct verb *verb)
{
	if (verb != NULL)
		fprintf(stderr, "usage: pageblock %s %s\n", verb->name, verb->arguments);
	else
		fprintf(stderr, "usage: pageblock VERB [ARGUMENT...]; see pageblock help\n");
	return EXIT_USAGE;
}

int finish(const struct verb *verb)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_SUCCESS;
	complain(verb, "cannot write: %s", strerror(errno));
	return EXIT_FAILURE;
}

/* A line that the formatter must not take for a request. */
void roff_line(const char *s)
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
