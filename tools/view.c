#include "tools/view.h"

#include <getopt.h>

int view_begin(struct view *v, const struct verb *verb, int argc, char **argv, unsigned what)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	v->json = false;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c != 'j')
			return usage(verb);
		v->json = true;
	}
	if (optind != argc - 1)
		return usage(verb);
	return view_open(v, verb, argv[optind], what);
}

int view_open(struct view *v, const struct verb *verb, const char *text, unsigned what)
{
	pid_t pid;
	int status;

	if (!reader_parse_pid(verb, text, &pid))
		return EXIT_USAGE;
	status = reader_open(&v->reader, verb, pid, false);
	if (status != 0)
		return status;
	status = snapshot_take(&v->s, &v->reader, what);
	if (status != 0)
		reader_close(&v->reader);
	return status;
}

int view_end(struct view *v)
{
	const struct verb *verb = v->reader.verb;

	snapshot_free(&v->s);
	reader_close(&v->reader);
	return finish(verb);
}

void view_json_begin(const struct view *v)
{
	json_object(NULL);
	json_number("pid", (uint64_t)v->reader.pid);
	json_string("name", v->reader.name);
	json_string("release", v->reader.header.release);
	json_bool("exact", v->s.exact);
}
