/*
 * What <jemalloc/jemalloc.h> declares, as far as it is answered here: the functions with
 * flags of mallocx.c and the tree of names of mallctl.c.  Programs linked to jemalloc find
 * these before jemalloc's own, so that every block comes from and goes to one allocator.
 */
#ifndef PB_PRELOAD_JEMALLOC_H
#define PB_PRELOAD_JEMALLOC_H

#include <stddef.h>

void *mallocx(size_t size, int flags);
void *rallocx(void *p, size_t size, int flags);
size_t xallocx(void *p, size_t size, size_t extra, int flags);
size_t sallocx(const void *p, int flags);
void dallocx(void *p, int flags);
void sdallocx(void *p, size_t size, int flags);
size_t nallocx(size_t size, int flags);

/* 0; ENOENT no such name, EPERM not to be read or not to be written, EINVAL another size
 * than the value's, EFAULT it could not be done. */
int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len);
/* The numbers of a name's components; those that stand for numbers may be changed. */
int mallctlnametomib(const char *name, size_t *mib, size_t *mib_len);
int mallctlbymib(const size_t *mib, size_t mib_len, void *old, size_t *old_len, void *new,
		 size_t new_len);
/* write gets pieces of text; NULL: to standard error.  A J in opts: as JSON. */
void malloc_stats_print(void (*write)(void *arg, const char *text), void *arg,
			const char *opts);

#endif
