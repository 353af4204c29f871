/*
 * The options of options.def: their description and the parser of the text form
 * "name:value,name:value".  Pure: no allocation, no environment, no output, so that
 * the library and the command-line program share it.
 */
#ifndef PB_PRELOAD_OPTIONS_H
#define PB_PRELOAD_OPTIONS_H

#include "preload/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
	OPTION_BOOL,
	OPTION_SIZE,
	OPTION_TIME,
	OPTION_INT,
	OPTION_PERCENT,
	OPTION_LIMIT,
	OPTION_ENUM
};

enum option_id {
#define OPTION(name, type, standard, least, most, help) OPT_##name,
#define CHOICE(name, value, text)
#include "preload/options.def"
#undef OPTION
#undef CHOICE
	NR_OPTIONS
};

/* The values of ENUM options, in the order of their rows. */
enum option_choice {
	THP_AUTO = 0,
	THP_ALWAYS,
	THP_NEVER,
	PURGE_DONTNEED = 0,
	PURGE_FREE,
	BACKGROUND_AUTO = 0,
	BACKGROUND_TRUE,
	BACKGROUND_FALSE,
	PRESSURE_AUTO = 0,
	PRESSURE_TRUE,
	PRESSURE_FALSE,
	LIFETIME_OFF = 0,
	LIFETIME_AUTO,
};

/* A value of a LIMIT option is in bytes, or with this bit, in percent. */
#define OPTION_IN_PERCENT ((uint64_t)1 << 62)

struct option_info {
	const char *name;
	enum option_type type;
	uint64_t standard; /* the default */
	uint64_t least, most;
	const char *help;
};
extern const struct option_info option_info[NR_OPTIONS];

struct options {
	uint64_t value[NR_OPTIONS];
};

void options_set_defaults(struct options *o);

/*
 * Takes over what conf says; the last word on a name counts.  For each unknown name
 * or bad value complain() gets one line that begins with "pageblock: <where>: ", and the
 * option has its default.  Returns how many.
 */
unsigned options_parse(struct options *o, const char *conf, const char *where,
		       void (*complain)(const struct text *line));

/*
 * One "name:value" for a process that runs already.  0 and its option in *which, or
 * -ENOENT (no such option), -EPERM (it may not change), -EINVAL (a bad value), and then
 * *why says so without a line's end.
 */
int options_change(struct options *o, const char *item, enum option_id *which,
		   struct text *why);
/* Whether the option may change while the program runs. */
bool options_is_changeable(enum option_id which);

/* A size, a time or a whole number in the text form, in bytes or nanoseconds. */
bool options_parse_number(enum option_type type, const char *text, uint64_t *value);
/* A value as it is written in the text form: 64M, 500ms, true, auto. */
void options_text_value(struct text *t, enum option_id which, uint64_t value);
/* What may be written: "true|false", "auto|always|never", "0 to 1T". */
void options_text_range(struct text *t, enum option_id which);
/* "bool", "size", ... */
const char *options_type_name(enum option_type type);
/* The text of choice number nr of an ENUM option; NULL when there are not so many. */
const char *options_choice(enum option_id which, unsigned nr);

#endif
