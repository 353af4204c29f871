/* The plugin of deepbind.c: owns blocks by number, allocates and frees them itself. */
#include <stdlib.h>
#include <string.h>

void plugin_make(size_t slot, size_t size_bytes, unsigned char fill);
unsigned long plugin_drop(size_t slot);
void *plugin_malloc(void);

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
