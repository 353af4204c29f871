/* Formatting of diagnostics without libc's stdio, which may allocate. */
#include "shim/diag.h"

#include "core/core.h"

#include <stdlib.h>
#include <string.h>

struct line {
	char text[256];
	size_t len;
};

static void line_char(struct line *l, char c)
{
	if (l->len < sizeof(l->text))
		l->text[l->len++] = c;
}

static void line_text(struct line *l, const char *s)
{
	while (*s != '\0')
		line_char(l, *s++);
}

static void line_number(struct line *l, uint64_t n, unsigned base)
{
	char digits[20];
	size_t i = 0;

	do {
		digits[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n != 0);
	while (i-- > 0)
		line_char(l, digits[i]);
}

static void line_pointer(struct line *l, const void *p)
{
	line_text(l, "0x");
	line_number(l, (uintptr_t)p, 16);
}

_Noreturn void diag_fatal(enum diagnostic what, const char *call, const void *p,
			  size_t nr_bytes, const void *base)
{
	static const char *const texts[NR_DIAGNOSTICS] = {
#define DIAGNOSTIC(name, text) text,
#include "shim/diagnostics.def"
#undef DIAGNOSTIC
	};
	struct line l = { .len = 0 };

	line_text(&l, "pageblock: ");
	for (const char *t = texts[what]; *t != '\0'; t++) {
		if (*t != '%') {
			line_char(&l, *t);
			continue;
		}
		switch (*++t) {
		case 'c':
			line_text(&l, call);
			break;
		case 'p':
			line_pointer(&l, p);
			break;
		case 'n':
			line_number(&l, nr_bytes, 10);
			break;
		case 'b':
			line_pointer(&l, base);
			break;
		default:
			break;
		}
	}
	line_char(&l, '\n');
	os_write_stderr(l.text, l.len);
	abort();
}
