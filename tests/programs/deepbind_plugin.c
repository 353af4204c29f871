/* The plugin of deepbind.c: owns blocks by number, allocates and frees them itself. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plugin_make(size_t slot, size_t size_bytes, unsigned char fill);
unsigned long plugin_drop(size_t slot);
void *plugin_malloc(void);
unsigned long plugin_from_libc(void);

static struct {
	unsigned char *bytes;
	size_t size_bytes;
} blocks[4 * 2000];

void plugin_make(size_t slot, size_t size_bytes, unsigned char fill)
{
	unsigned char *bytes = calloc(1, size_bytes / 2 + 1);

	if (bytes)
		bytes = realloc(bytes, size_bytes);
	if (!bytes)
		abort();
	memset(bytes, fill, size_bytes);
	blocks[slot].bytes = bytes;
	blocks[slot].size_bytes = size_bytes;
}

unsigned long plugin_drop(size_t slot)
{
	unsigned long sum = 0;

	for (size_t i = 0; i < blocks[slot].size_bytes; i++)
		sum += blocks[slot].bytes[i];
	free(blocks[slot].bytes);
	return sum;
}

void *plugin_malloc(void)
{
	return (void *)malloc;
}

/* Blocks that libc allocates and its caller frees, or gives to its own realloc. */
unsigned long plugin_from_libc(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < 1000; i++) {
		char *text, *copy = strdup("allocated in libc");
		if (!copy || asprintf(&text, "%0*d", i, i) < 0)
			abort();
		copy = realloc(copy, 5000);
		if (!copy)
			abort();
		sum += strlen(copy) + strlen(text);
		free(text);
		free(copy);
	}
	return sum;
}
