#define _GNU_SOURCE
#include "tools/screen.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool is_open;
static volatile sig_atomic_t resized;
static unsigned rows_left, columns_now;

static const char enter[] = "\033[?1049h\033[?25l";
static const char leave[] = "\033[?25h\033[?1049l";

static void restore(void)
{
	if (!is_open)
		return;
	is_open = false;
	(void)!write(STDOUT_FILENO, leave, sizeof(leave) - 1);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void ended(int signal)
{
	restore();
	raise(signal); /* SA_RESETHAND: by default now */
}

static void size_changed(int signal)
{
	(void)signal;
	resized = 1;
}

bool screen_open(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction action = { .sa_handler = ended, .sa_flags = (int)SA_RESETHAND };
	struct termios raw;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
	    tcgetattr(STDIN_FILENO, &before) != 0)
		return false;
	raw = before;
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0)
		return false;
	is_open = true;
	atexit(restore);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		sigaction(ends[i], &action, NULL);
	action = (struct sigaction){ .sa_handler = size_changed };
	sigaction(SIGWINCH, &action, NULL);
	(void)!write(STDOUT_FILENO, enter, sizeof(enter) - 1);
	return true;
}

void screen_close(void)
{
	restore();
}

void screen_size(unsigned *rows, unsigned *columns)
{
	struct winsize size;

	*rows = 24;
	*columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
		*rows = size.ws_row;
		*columns = size.ws_col;
	}
}

/* --- keys --------------------------------------------------------------------------------- */

static int one_byte(int timeout_ms)
{
	struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned char c;

	if (poll(&fd, 1, timeout_ms) <= 0)
		return -1;
	/* The terminal is gone: as if to quit. */
	return read(STDIN_FILENO, &c, 1) == 1 ? c : 'q';
}

int screen_key(int timeout_ms)
{
	int c = one_byte(timeout_ms);

	if (resized) {
		resized = 0;
		return KEY_RESIZED;
	}
	if (c < 0)
		return KEY_NONE;
	if (c == '\r' || c == '\n')
		return KEY_ENTER;
	if (c != '\033')
		return c;
	c = one_byte(20);
	if (c != '[' && c != 'O')
		return KEY_ESCAPE;
	c = one_byte(20);
	return c == 'A' ? KEY_UP : c == 'B' ? KEY_DOWN : KEY_RESIZED;
}

/* --- lines --------------------------------------------------------------------------------- */

void screen_begin(void)
{
	unsigned rows;

	screen_size(&rows, &columns_now);
	rows_left = rows;
	fputs("\033[H", stdout);
}

void screen_end(void)
{
	fputs("\033[J", stdout);
	fflush(stdout);
}

/* Bytes of the text that fit into so many columns; all of our characters are one wide. */
static int fitting(const char *text, unsigned columns)
{
	const char *s = text;

	for (; *s != '\0' && columns > 0; columns--) {
		s++;
		while (((unsigned char)*s & 0xc0) == 0x80)
			s++;
	}
	return (int)(s - text);
}

bool screen_line(const char *style, const char *format, ...)
{
	char text[4096];
	va_list args;

	if (rows_left == 0)
		return false;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	rows_left--;
	if (style != NULL)
		printf("\033[%sm", style);
	printf("%.*s\033[K\033[0m%s", fitting(text, columns_now), text,
	       rows_left > 0 ? "\r\n" : "");
	return true;
}

bool screen_styled_line(const char *text)
{
	if (rows_left == 0)
		return false;
	rows_left--;
	printf("%s\033[0m\033[K%s", text, rows_left > 0 ? "\r\n" : "");
	return true;
}
