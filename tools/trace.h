/*
 * Allocation traces: what a program asked of malloc, in the order in which it did.
 *
 * The file's format is described in pageblock-trace(5); this is a trace in memory.  A trace
 * that trace_load() accepts is sound: each object is born once, before it dies, and dies at
 * most once; sizes and alignments are possible; threads and sites are in range.  What is
 * never freed is alive at the end.
 */
#ifndef PB_TOOLS_TRACE_H
#define PB_TOOLS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_VERSION 1u
#define TRACE_SIZE_MAX ((uint64_t)1 << 47)
#define TRACE_ALIGN_LOG2_MAX 31u
#define TRACE_THREADS_MAX 65535u

/* The codes are those of the file. */
enum trace_op {
	TRACE_THREAD, /* in files only: what follows is of this thread */
	TRACE_MALLOC,
	TRACE_CALLOC,
	TRACE_ALIGNED, /* of an alignment malloc does not promise */
	TRACE_REALLOC, /* one object dies and another is born with its contents */
	TRACE_FREE,
	TRACE_END,  /* the thread ended */
	TRACE_TIME, /* in files only: so long since the thread's event before */
	NR_TRACE_OPS
};

enum trace_flags {
	TRACE_SITES = 1, /* allocations have call sites */
	TRACE_TIMES = 2  /* the time between a thread's events is known */
};

struct trace_event {
	uint64_t size;
	uint32_t object;   /* born, or of TRACE_FREE dying; counted from 0 by birth */
	uint32_t from;     /* TRACE_REALLOC: what dies */
	uint32_t site;     /* 0: unknown */
	uint32_t think_us; /* since the thread's event before, rounded down */
	uint16_t thread;
	uint8_t op;
	uint8_t align_log2; /* TRACE_ALIGNED */
};

/* A return address, as a place in a file. */
struct trace_site {
	uint32_t module; /* index of trace.modules */
	uint64_t offset;
};

struct trace {
	unsigned flags;
	char *program;
	struct trace_event *events;
	uint64_t nr_events;
	uint32_t nr_objects;
	uint32_t nr_threads;
	char **modules;
	uint32_t nr_modules;
	struct trace_site *sites; /* site n of events is sites[n - 1] */
	uint32_t nr_sites;
};

/*
 * Loads a trace, "-" being standard input; one compressed by xz is unpacked by that program.
 * false: *why says in a few words what is wrong with it, which file it is left to the caller.
 */
bool trace_load(struct trace *trace, const char *path, char why[256]);
/* False when the stream has an error. */
bool trace_save(const struct trace *trace, FILE *file);
/* What the trace points to; it may be a wholly zeroed one. */
void trace_free(struct trace *trace);

static inline bool trace_op_allocates(unsigned op)
{
	return op >= TRACE_MALLOC && op <= TRACE_REALLOC;
}

#endif
