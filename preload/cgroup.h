/*
 * The memory cgroup the process is in: its limit and its use, of version 1 or 2.
 * Nothing here allocates, and nothing needs libc to be initialised.
 */
#ifndef PB_PRELOAD_CGROUP_H
#define PB_PRELOAD_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_PATH_MAX 512u

struct cgroup {
	/* The tightest limit of the cgroup and those above it, and whose it is: in bytes. */
	uint64_t limit_bytes; /* UINT64_MAX: none */
	char dir[CGROUP_PATH_MAX];
	bool is_v1;
	/* Where pressure files are, "": nowhere.  That of version 2, also beside version 1. */
	char pressure_dir[CGROUP_PATH_MAX];
	/* A file that is there could not be read. */
	bool failed;
};

/* Reads /proc and the cgroup file system; what cannot be found is as if there were none. */
void cgroup_find(struct cgroup *cgroup);

/* What the cgroup with the limit uses; UINT64_MAX: it cannot be told (any more). */
uint64_t cgroup_used_bytes(const struct cgroup *cgroup);

/* DIR/NAME into path, of CGROUP_PATH_MAX bytes; false: it does not fit. */
bool cgroup_path(char *path, const char *dir, const char *name);

#endif
