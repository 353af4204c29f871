#include "preload/text.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#define QUOTED_MAX 64u

void text_char(struct text *t, char c)
{
	/* One byte stays free for text_end_line(). */
	if (t->len < sizeof(t->bytes) - 1)
		t->bytes[t->len++] = c;
}

void text_string(struct text *t, const char *s)
{
	while (*s != '\0')
		text_char(t, *s++);
}

void text_quoted(struct text *t, const char *s, size_t len)
{
	bool cut = len > QUOTED_MAX;

	text_char(t, '"');
	for (size_t i = 0; i < (cut ? QUOTED_MAX : len); i++)
		text_char(t, s[i] >= ' ' && s[i] <= '~' ? s[i] : '?');
	text_string(t, cut ? "...\"" : "\"");
}

void text_number(struct text *t, uint64_t n, unsigned width)
{
	char digits[20];
	unsigned nr = 0;

	do {
		digits[nr++] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	for (unsigned i = nr; i < width; i++)
		text_char(t, ' ');
	while (nr-- > 0)
		text_char(t, digits[nr]);
}

void text_address(struct text *t, uint64_t address)
{
	unsigned shift = 60;

	text_string(t, "0x");
	while (shift > 0 && address >> shift == 0)
		shift -= 4;
	for (;; shift -= 4) {
		text_char(t, "0123456789abcdef"[address >> shift & 15]);
		if (shift == 0)
			break;
	}
}

void text_size(struct text *t, uint64_t nr_bytes)
{
	unsigned unit = 0;
	uint64_t tenths = nr_bytes < UINT64_MAX / 10 ? nr_bytes * 10 : UINT64_MAX;

	for (; tenths >= 10240 && unit < 5; unit++)
		tenths = (tenths + 512) / 1024;
	text_number(t, tenths < 100 && unit > 0 ? tenths / 10 : (tenths + 5) / 10, 0);
	if (tenths < 100 && unit > 0 && tenths % 10 != 0) {
		text_char(t, '.');
		text_number(t, tenths % 10, 0);
	}
	if (unit > 0)
		text_char(t, "KMGTP"[unit - 1]);
}

void text_end_line(struct text *t)
{
	t->bytes[t->len++] = '\n';
}

void text_write(const struct text *t, int fd)
{
	int saved = errno;

	for (size_t done = 0; done < t->len;) {
		ssize_t n = write(fd, t->bytes + done, t->len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	errno = saved;
}
