/* Putting the twins in place; see sited.h. */
#include "preload/sited.h"

#include <string.h>

/* Where the twins' offsets stand, each relative to its own place in this list; debug builds
 * have none. */
extern const int32_t __start_sited_offsets[] __attribute__((weak, visibility("hidden")));
extern const int32_t __stop_sited_offsets[] __attribute__((weak, visibility("hidden")));

#define JUMP_BYTES 5

static NOINLINE void *slower(size_t size, uintptr_t site, const uintptr_t *stack)
{
	return sited_malloc(size, (struct sites_caller){ site, stack, 0, false });
}

NOINLINE void *sited_slow(size_t size)
{
	return sited_slow_or(size, slower);
}

#if SITED_SUPPORTED
static bool write_offsets(void)
{
	int32_t offset = (int32_t)((intptr_t)heap_now - (intptr_t)thread_pointer());

	for (const int32_t *at = __start_sited_offsets; at < __stop_sited_offsets; at++) {
		if (!os_patch((void *)((intptr_t)at + *at), &offset, sizeof(offset)))
			return false;
	}
	return true;
}

static bool write_jumps(const struct sited_twin *twins)
{
	for (; twins->original != NULL; twins++) {
		unsigned char jump[JUMP_BYTES] = { 0xe9 };
		int32_t distance = (int32_t)((intptr_t)twins->twin -
					     (intptr_t)twins->original - JUMP_BYTES);

		memcpy(jump + 1, &distance, sizeof(distance));
		if (!os_patch((void *)(uintptr_t)twins->original, jump, sizeof(jump)))
			return false;
	}
	return true;
}

/* The twins first: an original that does not jump yet is as good as ever. */
bool sited_start(void)
{
	return write_offsets() && write_jumps(sited_malloc_twins) &&
	       write_jumps(sited_new_twins);
}
#else
bool sited_start(void)
{
	return false;
}
#endif
