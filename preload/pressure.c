/*
 * Watching for memory pressure; see pressure.h.
 *
 *   PSI triggers     of the system, and of the process's cgroup where it is of version 2:
 *                    somebody waited for memory for 150 ms of 2 s (the window that the
 *                    kernel lets everybody use).  Closing one takes the kernel some 30 ms,
 *                    at exit too, so a process that is over soon has none
 *   a threshold      of a cgroup of version 1, by cgroup.event_control: an eventfd
 *   looking          at the cgroup's use, where neither may be opened; only while there is
 *                    something that could be given back, so that an idle process sleeps
 *
 * What cannot be opened, or goes away later, is left out: the others, or the decay, are the
 * next best.  That is said, in one line each, to who has asked for it: pressure:true, or a
 * limit in percent of the cgroup's.  Descriptors are compared with what was opened before
 * each use, as in background.c.
 */
#define _GNU_SOURCE
#include "preload/pressure.h"

#include "preload/cgroup.h"
#include "preload/config.h"
#include "preload/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_FROM 200
#define TRIGGER "some 150000 2000000"

enum kind { SYSTEM_PSI, CGROUP_PSI, CGROUP_THRESHOLD };

static struct watch {
	int fd; /* -1: none */
	dev_t dev;
	ino_t ino;
	uint64_t event; /* eventfds have one inode, but a number each; 0: it is none */
} watches[PRESSURE_FDS] = {{.fd = -1}, {.fd = -1}, {.fd = -1}};

static struct cgroup cgroup;

/* --- what is said ---------------------------------------------------------------------- */

static bool is_asked_for(void)
{
	uint64_t limits = config_value(OPT_soft_limit) | config_value(OPT_hard_limit);

	return config_value(OPT_pressure) == PRESSURE_TRUE || (limits & OPTION_IN_PERCENT) != 0;
}

/* Each once. */
static void say(bool *said, const char *what)
{
	struct text line = {.len = 0};

	if (*said || !is_asked_for())
		return;
	*said = true;
	text_string(&line, "pageblock: ");
	text_string(&line, what);
	text_end_line(&line);
	text_write(&line, STDERR_FILENO);
}

/* --- descriptors ------------------------------------------------------------------------ */

/* The number of an eventfd; 0: it is none, or the system does not say. */
static uint64_t event_number(int fd)
{
	static const char label[] = "eventfd-id:";
	struct text path = {.len = 0};
	char lines[256];
	const char *at;
	uint64_t n = 0;
	ssize_t len;

	text_string(&path, "/proc/self/fdinfo/");
	text_number(&path, (uint64_t)fd, 0);
	path.bytes[path.len] = '\0';
	fd = open(path.bytes, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, lines, sizeof(lines) - 1);
	(void)close(fd);
	lines[len > 0 ? len : 0] = '\0';
	at = strstr(lines, label);
	for (at = at == NULL ? "" : at + strlen(label); *at == ' ' || *at == '\t';)
		at++;
	for (; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

static bool is_own(const struct watch *watch)
{
	struct stat s;

	return watch->fd >= 0 && fstat(watch->fd, &s) == 0 && s.st_dev == watch->dev &&
	       s.st_ino == watch->ino &&
	       (watch->event == 0 || event_number(watch->fd) == watch->event);
}

static void watch_close(struct watch *watch)
{
	if (is_own(watch))
		(void)syscall(SYS_close, watch->fd);
	watch->fd = -1;
}

static void watch_set(struct watch *watch, int fd)
{
	struct watch opened = {.fd = fd, .event = event_number(fd)};
	struct stat s;
	int high;

	/* Before it has a number that the program may take for one of its own. */
	if (fstat(fd, &s) != 0)
		return;
	opened.dev = s.st_dev;
	opened.ino = s.st_ino;
	high = fcntl(fd, F_DUPFD_CLOEXEC, FDS_FROM);
	if (high >= 0) {
		(void)close(fd);
		opened.fd = high;
	}
	*watch = opened;
}

void pressure_close(void)
{
	for (unsigned i = 0; i < PRESSURE_FDS; i++)
		watch_close(&watches[i]);
}

/* --- opening ------------------------------------------------------------------------------ */

static void open_psi(enum kind kind, const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, TRIGGER, sizeof(TRIGGER)) == (ssize_t)sizeof(TRIGGER))
		watch_set(&watches[kind], fd);
	else
		(void)close(fd);
}

static uint64_t threshold_bytes(void)
{
	return cgroup.limit_bytes / 100 * config_limits()->cgroup_percent;
}

/* "EVENTFD USAGE_FD BYTES" into cgroup.event_control. */
static bool register_threshold(int event, int usage)
{
	char path[CGROUP_PATH_MAX];
	struct text line = {.len = 0};
	bool done;
	int fd;

	if (!cgroup_path(path, cgroup.dir, "cgroup.event_control"))
		return false;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	text_number(&line, (uint64_t)event, 0);
	text_char(&line, ' ');
	text_number(&line, (uint64_t)usage, 0);
	text_char(&line, ' ');
	text_number(&line, threshold_bytes(), 0);
	done = write(fd, line.bytes, line.len) == (ssize_t)line.len;
	(void)close(fd);
	return done;
}

static void open_threshold(void)
{
	char path[CGROUP_PATH_MAX];
	int event, usage;

	if (!cgroup_path(path, cgroup.dir, "memory.usage_in_bytes"))
		return;
	usage = open(path, O_RDONLY | O_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (usage >= 0 && event >= 0 && register_threshold(event, usage)) {
		watch_set(&watches[CGROUP_THRESHOLD], event);
		event = -1;
	}
	if (usage >= 0)
		(void)close(usage);
	if (event >= 0)
		(void)close(event);
}

static void open_triggers(void)
{
	static bool said_unseen;
	char path[CGROUP_PATH_MAX];

	open_psi(SYSTEM_PSI, "/proc/pressure/memory");
	if (cgroup.pressure_dir[0] != '\0' &&
	    cgroup_path(path, cgroup.pressure_dir, "memory.pressure"))
		open_psi(CGROUP_PSI, path);
	for (unsigned i = 0; i < PRESSURE_FDS; i++)
		if (watches[i].fd >= 0)
			return;
	say(&said_unseen, pressure_must_look()
				  ? "no PSI to watch; the cgroup's use is looked at instead"
				  : "no PSI to watch; memory goes back by the decay alone");
}

void pressure_open(bool triggers)
{
	pressure_close();
	if (config_value(OPT_pressure) == PRESSURE_FALSE)
		return;
	cgroup_find(&cgroup);
	if (cgroup.is_v1)
		open_threshold();
	if (triggers || is_asked_for())
		open_triggers();
}

/* --- waiting and looking -------------------------------------------------------------------- */

unsigned pressure_poll(struct pollfd *fds)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < PRESSURE_FDS; i++)
		if (is_own(&watches[i]))
			fds[nr++] = (struct pollfd){
				.fd = watches[i].fd,
				.events = i == CGROUP_THRESHOLD ? POLLIN : POLLPRI,
			};
	return nr;
}

static struct watch *watch_of(int fd)
{
	for (unsigned i = 0; i < PRESSURE_FDS; i++)
		if (watches[i].fd == fd)
			return &watches[i];
	return NULL;
}

bool pressure_answer(const struct pollfd *fds, unsigned nr)
{
	bool pressed = false;

	for (unsigned i = 0; i < nr; i++) {
		struct watch *watch = watch_of(fds[i].fd);
		uint64_t count;

		if (watch == NULL || fds[i].revents == 0)
			continue;
		/* The cgroup is gone, or the program has closed it. */
		if ((fds[i].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 || !is_own(watch)) {
			watch_close(watch);
			continue;
		}
		if (watch == &watches[CGROUP_THRESHOLD])
			/* Crossed upwards or downwards: the figure says which. */
			pressed |= read(fds[i].fd, &count, sizeof(count)) == sizeof(count) &&
				   pressure_look();
		else
			pressed = true;
	}
	return pressed;
}

bool pressure_must_look(void)
{
	return cgroup.limit_bytes != UINT64_MAX;
}

bool pressure_look(void)
{
	static bool said_gone;
	uint64_t used = cgroup_used_bytes(&cgroup);

	if (used == UINT64_MAX && pressure_must_look())
		say(&said_gone, "the cgroup's use cannot be read any more; the limits stay");
	return used != UINT64_MAX && used > threshold_bytes();
}
