/* Putting the twins in place; see sited.h. */
#include "preload/sited.h"

#include <string.h>

/* Where the twins' offsets and tables stand, each relative to its own place in its list; debug
 * builds have none. */
#define LIST(name)                                                                             \
	extern const int32_t __start_##name[] __attribute__((weak, visibility("hidden")));      \
	extern const int32_t __stop_##name[] __attribute__((weak, visibility("hidden")))
LIST(sited_offsets);
LIST(sited_tables);

#define JUMP_BYTES 5

static NOINLINE void *slower(size_t size, uintptr_t site, const uintptr_t *stack)
{
	return sites_malloc(size, &(struct sites_caller){ site, stack, 0, false });
}

NOINLINE void *sited_slow(size_t size)
{
	return sited_slow_or(size, slower);
}

#if SITED_SUPPORTED
static bool write_all(const int32_t *at, const int32_t *end, intptr_t value)
{
	int32_t displacement = (int32_t)value;

	if (displacement != value)
		return false;
	for (; at < end; at++) {
		if (!os_patch((void *)((intptr_t)at + *at), &displacement,
			      sizeof(displacement)))
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
	return sites_make_table() &&
	       write_all(__start_sited_tables, __stop_sited_tables, (intptr_t)sites_place) &&
	       write_all(__start_sited_offsets, __stop_sited_offsets,
			 (intptr_t)heap_now - (intptr_t)thread_pointer()) &&
	       write_jumps(sited_malloc_twins) && write_jumps(sited_new_twins);
}
#else
bool sited_start(void)
{
	return false;
}
#endif
