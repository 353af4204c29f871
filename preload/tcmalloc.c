/*
 * What programs linked to gperftools' tcmalloc call: the C interface of MallocExtension and
 * the functions whose names begin with tc_.  They find these before tcmalloc's own.  Its
 * C++ interface and its hooks stay tcmalloc's, which then has no memory to tell of.
 */
#include "preload/config.h"
#include "preload/export.h"
#include "preload/stats.h"
#include "shim/fast.h"
#include "shim/shim.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* --- properties ------------------------------------------------------------------------ */

int MallocExtension_GetNumericProperty(const char *property, size_t *value);
int MallocExtension_SetNumericProperty(const char *property, size_t value);

/* PROPERTY(name, of struct heap_view v) */
#define PROPERTIES                                                                             \
	PROPERTY("generic.current_allocated_bytes", v.allocated)                               \
	PROPERTY("generic.heap_size", v.mapped + v.retained)                                   \
	PROPERTY("generic.total_physical_bytes", v.resident)                                   \
	PROPERTY("tcmalloc.pageheap_free_bytes", v.dirty)                                      \
	PROPERTY("tcmalloc.pageheap_unmapped_bytes", v.retained)                               \
	PROPERTY("tcmalloc.slack_bytes", v.dirty)                                              \
	PROPERTY("tcmalloc.central_cache_free_bytes", v.active - v.allocated)                  \
	PROPERTY("tcmalloc.transfer_cache_free_bytes", 0)                                      \
	PROPERTY("tcmalloc.thread_cache_free_bytes", 0)                                        \
	PROPERTY("tcmalloc.current_total_thread_cache_bytes", 0)                               \
	PROPERTY("tcmalloc.max_total_thread_cache_bytes", SIZE_MAX)                            \
	PROPERTY("tcmalloc.aggressive_memory_decommit", config_value(OPT_decay) == 0)

/* 1, or 0 for a name that is not known. */
EXPORT int MallocExtension_GetNumericProperty(const char *property, size_t *value)
{
	struct heap_view v = stats_view();

#define PROPERTY(name, expression)                                                             \
	if (strcmp(property, name) == 0) {                                                     \
		*value = (expression);                                                         \
		return 1;                                                                      \
	}
	PROPERTIES
#undef PROPERTY
	return 0;
}

/* Settings of tcmalloc's own; accepted, and without a meaning here. */
EXPORT int MallocExtension_SetNumericProperty(const char *property, size_t value)
{
	(void)value;
	return strcmp(property, "tcmalloc.max_total_thread_cache_bytes") == 0 ||
	       strcmp(property, "tcmalloc.aggressive_memory_decommit") == 0;
}

/* --- the rest of the extension ---------------------------------------------------------- */

#define NR_HISTOGRAM 64
enum ownership { OWNERSHIP_UNKNOWN, OWNERSHIP_OWNED, OWNERSHIP_NOT_OWNED };

int MallocExtension_VerifyAllMemory(void);
int MallocExtension_VerifyMallocMemory(const void *p);
int MallocExtension_MallocMemoryStats(int *blocks, size_t *total, int histogram[NR_HISTOGRAM]);
void MallocExtension_GetStats(char *buffer, int length);
void MallocExtension_MarkThreadIdle(void);
void MallocExtension_MarkThreadBusy(void);
void MallocExtension_ReleaseToSystem(size_t nr_bytes);
void MallocExtension_ReleaseFreeMemory(void);
size_t MallocExtension_GetEstimatedAllocatedSize(size_t size);
size_t MallocExtension_GetAllocatedSize(const void *p);
size_t MallocExtension_GetThreadCacheSize(void);
enum ownership MallocExtension_GetOwnership(const void *p);

/* Stops the program where tcmalloc would answer 0. */
EXPORT int MallocExtension_VerifyAllMemory(void)
{
	shim_check();
	return 1;
}

/* The block must be a live one. */
EXPORT int MallocExtension_VerifyMallocMemory(const void *p)
{
	(void)shim_usable_size(p);
	return 1;
}
ALIAS(MallocExtension_VerifyNewMemory, MallocExtension_VerifyMallocMemory)
ALIAS(MallocExtension_VerifyArrayNewMemory, MallocExtension_VerifyMallocMemory)

/* A histogram is something tcmalloc's debug version has. */
EXPORT int MallocExtension_MallocMemoryStats(int *blocks, size_t *total,
					     int histogram[NR_HISTOGRAM])
{
	*blocks = 0;
	*total = 0;
	memset(histogram, 0, NR_HISTOGRAM * sizeof(histogram[0]));
	return 1;
}

EXPORT void MallocExtension_GetStats(char *buffer, int length)
{
	struct text t;
	size_t len;

	if (length <= 0)
		return;
	t.len = 0;
	stats_text(&t);
	len = t.len < (size_t)length ? t.len : (size_t)length - 1;
	memcpy(buffer, t.bytes, len);
	buffer[len] = '\0';
}

EXPORT void MallocExtension_MarkThreadIdle(void)
{
	shim_thread_flush();
}
ALIAS(MallocExtension_MarkThreadTemporarilyIdle, MallocExtension_MarkThreadIdle)

EXPORT void MallocExtension_MarkThreadBusy(void)
{
}

EXPORT void MallocExtension_ReleaseFreeMemory(void)
{
	(void)shim_trim();
}

/* At least so much is asked for; all there is goes. */
EXPORT void MallocExtension_ReleaseToSystem(size_t nr_bytes)
{
	if (nr_bytes > 0)
		(void)shim_trim();
}

EXPORT size_t MallocExtension_GetEstimatedAllocatedSize(size_t size)
{
	return shim_good_size(ALIGN_MIN, size);
}

EXPORT size_t MallocExtension_GetAllocatedSize(const void *p)
{
	return shim_usable_size(p);
}

EXPORT size_t MallocExtension_GetThreadCacheSize(void)
{
	return 0;
}

EXPORT enum ownership MallocExtension_GetOwnership(const void *p)
{
	return shim_owns(p) ? OWNERSHIP_OWNED : OWNERSHIP_NOT_OWNED;
}
