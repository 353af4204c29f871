#define _GNU_SOURCE
#include "tools/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

/* Every so many looks it is asked again whether a process has the library by now. */
#define ASK_AGAIN 16u

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* When the process was started, in clock ticks; 0: there is none. */
static uint64_t start_of(pid_t pid)
{
	char path[64], line[1024];
	unsigned long long ticks = 0;
	const char *paren;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fgets(line, sizeof(line), file) != NULL && (paren = strrchr(line, ')')) != NULL &&
	    sscanf(paren + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		   "%*d %llu",
		   &ticks) != 1)
		ticks = 0;
	fclose(file);
	return ticks;
}

/* --- one process --------------------------------------------------------------------------- */

static bool look_at(struct process *p)
{
	struct snapshot s;

	if (snapshot_take(&s, &p->reader, 0) != 0)
		return false;
	p->before = p->now;
	p->now = (struct sample){
		.at_ns = now_ns(),
		.rss = s.rss,
		.live = s.live,
		.dirty_free = s.dirty * PAGE_SIZE_BYTES,
		.cached = s.slabs_cached + s.cached * PAGE_SIZE_BYTES,
		.purged = s.purged_pages * PAGE_SIZE_BYTES,
		.committed = s.total * PAGE_SIZE_BYTES,
		.slabs_free = s.slabs_free,
		.nr_threads = s.nr_heaps - s.nr_ownerless,
	};
	if (p->nr_samples == 0)
		p->before = p->now;
	if (p->history == NULL)
		p->history = calloc(HISTORY, sizeof(*p->history));
	if (p->history != NULL)
		p->history[p->nr_samples++ % HISTORY] = p->now;
	snapshot_free(&s);
	return true;
}

static void forget(struct process *p)
{
	reader_close(&p->reader);
	free(p->history);
}

double process_purge_rate(const struct process *p)
{
	uint64_t ns = p->now.at_ns - p->before.at_ns;

	return ns == 0 || p->now.purged < p->before.purged
		       ? 0
		       : (double)(p->now.purged - p->before.purged) * 1e9 / (double)ns;
}

/* --- all of them ------------------------------------------------------------------------------ */

static bool is_known(const struct processes *p, pid_t pid, uint64_t started)
{
	for (size_t i = 0; i < p->nr; i++) {
		if (p->all[i].reader.pid == pid && p->all[i].started == started)
			return true;
	}
	for (size_t i = 0; i < p->nr_others; i++) {
		if (p->others[i].pid == pid && p->others[i].started == started)
			return true;
	}
	return false;
}

static void add_other(struct processes *p, pid_t pid, uint64_t started)
{
	void *more = realloc(p->others, (p->nr_others + 1) * sizeof(p->others[0]));

	if (more == NULL)
		return;
	p->others = more;
	p->others[p->nr_others].pid = pid;
	p->others[p->nr_others++].started = started;
}

static void try_process(struct processes *p, pid_t pid)
{
	struct process new = { .started = start_of(pid) };
	struct process *more;
	char path[64];
	struct stat s;
	int status;

	if (new.started == 0 || is_known(p, pid, new.started))
		return;
	status = reader_open(&new.reader, p->verb, pid, true);
	if (status != 0) {
		p->nr_refused += status == EXIT_NO_PERMISSION;
		add_other(p, pid, new.started);
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	new.uid = stat(path, &s) == 0 ? s.st_uid : 0;
	more = look_at(&new) ? realloc(p->all, (p->nr + 1) * sizeof(*more)) : NULL;
	if (more == NULL) {
		forget(&new);
		return;
	}
	p->all = more;
	p->all[p->nr++] = new;
}

void processes_look(struct processes *p, pid_t pid)
{
	struct dirent *entry;
	size_t kept = 0;
	DIR *proc;

	for (size_t i = 0; i < p->nr; i++) {
		if (look_at(&p->all[i]))
			p->all[kept++] = p->all[i];
		else
			forget(&p->all[i]);
	}
	p->nr = kept;
	if (p->round++ % ASK_AGAIN == 0)
		p->nr_others = p->nr_refused = 0;
	if (pid > 0) {
		try_process(p, pid);
		return;
	}
	proc = opendir("/proc");
	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		if (isdigit((unsigned char)entry->d_name[0]))
			try_process(p, (pid_t)atoi(entry->d_name));
	}
	if (proc != NULL)
		closedir(proc);
}

void processes_free(struct processes *p)
{
	for (size_t i = 0; i < p->nr; i++)
		forget(&p->all[i]);
	free(p->all);
	free(p->others);
}
