/*
 * C's allocation functions under their own names, with glibc 2.36's behaviour at the
 * edges.  malloc and free are the inline fast paths and nothing else.
 */
#define _GNU_SOURCE
#include "preload/export.h"
#include "preload/sited.h"
#include "shim/fast.h"
#include "shim/shim.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* Not in the headers of this glibc. */
void cfree(void *p);
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t align, size_t size);

EXPORT void *malloc(size_t size)
{
	return fast_malloc(size);
}
ALIAS(__libc_malloc, malloc)
ALIAS(tc_malloc, malloc)
ALIAS(tc_malloc_skip_new_handler, malloc)

EXPORT void free(void *p)
{
	fast_free(p);
}
ALIAS(__libc_free, free)
ALIAS(__libc_cfree, free)
ALIAS(tc_free, free)
ALIAS(tc_cfree, free)

EXPORT void cfree(void *p)
{
	fast_free(p);
}

/* C23: the caller's sizes are a promise that nothing here relies on. */
EXPORT void free_sized(void *p, size_t size)
{
	(void)size;
	fast_free(p);
}
ALIAS(tc_free_sized, free_sized)

EXPORT void free_aligned_sized(void *p, size_t align, size_t size)
{
	(void)align;
	(void)size;
	fast_free(p);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	return shim_calloc(nr, size);
}
ALIAS(__libc_calloc, calloc)
ALIAS(tc_calloc, calloc)

EXPORT void *realloc(void *p, size_t size)
{
	return shim_realloc(p, size);
}
ALIAS(__libc_realloc, realloc)
ALIAS(tc_realloc, realloc)

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

EXPORT void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t nr_bytes;

	if (unlikely(__builtin_mul_overflow(nr, size, &nr_bytes)))
		return no_memory();
	return shim_realloc(p, nr_bytes);
}
ALIAS(__libc_reallocarray, reallocarray)

/* align: a power of two. */
static ALWAYS_INLINE void *aligned(size_t align, size_t size)
{
	if (likely(fast_aligns(align, size)))
		return fast_malloc(class_aligned_size(align, size));
	return shim_aligned_alloc(align, size);
}

EXPORT int posix_memalign(void **result, size_t align, size_t size)
{
	void *p;

	if (align % sizeof(void *) != 0 || !is_power_of_two(align))
		return EINVAL;
	p = aligned(align, size);
	if (p == NULL)
		return ENOMEM;
	*result = p;
	return 0;
}
ALIAS(__posix_memalign, posix_memalign)
ALIAS(tc_posix_memalign, posix_memalign)

/* As in glibc, an alignment that is no power of two is rounded up to one. */
static NOINLINE void *aligned_to_any(size_t align, size_t size)
{
	if (unlikely(align > SIZE_MAX / 2 + 1)) {
		errno = EINVAL;
		return NULL;
	}
	return aligned(align <= 1 ? 1 : (size_t)1 << log2_ceil(align), size);
}

static ALWAYS_INLINE void *aligned_as_glibc(size_t align, size_t size)
{
	return likely(is_power_of_two(align)) ? aligned(align, size) : aligned_to_any(align, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
	return aligned_as_glibc(align, size);
}
ALIAS(__libc_memalign, memalign)
ALIAS(tc_memalign, memalign)

/* In glibc 2.36 the same function: neither size nor alignment is checked as C11 says. */
EXPORT void *aligned_alloc(size_t align, size_t size)
{
	return aligned_as_glibc(align, size);
}

static size_t page_bytes(void)
{
	return getauxval(AT_PAGESZ);
}

EXPORT void *valloc(size_t size)
{
	return aligned(page_bytes(), size);
}
ALIAS(__libc_valloc, valloc)
ALIAS(tc_valloc, valloc)

/* Rounds the size up to whole pages. */
EXPORT void *pvalloc(size_t size)
{
	if (unlikely(size > PTRDIFF_MAX - page_bytes()))
		return no_memory();
	return aligned(page_bytes(), round_up(size, page_bytes()));
}
ALIAS(__libc_pvalloc, pvalloc)
ALIAS(tc_pvalloc, pvalloc)

EXPORT size_t malloc_usable_size(void *p)
{
	return shim_usable_size(p);
}
ALIAS(tc_malloc_size, malloc_usable_size)
ALIAS(malloc_size, malloc_usable_size)


/* --- twins by site ------------------------------------------------------------------- */

static void *malloc_sited(size_t size)
{
	return SITED_MALLOC(size, sited_slow);
}

static void *calloc_sited(size_t nr, size_t size)
{
	size_t nr_bytes;
	void *p;

	if (unlikely(__builtin_mul_overflow(nr, size, &nr_bytes)) || nr_bytes > MEDIUM_MAX)
		return shim_calloc(nr, size);
	p = sited_malloc(nr_bytes, SITES_CALLER());
	return p == NULL ? NULL : memset(p, 0, nr_bytes);
}

/* What moves stays in its place: see shim_realloc(). */
static void *realloc_sited(void *p, size_t size)
{
	if (p == NULL && size <= MEDIUM_MAX)
		return sited_malloc(size, SITES_CALLER());
	return shim_realloc(p, size);
}

OWN(malloc)
OWN(calloc)
OWN(realloc)

const struct sited_twin sited_malloc_twins[] = {
	{ (sited_function *)own_malloc, (sited_function *)malloc_sited },
	{ (sited_function *)own_calloc, (sited_function *)calloc_sited },
	{ (sited_function *)own_realloc, (sited_function *)realloc_sited },
	{ NULL, NULL },
};
