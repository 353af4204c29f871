/*
 * One line or paragraph of text in a fixed buffer, built without libc's stdio, which
 * may allocate.  What does not fit is cut off; a line's end is kept room for.
 */
#ifndef PB_PRELOAD_TEXT_H
#define PB_PRELOAD_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define TEXT_BYTES 2048u

struct text {
	size_t len; /* starts at 0 */
	char bytes[TEXT_BYTES];
};

void text_char(struct text *t, char c);
void text_string(struct text *t, const char *s);
/* At most len bytes of s, at most 64, and what is not printable as '?'. */
void text_quoted(struct text *t, const char *s, size_t len);
/* Decimal, right-aligned in width columns (0: as wide as it is). */
void text_number(struct text *t, uint64_t n, unsigned width);
/* With 0x in front. */
void text_address(struct text *t, uint64_t address);
/* A number of bytes, rounded: 17, 1.5K, 230M. */
void text_size(struct text *t, uint64_t nr_bytes);
/* Ends the line, even when the buffer is full. */
void text_end_line(struct text *t);
/* Writes everything to a file descriptor, whatever becomes of it, and keeps errno. */
void text_write(const struct text *t, int fd);

#endif
