/* The names that glibc 2.36 or its headers do not have, and its other names, all work. */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <malloc.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
void __libc_free(void *p);
/* Weak: not for linking in this libc. */
void *__libc_reallocarray(void *p, size_t nr, size_t size) __attribute__((weak));
int __posix_memalign(void **p, size_t align, size_t size) __attribute__((weak));
void __libc_cfree(void *p) __attribute__((weak));
void cfree(void *p) __attribute__((weak));
void free_sized(void *p, size_t size) __attribute__((weak));
void free_aligned_sized(void *p, size_t align, size_t size) __attribute__((weak));

int main(void)
{
	void *p = NULL;

	expect_library();
	/* Blocks of one name are freed by another. */
	free(__libc_malloc(10));
	free(__libc_calloc(10, 10));
	p = __libc_realloc(malloc(10), 100);
	EXPECT(malloc_usable_size(p) >= 100);
	__libc_free(p);
	p = __libc_memalign(256, 10);
	EXPECT((uintptr_t)p % 256 == 0);
	__libc_free(p);
	p = __libc_valloc(10);
	EXPECT((uintptr_t)p % 4096 == 0);
	free(p);
	p = __libc_pvalloc(10);
	EXPECT((uintptr_t)p % 4096 == 0 && malloc_usable_size(p) >= 4096);
	free(p);
	free(__libc_reallocarray(NULL, 3, 5));
	EXPECT(__posix_memalign(&p, 64, 10) == 0 && (uintptr_t)p % 64 == 0);
	__libc_cfree(p);
	cfree(malloc(10));
	free_sized(malloc(10), 10);
	free_sized(NULL, 0);
	free_aligned_sized(aligned_alloc(64, 128), 64, 128);
	free_aligned_sized(NULL, 64, 128);

	/* Must be ours: the library's count of live bytes sees it. */
	struct pb_stats before = { .size = sizeof(before) }, after = before;

	EXPECT(pb_get_stats(&before) == 0);
	p = __libc_malloc(100 << 20);
	EXPECT(pb_get_stats(&after) == 0);
	EXPECT(after.live_bytes >= before.live_bytes + (100 << 20));
	/* And freed for good by any name. */
	__libc_free(p);
	__libc_cfree(__libc_malloc(100 << 20));
	cfree(__libc_calloc(100, 1 << 20));
	free_sized(__libc_realloc(NULL, 100 << 20), 100 << 20);
	free_aligned_sized(__libc_memalign(4096, 100 << 20), 4096, 100 << 20);
	EXPECT(pb_get_stats(&after) == 0);
	EXPECT(after.live_bytes < before.live_bytes + (100 << 20));
	return 0;
}
