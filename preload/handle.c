/* pageblock.h's functions on memory that can move: errors become errno. */
#include "preload/export.h"
#include "preload/pageblock.h"
#include "shim/shim.h"

#include <errno.h>

static int result(int err)
{
	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}

EXPORT pb_handle_t pb_handle_alloc(size_t nr_bytes)
{
	int err;
	pb_handle_t handle = shim_handle_alloc(nr_bytes, &err);

	(void)result(err);
	return handle;
}

EXPORT void *pb_handle_pin(pb_handle_t handle)
{
	int err;
	void *p = shim_handle_pin(handle, &err);

	(void)result(err);
	return p;
}

EXPORT int pb_handle_unpin(pb_handle_t handle)
{
	return result(shim_handle_unpin(handle));
}

EXPORT int pb_handle_free(pb_handle_t handle)
{
	return result(shim_handle_free(handle));
}

EXPORT size_t pb_handle_size(pb_handle_t handle)
{
	int err;
	size_t nr_bytes = shim_handle_size(handle, &err);

	(void)result(err);
	return nr_bytes;
}

EXPORT size_t pb_compact(uint64_t deadline)
{
	return shim_compact(deadline);
}
