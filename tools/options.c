/* pageblock options: the rows of preload/options.def. */
#include "tools/tool.h"

#include "preload/options.h"

#include <getopt.h>
#include <stdio.h>

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

static const char *changeable(enum option_id which)
{
	return options_is_changeable(which) ? "; changeable" : "";
}

static void option_as_text(enum option_id which)
{
	const struct option_info *o = &option_info[which];
	struct text d, r;

	printf("%-12s %-5s default %-6s %s%s\n    %s\n", o->name, options_type_name(o->type),
	       option_default(&d, which), option_range(&r, which), changeable(which), o->help);
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
	if (options_is_changeable(which))
		puts(".br\nMay change while the program runs: pageblock set.");
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
	printf("\"changeable\": %s, ", options_is_changeable(which) ? "true" : "false");
	printf("\"range\": \"%s\", \"help\": \"%s\"}%s", option_range(&r, which), o->help,
	       which == NR_OPTIONS - 1 ? "\n]\n" : "");
}

int verb_options(const struct verb *verb, int argc, char **argv)
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
