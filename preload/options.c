#include "preload/options.h"

#include "core/util.h"

#include <errno.h>
#include <string.h>

const struct option_info option_info[NR_OPTIONS] = {
#define OPTION(name, type, standard, least, most, help)                                        \
	{ #name, OPTION_##type, standard, least, most, help },
#define CHOICE(name, value, text)
#include "preload/options.def"
#undef OPTION
#undef CHOICE
};

#define OPTION(name, type, standard, least, most, help)                                        \
	STATIC_ASSERT((uint64_t)(standard) - (least) <= (uint64_t)(most) - (least),            \
		      "the default of " #name " is in its range");
#define CHOICE(name, value, text)
#include "preload/options.def"
#undef OPTION
#undef CHOICE

static const struct choice {
	enum option_id which;
	unsigned value;
	const char *text;
} choices[] = {
#define OPTION(name, type, standard, least, most, help)
#define CHOICE(name, value, text) { OPT_##name, value, text },
#include "preload/options.def"
#undef OPTION
#undef CHOICE
};
#define NR_CHOICES (sizeof(choices) / sizeof(choices[0]))

/* Units from the largest; a value is written in the first that divides it. */
struct unit {
	const char *text;
	uint64_t factor;
};
static const struct unit size_units[] = {
	{ "T", (uint64_t)1 << 40 },
	{ "G", (uint64_t)1 << 30 },
	{ "M", (uint64_t)1 << 20 },
	{ "K", (uint64_t)1 << 10 },
	{ "", 1 },
};
static const struct unit time_units[] = {
	{ "h", 3600000000000 }, { "m", 60000000000 }, { "s", 1000000000 },
	{ "ms", 1000000 },      { "us", 1000 },       { "ns", 1 },
};
/* The factor of % only sets the bit: see parse_number(). */
static const struct unit limit_units[] = {
	{ "T", (uint64_t)1 << 40 }, { "G", (uint64_t)1 << 30 }, { "M", (uint64_t)1 << 20 },
	{ "K", (uint64_t)1 << 10 }, { "%", OPTION_IN_PERCENT }, { "", 1 },
};
static const struct unit percent_units[] = {
	{ "%", 1 },
};
static const struct unit no_units[] = {
	{ "", 1 },
};

struct units {
	const struct unit *unit;
	size_t nr;
};

static struct units units_of(enum option_type type)
{
#define UNITS(table) ((struct units){ table, sizeof(table) / sizeof((table)[0]) })
	switch (type) {
	case OPTION_SIZE:
		return UNITS(size_units);
	case OPTION_TIME:
		return UNITS(time_units);
	case OPTION_PERCENT:
		return UNITS(percent_units);
	case OPTION_LIMIT:
		return UNITS(limit_units);
	case OPTION_BOOL:
	case OPTION_INT:
	case OPTION_ENUM:
		break;
	}
	return UNITS(no_units);
#undef UNITS
}

/* Part of the text being parsed. */
struct slice {
	const char *start;
	size_t len;
};

static bool slice_is(struct slice s, const char *text)
{
	return strlen(text) == s.len && memcmp(s.start, text, s.len) == 0;
}

static bool slice_is_any_case(struct slice s, const char *text)
{
	if (strlen(text) != s.len)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if ((s.start[i] | 0x20) != (text[i] | 0x20))
			return false;
	}
	return true;
}

static bool parse_bool(struct slice s, uint64_t *value)
{
	static const char *const words[][2] = {
		{ "false", "true" }, { "no", "yes" }, { "off", "on" }, { "0", "1" }
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (unsigned v = 0; v < 2; v++) {
			if (slice_is(s, words[i][v])) {
				*value = v;
				return true;
			}
		}
	}
	return false;
}

static bool parse_choice(enum option_id which, struct slice s, uint64_t *value)
{
	for (size_t i = 0; i < NR_CHOICES; i++) {
		if (choices[i].which == which && slice_is(s, choices[i].text)) {
			*value = choices[i].value;
			return true;
		}
	}
	return false;
}

/* Digits and a unit; sizes in either case.  A bare 0 needs no unit. */
static bool parse_number(enum option_type type, struct slice s, uint64_t *value)
{
	struct units u = units_of(type);
	uint64_t n = 0;
	size_t i = 0;

	for (; i < s.len && s.start[i] >= '0' && s.start[i] <= '9'; i++) {
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s.start[i] - '0'), &n))
			n = UINT64_MAX; /* stays there; out of every range */
	}
	if (i == 0)
		return false;

	struct slice unit = { s.start + i, s.len - i };

	if (n == 0 && unit.len == 0) {
		*value = 0;
		return true;
	}
	for (size_t k = 0; k < u.nr; k++) {
		bool any_case = type == OPTION_SIZE || type == OPTION_LIMIT;

		if (!(any_case ? slice_is_any_case(unit, u.unit[k].text)
			       : slice_is(unit, u.unit[k].text)))
			continue;
		if (u.unit[k].factor == OPTION_IN_PERCENT) {
			*value = n > 100 ? UINT64_MAX : n | OPTION_IN_PERCENT;
			return true;
		}
		if (__builtin_mul_overflow(n, u.unit[k].factor, value) ||
		    (type == OPTION_LIMIT && *value >= OPTION_IN_PERCENT))
			*value = UINT64_MAX;
		return true;
	}
	return false;
}

static bool parse_value(enum option_id which, struct slice s, uint64_t *value)
{
	enum option_type type = option_info[which].type;

	switch (type) {
	case OPTION_BOOL:
		return parse_bool(s, value);
	case OPTION_ENUM:
		return parse_choice(which, s, value);
	case OPTION_SIZE:
	case OPTION_TIME:
	case OPTION_INT:
	case OPTION_PERCENT:
	case OPTION_LIMIT:
		break;
	}
	return parse_number(type, s, value);
}

bool options_parse_number(enum option_type type, const char *text, uint64_t *value)
{
	return parse_number(type, (struct slice){ text, strlen(text) }, value);
}

static const char *expected(enum option_type type)
{
	switch (type) {
	case OPTION_SIZE:
		return "a size such as 64K, 2M or 1G";
	case OPTION_TIME:
		return "a time such as 500ms or 1s";
	case OPTION_INT:
		return "a whole number";
	case OPTION_PERCENT:
		return "a percentage such as 5%";
	case OPTION_LIMIT:
		return "a size such as 2M or 1G or a percentage such as 80%";
	case OPTION_BOOL:
	case OPTION_ENUM:
		break;
	}
	return NULL;
}

static void complain_value(struct text *t, enum option_id which, struct slice value, bool range)
{
	const struct option_info *info = &option_info[which];
	const char *what = range ? NULL : expected(info->type);

	text_string(t, info->name);
	text_string(t, ": ");
	text_quoted(t, value.start, value.len);
	text_string(t, range ? " is not in the range " : " is not ");
	if (what != NULL) {
		text_string(t, what);
	} else {
		if (!range)
			text_string(t, "one of ");
		options_text_range(t, which);
	}
}

/* One "name:value"; true when it was good, else the rest of the line says why not, and
 * *bad is the option that has its default, or NR_OPTIONS. */
static bool parse_item(struct options *o, struct slice item, struct text *why,
		       enum option_id *bad)
{
	const char *colon = memchr(item.start, ':', item.len);
	struct slice name = { item.start, colon ? (size_t)(colon - item.start) : item.len };
	unsigned which = 0;

	*bad = NR_OPTIONS;
	while (which < NR_OPTIONS && !slice_is(name, option_info[which].name))
		which++;
	if (which == NR_OPTIONS) {
		text_string(why, "there is no option ");
		text_quoted(why, name.start, name.len);
		return false;
	}
	o->value[which] = option_info[which].standard;
	if (colon == NULL) {
		text_string(why, option_info[which].name);
		text_string(why, " has no value; write ");
		text_string(why, option_info[which].name);
		text_string(why, ":VALUE");
		return false;
	}

	struct slice value = { colon + 1, item.len - name.len - 1 };
	uint64_t v = 0;

	*bad = (enum option_id)which;
	if (!parse_value((enum option_id)which, value, &v)) {
		complain_value(why, (enum option_id)which, value, false);
		return false;
	}
	if (v < option_info[which].least || v > option_info[which].most) {
		complain_value(why, (enum option_id)which, value, true);
		return false;
	}
	o->value[which] = v;
	return true;
}

AT_START void options_set_defaults(struct options *o)
{
	for (unsigned i = 0; i < NR_OPTIONS; i++)
		o->value[i] = option_info[i].standard;
}

unsigned options_parse(struct options *o, const char *conf, const char *where,
		       void (*complain)(const struct text *line))
{
	unsigned nr_bad = 0;

	while (*conf != '\0') {
		struct slice item = { conf, strcspn(conf, ",") };
		enum option_id bad;
		struct text line;

		line.len = 0;
		text_string(&line, "pageblock: ");
		text_string(&line, where);
		text_string(&line, ": ");
		if (item.len > 0 && !parse_item(o, item, &line, &bad)) {
			if (bad != NR_OPTIONS) {
				text_string(&line, "; the default ");
				options_text_value(&line, bad, option_info[bad].standard);
				text_string(&line, " is used");
			}
			text_end_line(&line);
			complain(&line);
			nr_bad++;
		}
		conf += item.len;
		if (*conf == ',')
			conf++;
	}
	return nr_bad;
}

bool options_is_changeable(enum option_id which)
{
	switch (which) {
#define OPTION(name, type, standard, least, most, help)
#define CHOICE(name, value, text)
#define CHANGEABLE(name) case OPT_##name:
#include "preload/options.def"
#undef OPTION
#undef CHOICE
		return true;
	default:
		return false;
	}
}

int options_change(struct options *o, const char *item, enum option_id *which,
		   struct text *why)
{
	struct slice name = { item, strcspn(item, ":") };
	struct options changed = *o;
	enum option_id bad;
	unsigned i = 0;

	while (i < NR_OPTIONS && !slice_is(name, option_info[i].name))
		i++;
	if (i == NR_OPTIONS) {
		text_string(why, "there is no option ");
		text_quoted(why, name.start, name.len);
		return -ENOENT;
	}
	*which = (enum option_id)i;
	if (!options_is_changeable(*which)) {
		text_string(why, option_info[i].name);
		text_string(why, " may not change while the program runs");
		return -EPERM;
	}
	if (!parse_item(&changed, (struct slice){ item, strlen(item) }, why, &bad))
		return -EINVAL;
	*o = changed;
	return 0;
}

const char *options_choice(enum option_id which, unsigned nr)
{
	for (size_t i = 0; i < NR_CHOICES; i++) {
		if (choices[i].which == which && nr-- == 0)
			return choices[i].text;
	}
	return NULL;
}

void options_text_value(struct text *t, enum option_id which, uint64_t value)
{
	enum option_type type = option_info[which].type;
	struct units u = units_of(type);
	size_t k = 0;

	if (type == OPTION_BOOL || type == OPTION_ENUM) {
		const char *word = type == OPTION_BOOL ? (value ? "true" : "false")
						       : options_choice(which, (unsigned)value);

		text_string(t, word != NULL ? word : "?");
		return;
	}
	if (type == OPTION_LIMIT && (value & OPTION_IN_PERCENT) != 0) {
		text_number(t, value & ~OPTION_IN_PERCENT, 0);
		text_string(t, "%");
		return;
	}
	while (k < u.nr - 1 && value % u.unit[k].factor != 0)
		k++;
	text_number(t, value / u.unit[k].factor, 0);
	if (value != 0)
		text_string(t, u.unit[k].text);
}

void options_text_range(struct text *t, enum option_id which)
{
	const struct option_info *info = &option_info[which];

	if (info->type == OPTION_BOOL) {
		text_string(t, "true|false");
	} else if (info->type == OPTION_ENUM) {
		for (unsigned i = 0; options_choice(which, i) != NULL; i++) {
			if (i > 0)
				text_char(t, '|');
			text_string(t, options_choice(which, i));
		}
	} else {
		options_text_value(t, which, info->least);
		text_string(t, " to ");
		options_text_value(t, which, info->most);
	}
}

const char *options_type_name(enum option_type type)
{
	static const char *const names[] = {
		[OPTION_BOOL] = "bool", [OPTION_SIZE] = "size", [OPTION_TIME] = "time",
		[OPTION_INT] = "int",   [OPTION_PERCENT] = "percent",
		[OPTION_LIMIT] = "limit",
		[OPTION_ENUM] = "enum",
	};

	return names[type];
}
