/*
 * A terminal used as a screen: single keys, no scrolling.  Put back as it was when the
 * program ends, by a signal too.
 */
#ifndef PB_TOOLS_SCREEN_H
#define PB_TOOLS_SCREEN_H

#include <stdbool.h>

/* False when standard input and output are not a terminal. */
bool screen_open(void);
void screen_close(void);
/* Rows and columns as of now. */
void screen_size(unsigned *rows, unsigned *columns);

enum screen_key { KEY_NONE, KEY_UP = 256, KEY_DOWN, KEY_ENTER, KEY_ESCAPE, KEY_RESIZED };
/* Waits for a key, at most so long; KEY_NONE: there was none. */
int screen_key(int timeout_ms);

/* A picture is written between these, from the top; what was below it is cleared. */
void screen_begin(void);
void screen_end(void);
/* One more line of at most the screen's columns; false: there is no room.  style: as in
 * ESC [ style m, or NULL. */
__attribute__((format(printf, 2, 3))) bool screen_line(const char *style, const char *format,
						       ...);
/* The same of a line that has styles of its own and is not too long. */
bool screen_styled_line(const char *text);

#endif
