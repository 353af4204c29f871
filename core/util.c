/*
 * The end of the program when something is so wrong that going on would spread it.
 * Uses no stdio and no memory: the heap may be what is broken.
 */
#include "core/util.h"

#include "core/core.h"

#include <stdlib.h>
#include <string.h>

/* Appends text to the line of *len bytes, of at most size. */
static void append(char *line, size_t size, size_t *len, const char *text)
{
	size_t n = strlen(text);

	if (n > size - *len)
		n = size - *len;
	memcpy(line + *len, text, n);
	*len += n;
}

static void append_number(char *line, size_t size, size_t *len, uint64_t number)
{
	char digits[21];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	append(line, size, len, digits + at);
}

void util_fail(const char *what, const char *file, int line)
{
	char text[256];
	size_t len = 0;

	append(text, sizeof(text) - 1, &len, "pageblock: ");
	append(text, sizeof(text) - 1, &len, what);
	append(text, sizeof(text) - 1, &len, " at ");
	append(text, sizeof(text) - 1, &len, file);
	append(text, sizeof(text) - 1, &len, ":");
	append_number(text, sizeof(text) - 1, &len, (uint64_t)line);
	append(text, sizeof(text), &len, "\n");
	os_write_stderr(text, len);
	abort();
}

void util_fail_numbers(const char *what, uint64_t kept, uint64_t walked, const char *file,
		       int line)
{
	char text[128];
	size_t len = 0;

	append(text, sizeof(text) - 1, &len, what);
	append(text, sizeof(text) - 1, &len, " is kept as ");
	append_number(text, sizeof(text) - 1, &len, kept);
	append(text, sizeof(text) - 1, &len, " but found to be ");
	append_number(text, sizeof(text) - 1, &len, walked);
	text[len] = '\0';
	util_fail(text, file, line);
}

void util_say(const char *what, uint64_t number)
{
	char text[256];
	size_t len = 0;

	append(text, sizeof(text) - 1, &len, "pageblock: ");
	append(text, sizeof(text) - 1, &len, what);
	append(text, sizeof(text) - 1, &len, " ");
	append_number(text, sizeof(text) - 1, &len, number);
	append(text, sizeof(text), &len, "\n");
	os_write_stderr(text, len);
}
