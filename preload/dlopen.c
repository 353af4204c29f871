/*
 * dlopen without RTLD_DEEPBIND, unless the option deepbind says otherwise.
 *
 * A library opened with that flag finds libc's malloc before ours, while what it gets
 * from libc itself (strdup, getline) and from everybody else is ours: sooner or later
 * one allocator is asked to free a block of the other's.
 */
#define _GNU_SOURCE
#include "preload/dlopen.h"
#include "preload/config.h"
#include "preload/export.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

typedef void *dlopen_fn(const char *file, int mode);

static dlopen_fn *_Atomic next_dlopen;

dlopen_fn *dlopen_next(void)
{
	/* Relaxed: a function of libc's; whoever looks it up finds the same one. */
	dlopen_fn *fn = atomic_load_explicit(&next_dlopen, memory_order_relaxed);

	if (fn == NULL) {
		*(void **)&fn = dlsym(RTLD_NEXT, "dlopen");
		atomic_store_explicit(&next_dlopen, fn, memory_order_relaxed);
	}
	return fn;
}

/*
 * libc's function takes its return address for the library that called it (its search
 * path, its namespace), so it must be left by a jump and not called.
 */
#if defined(__clang__)
#define TAIL __attribute__((musttail))
#define TAIL_CALLS
#else
#define TAIL
#define TAIL_CALLS __attribute__((optimize("optimize-sibling-calls")))
#endif

EXPORT TAIL_CALLS void *dlopen(const char *file, int mode)
{
	dlopen_fn *fn = dlopen_next();

	if (!config_value(OPT_deepbind))
		mode &= ~RTLD_DEEPBIND;
	TAIL return fn(file, mode);
}
