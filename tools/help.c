/* pageblock help, version, completion: what the table of verbs says. */
#include "tools/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int verb_version(const struct verb *verb, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return usage(verb);
	printf("pageblock %s\n", PB_VERSION);
	return finish(verb);
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

int verb_help(const struct verb *verb, int argc, char **argv)
{
	if (argc > 2)
		return usage(verb);
	if (argc == 2 && strcmp(argv[1], "--roff") == 0) { /* for tools/generate */
		for (size_t i = 0; i < nr_verbs; i++)
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
	for (size_t i = 0; i < nr_verbs; i++)
		printf("  pageblock %-12s %s\n", verbs[i].name, verbs[i].summary);
	puts("\nSee pageblock help VERB, pageblock(1) and pageblock(7).");
	return finish(verb);
}

/* --- completion --------------------------------------------------------------------------- */

/* Calls show() for each option of a verb: its name without what follows it. */
static void each_option(const struct verb *v, void (*show)(const struct verb *v,
							   const char *name, int len))
{
	for (const char *s = v->details; *s != '\0';) {
		size_t len = strcspn(s, "\n");

		if (*s == '-')
			show(v, s, (int)strcspn(s, " =\n"));
		s += len + (s[len] == '\n');
	}
}

static void option_word(const struct verb *v, const char *name, int len)
{
	(void)v;
	printf(" %.*s", len, name);
}

/* bash understands it; zsh does by its bashcompinit. */
static void completion_bash(void)
{
	fputs("_pageblock()\n{\n"
	      "\tlocal word=${COMP_WORDS[COMP_CWORD]} verbs='",
	      stdout);
	for (size_t i = 0; i < nr_verbs; i++)
		printf("%s%s", i > 0 ? " " : "", verbs[i].name);
	fputs("'\n\tCOMPREPLY=()\n"
	      "\tif ((COMP_CWORD == 1)); then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n"
	      "\t\treturn\n\tfi\n"
	      "\tlocal options='' what=''\n"
	      "\tcase ${COMP_WORDS[1]} in\n",
	      stdout);
	for (size_t i = 0; i < nr_verbs; i++) {
		const struct verb *v = &verbs[i];

		printf("\t%s) options='", v->name);
		each_option(v, option_word);
		printf("' what=%s ;;\n", strstr(v->arguments, "PID") != NULL       ? "pid"
					 : strstr(v->arguments, "PROGRAM") != NULL ? "command"
					 : strstr(v->arguments, "SHELL") != NULL   ? "shell"
					 : strstr(v->arguments, "VERB") != NULL    ? "verb"
										   : "''");
	}
	fputs("\tesac\n"
	      "\tif [[ $word == -* ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
	      "\telif [[ $what == pid ]]; then\n"
	      "\t\tCOMPREPLY=($(cd /proc && compgen -G \"${word}[0-9]*\" | grep -x '[0-9]*'; "
	      "cd /proc && compgen -G \"$word\" | grep -x '[0-9]*'))\n"
	      "\telif [[ $what == command ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -c -- \"$word\"))\n"
	      "\telif [[ $what == shell ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W 'bash zsh fish' -- \"$word\"))\n"
	      "\telif [[ $what == verb ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n"
	      "\tfi\n}\n"
	      "complete -o default -F _pageblock pageblock\n",
	      stdout);
}

static void option_fish(const struct verb *v, const char *name, int len)
{
	printf("complete -c pageblock -n '__fish_seen_subcommand_from %s' -l %.*s\n", v->name,
	       len - 2, name + 2);
}

static void completion_fish(void)
{
	for (size_t i = 0; i < nr_verbs; i++) {
		const struct verb *v = &verbs[i];

		printf("complete -c pageblock -f -n __fish_use_subcommand -a %s -d '", v->name);
		for (const char *s = v->summary; *s != '\0'; s++)
			printf(*s == '\'' ? "\\'" : "%c", *s);
		puts("'");
		each_option(v, option_fish);
		if (strstr(v->arguments, "PID") != NULL)
			printf("complete -c pageblock -f -n '__fish_seen_subcommand_from %s' -a "
			       "'(__fish_complete_pids)'\n",
			       v->name);
	}
}

int verb_completion(const struct verb *verb, int argc, char **argv)
{
	if (argc != 2)
		return usage(verb);
	if (strcmp(argv[1], "bash") == 0) {
		completion_bash();
	} else if (strcmp(argv[1], "zsh") == 0) {
		puts("autoload -U +X bashcompinit && bashcompinit");
		completion_bash();
	} else if (strcmp(argv[1], "fish") == 0) {
		completion_fish();
	} else {
		complain(verb, "there is none for \"%s\", but for bash, zsh and fish", argv[1]);
		return EXIT_USAGE;
	}
	return finish(verb);
}
