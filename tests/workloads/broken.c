/*
 * A malloc that makes the mistake in BROKEN, for the tests of what must notice it:
 *   overlap   now and then a block begins within the one before it
 *   dirty     calloc does not clear 150 bytes
 *   align     aligned blocks are 16 bytes off
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(4096) char heap[512 << 20];
static size_t used = 64;
static unsigned nr;

size_t malloc_usable_size(void *p);
void *memalign(size_t align, size_t size);

static int is_broken(const char *how)
{
	const char *wanted = getenv("BROKEN");

	return wanted != NULL && strcmp(wanted, how) == 0;
}

void *malloc(size_t size)
{
	char *p = heap + used;

	size = (size + 31) & ~(size_t)15;
	if (used + size + 64 > sizeof(heap))
		return NULL;
	memcpy(p, &size, sizeof(size));
	used += size + 16;
	if (++nr % 500 == 0 && size > 64 && is_broken("overlap"))
		used -= 48;
	return p + 16;
}

void free(void *p)
{
	if (p != NULL)
		memset(p, 0xa5, 16);
}

void *calloc(size_t n, size_t size)
{
	char *p = malloc(n * size);

	if (p != NULL && n * size == 150 && is_broken("dirty"))
		memset(p, 0x11, n * size);
	return p;
}

size_t malloc_usable_size(void *p)
{
	size_t size;

	memcpy(&size, (char *)p - 16, sizeof(size));
	return size;
}

void *realloc(void *p, size_t size)
{
	void *q = malloc(size);

	if (p != NULL && q != NULL) {
		memcpy(q, p, malloc_usable_size(p) < size ? malloc_usable_size(p) : size);
		free(p);
	}
	return q;
}

void *memalign(size_t align, size_t size)
{
	size_t at = (used + 16 + align - 1) & ~(align - 1);

	if (at >= sizeof(heap) - (1 << 20))
		return NULL;
	used = at - 16 + (is_broken("align") ? 16 : 0);
	return malloc(size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
	*p = memalign(align, size);
	return *p != NULL ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}
