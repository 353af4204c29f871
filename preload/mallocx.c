/* jemalloc's functions with flags; see jemalloc.h. */
#include "preload/export.h"
#include "preload/jemalloc.h"
#include "shim/fast.h"
#include "shim/shim.h"

#include <errno.h>
#include <string.h>

/* flags: the alignment's logarithm in the low bits, MALLOCX_ZERO, and the numbers of a
 * thread cache and an arena, which mean nothing here. */
#define LG_ALIGN_MASK 0x3f
#define ZERO 0x40

static size_t align_of(int flags)
{
	size_t align = (size_t)1 << (flags & LG_ALIGN_MASK);

	return align < ALIGN_MIN ? ALIGN_MIN : align;
}

EXPORT void *mallocx(size_t size, int flags)
{
	size_t align = align_of(flags);

	if (align == ALIGN_MIN)
		return (flags & ZERO) != 0 ? shim_calloc(1, size) : fast_malloc(size);
	if (shim_good_size(align, size) == 0) {
		errno = ENOMEM;
		return NULL;
	}

	void *p = shim_aligned_alloc(align, size);

	return p != NULL && (flags & ZERO) != 0 ? memset(p, 0, size) : p;
}

/* A block of another alignment than malloc's stays where it is, or is copied. */
static void *realloc_aligned(void *p, size_t old_bytes, size_t size, int flags)
{
	if (size <= old_bytes && size >= old_bytes / 2 &&
	    ((uintptr_t)p & (align_of(flags) - 1)) == 0)
		return p;

	void *to = mallocx(size, flags & ~ZERO);

	if (to == NULL)
		return NULL;
	memcpy(to, p, size < old_bytes ? size : old_bytes);
	fast_free(p);
	return to;
}

/* With MALLOCX_ZERO what lies beyond the old block's usable size is zero. */
EXPORT void *rallocx(void *p, size_t size, int flags)
{
	size_t old_bytes = shim_usable_size(p), new_bytes;

	if (size == 0)
		size = 1;
	p = align_of(flags) > ALIGN_MIN ? realloc_aligned(p, old_bytes, size, flags)
					: shim_realloc(p, size);
	if (p != NULL && (flags & ZERO) != 0) {
		new_bytes = shim_usable_size(p);
		if (new_bytes > old_bytes)
			memset((char *)p + old_bytes, 0, new_bytes - old_bytes);
	}
	return p;
}

/* A block never changes its size where it is: the answer says what it has. */
EXPORT size_t xallocx(void *p, size_t size, size_t extra, int flags)
{
	(void)size;
	(void)extra;
	(void)flags;
	return shim_usable_size(p);
}

EXPORT size_t sallocx(const void *p, int flags)
{
	(void)flags;
	return shim_usable_size(p);
}

EXPORT void dallocx(void *p, int flags)
{
	(void)flags;
	fast_free(p);
}

EXPORT void sdallocx(void *p, size_t size, int flags)
{
	(void)size;
	(void)flags;
	fast_free(p);
}

EXPORT size_t nallocx(size_t size, int flags)
{
	return shim_good_size(align_of(flags), size);
}
ALIAS(tc_nallocx, nallocx)
