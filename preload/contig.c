/* pageblock.h's functions on whole pageblocks: errors become errno. */
#include "preload/export.h"
#include "preload/pageblock.h"
#include "shim/shim.h"

#include <errno.h>
#include <string.h>

STATIC_ASSERT(PB_CONTIG_HARD == SHIM_CONTIG_HARD && PB_CONTIG_CMA == SHIM_CONTIG_CMA &&
		      PB_CONTIG_PREFAULT == SHIM_CONTIG_PREFAULT &&
		      PB_CONTIG_COLLAPSE == SHIM_CONTIG_COLLAPSE,
	      "flags are passed on as they are");

/* 0, or -1 and errno. */
static int result(int err)
{
	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}

EXPORT uint64_t pb_deadline(uint64_t ms)
{
	return shim_deadline_ns(ms);
}

EXPORT void *pb_alloc_contig(size_t nr_bytes, unsigned flags, uint64_t deadline)
{
	int err;
	void *p = shim_contig_alloc(nr_bytes, flags, deadline, &err);

	(void)result(err);
	return p;
}

EXPORT int pb_free_contig(void *p)
{
	return result(shim_contig_free(p));
}

EXPORT int pb_contig_info(void *p, struct pb_contig_info *info)
{
	struct pb_contig_info found = {.size = sizeof(found)};
	size_t size = info->size;
	int err;

	if (size < sizeof(info->size))
		return result(-EINVAL);
	err = shim_contig_look(p, &found.nr_bytes, &found.resident_bytes, &found.huge_bytes);
	if (err == -EINVAL && found.nr_bytes == 0)
		return result(err);
	/* As pb_get_stats(): what this library does not have is 0. */
	memset(info, 0, size);
	found.size = size;
	memcpy(info, &found, size < sizeof(found) ? size : sizeof(found));
	return result(err == 0 ? 0 : -ENOSYS);
}

EXPORT size_t pb_offline(size_t nr_bytes, uint64_t deadline)
{
	int err;
	size_t done = shim_offline(nr_bytes, deadline, &err);

	(void)result(err);
	return done;
}

EXPORT size_t pb_online(size_t nr_bytes)
{
	return shim_online(nr_bytes);
}

EXPORT int pb_defrag_hint(const void *p)
{
	return shim_defrag_hint(p);
}
