/*
 * Statistics and the rest of <malloc.h>, and the functions of pageblock.h.
 *
 * glibc's reports know arenas, fast bins and chunks got by mmap.  Here a page run of
 * its own is what they call mmapped, and everything else is one arena.
 */
#include "preload/stats.h"

#include "preload/export.h"
#include "preload/pageblock.h"
#include "preload/text.h"
#include "shim/shim.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* mallinfo itself is, but programs that call it go on to exist. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Every counter of shim is in the table and every one of the table in pb_stats. */
enum {
#define STAT(field, text) STAT_##field,
#include "preload/stats.def"
#undef STAT
	NR_STATS
};
STATIC_ASSERT(sizeof(struct shim_stats) == NR_STATS * sizeof(uint64_t),
	      "stats.def is complete");
STATIC_ASSERT(sizeof(struct pb_stats) == sizeof(uint64_t) + NR_STATS * sizeof(uint64_t),
	      "pb_stats is complete");

/* The same memory as glibc divides it: arena = used + free. */
struct glibc_view {
	size_t arena_bytes;
	size_t used_bytes;
	size_t free_bytes;
	size_t large_bytes;
	size_t dirty_bytes;
};

static struct glibc_view glibc_view(void)
{
	struct shim_stats s;
	struct glibc_view v;

	shim_stats_read(&s);
	v.large_bytes = s.large_bytes;
	v.used_bytes = s.live_bytes > s.large_bytes ? s.live_bytes - s.large_bytes : 0;
	v.arena_bytes =
		s.committed_bytes > s.large_bytes ? s.committed_bytes - s.large_bytes : 0;
	/* The counters are not of one moment. */
	if (v.arena_bytes < v.used_bytes)
		v.arena_bytes = v.used_bytes;
	v.free_bytes = v.arena_bytes - v.used_bytes;
	v.dirty_bytes = s.dirty_free_bytes;
	return v;
}

EXPORT struct mallinfo2 mallinfo2(void)
{
	struct glibc_view v = glibc_view();

	return (struct mallinfo2){ .arena = v.arena_bytes,
				   .ordblks = 1,
				   .hblks = v.large_bytes != 0,
				   .hblkhd = v.large_bytes,
				   .uordblks = v.used_bytes,
				   .fordblks = v.free_bytes,
				   .keepcost = v.dirty_bytes };
}

/* More than an int can say is said as the most it can. */
static int clamped(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 m = mallinfo2();

	return (struct mallinfo){ .arena = clamped(m.arena),
				  .ordblks = clamped(m.ordblks),
				  .hblks = clamped(m.hblks),
				  .hblkhd = clamped(m.hblkhd),
				  .uordblks = clamped(m.uordblks),
				  .fordblks = clamped(m.fordblks),
				  .keepcost = clamped(m.keepcost) };
}
ALIAS(__libc_mallinfo, mallinfo)
ALIAS(tc_mallinfo, mallinfo)

/*
 * glibc's parameters mean nothing here.  They are accepted as glibc does, with the same
 * answer, so that programs which check it go on.
 */
EXPORT int mallopt(int param, int value)
{
	const int mxfast_max = 80 * (int)sizeof(size_t) / 4;

	return param != M_MXFAST || (value >= 0 && value <= mxfast_max);
}
ALIAS(__libc_mallopt, mallopt)
ALIAS(tc_mallopt, mallopt)

/* pad, what glibc leaves at the top of the heap, has no meaning for blocks anywhere. */
EXPORT int malloc_trim(size_t pad)
{
	(void)pad;
	return shim_trim() > 0;
}

void stats_text(struct text *t)
{
	struct shim_stats s;

	shim_stats_read(&s);
	text_string(t, "pageblock " PB_VERSION ", process ");
	text_number(t, (uint64_t)getpid(), 0);
	text_end_line(t);
#define STAT(field, text)                                                                      \
	text_number(t, s.field, 16);                                                           \
	text_string(t, " " text);                                                              \
	text_end_line(t);
#include "preload/stats.def"
#undef STAT
}

void stats_write(int fd)
{
	struct text t;

	t.len = 0;
	stats_text(&t);
	text_write(&t, fd);
}

static uint64_t at_most(uint64_t n, uint64_t most)
{
	return n < most ? n : most;
}

/* The counters were not read at one moment: each is held to what it is a part of. */
struct heap_view stats_view(void)
{
	struct shim_stats s;
	struct heap_view v;

	shim_stats_read(&s);
	v.active = at_most(s.slab_bytes + s.large_bytes, s.committed_bytes);
	v.allocated = at_most(s.live_bytes, v.active);
	v.large = at_most(s.large_bytes, v.allocated);
	v.dirty =
		at_most(s.dirty_free_bytes + s.cached_page_bytes, s.committed_bytes - v.active);
	v.mapped = v.active + v.dirty;
	v.retained = s.committed_bytes - v.mapped;
	v.metadata = s.metadata_bytes;
	v.resident = v.mapped + v.metadata;
	v.threads = s.nr_heaps > s.nr_ownerless_heaps ? s.nr_heaps - s.nr_ownerless_heaps : 0;
	return v;
}

EXPORT void malloc_stats(void)
{
	stats_write(STDERR_FILENO);
}
ALIAS(tc_malloc_stats, malloc_stats)

/* <name type="type" size="n"/>, with count="nr" too when nr is not NULL. */
static void xml_total(struct text *t, const char *name, const char *type, const size_t *nr,
		      size_t nr_bytes)
{
	text_char(t, '<');
	text_string(t, name);
	text_string(t, " type=\"");
	text_string(t, type);
	if (nr != NULL) {
		text_string(t, "\" count=\"");
		text_number(t, *nr, 0);
	}
	text_string(t, "\" size=\"");
	text_number(t, nr_bytes, 0);
	text_string(t, "\"/>");
	text_end_line(t);
}

static void xml_arena(struct text *t, const struct glibc_view *v, bool whole)
{
	const size_t none = 0, one = v->free_bytes != 0, large = v->large_bytes != 0;

	xml_total(t, "total", "fast", &none, 0);
	xml_total(t, "total", "rest", &one, v->free_bytes);
	if (whole)
		xml_total(t, "total", "mmap", &large, v->large_bytes);
	xml_total(t, "system", "current", NULL, v->arena_bytes);
	xml_total(t, "system", "max", NULL, v->arena_bytes);
	xml_total(t, "aspace", "total", NULL, v->arena_bytes);
	xml_total(t, "aspace", "mprotect", NULL, v->arena_bytes);
}

/*
 * The one function here that may allocate: writing to the caller's stream may, after
 * the counters were read and with no lock held.
 */
EXPORT int malloc_info(int options, FILE *stream)
{
	struct glibc_view v;
	struct text t;

	if (options != 0)
		return EINVAL;
	v = glibc_view();
	t.len = 0;
	text_string(&t, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n</sizes>\n");
	xml_arena(&t, &v, false);
	text_string(&t, "</heap>\n");
	xml_arena(&t, &v, true);
	text_string(&t, "</malloc>\n");
	fwrite(t.bytes, 1, t.len, stream);
	return 0;
}

EXPORT const char *pb_version(void)
{
	return PB_VERSION;
}

EXPORT int pb_get_stats(struct pb_stats *stats)
{
	struct pb_stats all;
	struct shim_stats s;
	size_t size = stats->size;

	if (size < sizeof(stats->size)) {
		errno = EINVAL;
		return -1;
	}
	shim_stats_read(&s);
	all.size = size;
#define STAT(field, text) all.field = s.field;
#include "preload/stats.def"
#undef STAT
	if (size > sizeof(all)) {
		memset((char *)stats + sizeof(all), 0, size - sizeof(all));
		size = sizeof(all);
	}
	memcpy(stats, &all, size);
	return 0;
}

EXPORT size_t pb_trim(void)
{
	return shim_trim();
}

EXPORT void pb_check(void)
{
	shim_check();
}
