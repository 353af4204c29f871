/*
 * A program with a known number of blocks, for the preloaded library.  For each line of
 * input it takes its next step and answers with a line of JSON: how many blocks of which
 * size it holds more than before.  Its own input and output do not allocate.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t sizes[] = { 16, 64, 320, 2048, 8192, 32768 };
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define NR 1000

static void *blocks[NR_SIZES][NR];

static void answer(const int *more)
{
	char line[512];
	int len = 0;

	for (unsigned k = 0; k < NR_SIZES; k++)
		len += snprintf(line + len, sizeof(line) - (size_t)len, "%s\"%zu\": %d",
				k > 0 ? ", " : "{", sizes[k], more[k]);
	len += snprintf(line + len, sizeof(line) - (size_t)len, "}\n");
	if (write(STDOUT_FILENO, line, (size_t)len) != len)
		_exit(1);
}

static void next(void)
{
	char c;

	do {
		if (read(STDIN_FILENO, &c, 1) != 1)
			_exit(0);
	} while (c != '\n');
}

int main(void)
{
	int more[NR_SIZES] = { 0 };

	answer(more);
	next();
	for (unsigned k = 0; k < NR_SIZES; k++) {
		for (unsigned i = 0; i < NR; i++)
			blocks[k][i] = malloc(sizes[k]);
		more[k] = NR;
	}
	answer(more);
	next();
	for (unsigned k = 0; k < NR_SIZES; k++) {
		more[k] = 0;
		for (unsigned i = 0; i < NR; i += 1 + k) {
			free(blocks[k][i]);
			more[k]--;
		}
	}
	answer(more);
	next();
	return 0;
}
