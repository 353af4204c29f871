#include "tools/json.h"

#include <stdio.h>

#define DEPTH_MAX 16

static struct level {
	char close;
	bool filled;
	bool in_line; /* arrays of numbers stay on one line */
} levels[DEPTH_MAX];
static int depth;

static void text(const char *s)
{
	putchar('"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ' || c == 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void begin_value(const char *name, bool scalar)
{
	struct level *level = &levels[depth];

	if (depth > 0) {
		bool in_line = scalar && level->close == ']';

		if (level->filled)
			fputs(in_line ? ", " : ",", stdout);
		if (!in_line)
			printf("\n%*s", 2 * depth, "");
		level->filled = true;
		level->in_line = in_line;
	}
	if (name != NULL) {
		text(name);
		fputs(": ", stdout);
	}
}

static void open_level(const char *name, char open, char close)
{
	begin_value(name, false);
	putchar(open);
	if (depth < DEPTH_MAX - 1)
		depth++;
	levels[depth] = (struct level){ .close = close };
}

void json_object(const char *name)
{
	open_level(name, '{', '}');
}

void json_array(const char *name)
{
	open_level(name, '[', ']');
}

void json_end(void)
{
	struct level level = levels[depth--];

	if (level.filled && !level.in_line)
		printf("\n%*s", 2 * depth, "");
	putchar(level.close);
	if (depth == 0)
		putchar('\n');
}

void json_number(const char *name, uint64_t n)
{
	begin_value(name, true);
	printf("%llu", (unsigned long long)n);
}

void json_signed(const char *name, int64_t n)
{
	begin_value(name, true);
	printf("%lld", (long long)n);
}

void json_real(const char *name, double x)
{
	begin_value(name, true);
	if (x - x == 0)
		printf("%.3f", x);
	else
		fputs("null", stdout);
}

void json_bool(const char *name, bool b)
{
	begin_value(name, true);
	fputs(b ? "true" : "false", stdout);
}

void json_string(const char *name, const char *s)
{
	begin_value(name, true);
	text(s);
}
