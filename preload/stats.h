/* Statistics in text form, and as other allocators divide the same memory. */
#ifndef PB_PRELOAD_STATS_H
#define PB_PRELOAD_STATS_H

#include "preload/text.h"

#include <stdint.h>

/* What malloc_stats() writes, to a buffer or a file descriptor. */
void stats_text(struct text *t);
void stats_write(int fd);

/*
 * allocated <= active <= mapped <= resident = mapped + metadata, whatever other threads did while
 * this was read.  Bytes but for threads.
 */
struct heap_view {
	uint64_t allocated; /* blocks in use, or cached by threads */
	uint64_t large;     /* of these: page runs */
	uint64_t active;    /* pages that hold blocks, or slabs of them */
	uint64_t dirty;     /* free pages that may be resident */
	uint64_t metadata;
	uint64_t resident; /* an upper bound: not every page in use was touched */
	uint64_t mapped;   /* made usable and not given back */
	uint64_t retained; /* given back, addresses kept */
	uint64_t threads;
};
struct heap_view stats_view(void);

#endif
