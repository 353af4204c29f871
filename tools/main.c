/*
 * pageblock, the program beside the library: runs programs on it and tells about it.
 *
 * A verb is a row of verbs.def; its function gets its own arguments and returns the exit
 * status.  `pageblock help`, pageblock.1 and the shells' completion are made of the rows.
 */
#include "tools/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct verb verbs[] = {
#define VERB(name, arguments, summary, details) { #name, arguments, summary, details, verb_##name },
#include "tools/verbs.def"
#undef VERB
};
const size_t nr_verbs = sizeof(verbs) / sizeof(verbs[0]);

/* --- verbs ---------------------------------------------------------------------------- */

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

const struct verb *find_verb(const char *name)
{
	const struct verb *nearest = NULL;
	unsigned limit = 3;

	for (size_t i = 0; i < nr_verbs; i++) {
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
