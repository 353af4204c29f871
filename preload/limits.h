/* The options soft_limit and hard_limit: what they come to in bytes. */
#ifndef PB_PRELOAD_LIMITS_H
#define PB_PRELOAD_LIMITS_H

#include "preload/options.h"

#include <stdbool.h>

struct limits {
	size_t soft_bytes; /* 0: none */
	size_t hard_bytes; /* 0: none */
	/* The part of the cgroup's limit that it may use before memory is given back. */
	unsigned cgroup_percent;
};

/* Says one line for each limit that makes no sense, and leaves it out. */
void limits_resolve(const struct options *options, struct limits *limits,
		    void (*complain)(const struct text *line));

#endif
