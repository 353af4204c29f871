/* Every process that runs on the library, looked at again and again. */
#ifndef PB_TOOLS_PROCESSES_H
#define PB_TOOLS_PROCESSES_H

#include "tools/snapshot.h"

#define HISTORY 512u

/* What one look found, in bytes. */
struct sample {
	uint64_t at_ns;
	uint64_t rss, live, dirty_free, cached, purged, committed, slabs_free;
	size_t nr_threads; /* heaps with a thread */
};

struct process {
	struct reader reader;
	uint64_t started; /* as in /proc/PID/stat: tells a number's next user apart */
	uid_t uid;
	struct sample now, before;
	/* A ring: sample number i is at i % HISTORY. */
	struct sample *history;
	size_t nr_samples;
};

struct processes {
	const struct verb *verb;
	struct process *all;
	size_t nr;
	size_t nr_refused; /* that may not be looked into */
	unsigned round;
	/* Those without the library, so that they are not looked at every time. */
	struct {
		pid_t pid;
		uint64_t started;
	} *others;
	size_t nr_others;
};

/* Looks for new processes and at those that are known.  One process only: pid > 0. */
void processes_look(struct processes *p, pid_t pid);
void processes_free(struct processes *p);

/* Bytes given back a second, between the last two looks. */
double process_purge_rate(const struct process *p);

#endif
