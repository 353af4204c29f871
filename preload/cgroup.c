/*
 * The memory cgroup the process is in; see cgroup.h.
 *
 * /proc/self/cgroup says which cgroup, as a path within a hierarchy; /proc/self/mountinfo
 * where that hierarchy is mounted, and which part of it.  A limit of any cgroup above counts too,
 * up to the mount point, which in a container is the container's own.
 */
#include "preload/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024u

/* --- files ------------------------------------------------------------------------------ */

bool cgroup_path(char *path, const char *dir, const char *name)
{
	size_t dir_len = strlen(dir), name_len = strlen(name);

	if (dir_len + 1 + name_len >= CGROUP_PATH_MAX)
		return false;
	memcpy(path, dir, dir_len);
	path[dir_len] = '/';
	memcpy(path + dir_len + 1, name, name_len + 1);
	return true;
}

/* A number in a file; UINT64_MAX: "max", or it cannot be read, and then *err says why. */
static uint64_t read_number(const char *dir, const char *name, int *err)
{
	char path[CGROUP_PATH_MAX], text[32];
	uint64_t n = 0;
	ssize_t len;
	int fd;

	*err = 0;
	if (!cgroup_path(path, dir, name))
		return UINT64_MAX;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*err = errno;
		return UINT64_MAX;
	}
	len = read(fd, text, sizeof(text) - 1);
	if (len < 0)
		*err = errno;
	(void)close(fd);
	if (len <= 0 || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	for (ssize_t i = 0; i < len && text[i] >= '0' && text[i] <= '9'; i++)
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(text[i] - '0'), &n))
			return UINT64_MAX;
	return n;
}

/* Calls with each line of a file, its end cut off when it is very long. */
static void each_line(const char *path, void (*line)(char *text, void *arg), void *arg)
{
	char buffer[4096], text[LINE_MAX_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i] != '\n') {
				if (len < sizeof(text) - 1)
					text[len++] = buffer[i];
				continue;
			}
			text[len] = '\0';
			len = 0;
			line(text, arg);
		}
	}
	(void)close(fd);
}

/* --- which, and where --------------------------------------------------------------------- */

/* A hierarchy: our path in it, which part of it is mounted, and where. */
struct hierarchy {
	char path[CGROUP_PATH_MAX];
	char root[CGROUP_PATH_MAX];
	char mount[CGROUP_PATH_MAX];
};

struct hierarchies {
	struct hierarchy v1, v2;
};

static void copy(char *to, const char *from)
{
	size_t len = strlen(from);

	if (len >= CGROUP_PATH_MAX)
		len = 0; /* as if it were not there */
	memcpy(to, from, len);
	to[len] = '\0';
}

/* Whether a list with commas has the word. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)) != NULL; at += len)
		if ((at == list || at[-1] == ',') && (at[len] == '\0' || at[len] == ','))
			return true;
	return false;
}

/* NUMBER:CONTROLLERS:PATH */
static void membership_line(char *text, void *arg)
{
	struct hierarchies *all = arg;
	char *controllers = strchr(text, ':');
	char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');

	if (path == NULL)
		return;
	*controllers++ = '\0';
	*path++ = '\0';
	if (strcmp(text, "0") == 0 && *controllers == '\0')
		copy(all->v2.path, path);
	else if (has_word(controllers, "memory"))
		copy(all->v1.path, path);
}

/* ID PARENT DEVICE ROOT MOUNT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS */
static void mount_line(char *text, void *arg)
{
	struct hierarchies *all = arg;
	char *fields[5], *at = text, *type = strstr(text, " - "), *options;
	struct hierarchy *h = NULL;

	if (type == NULL)
		return;
	*type = '\0';
	type += 3;
	for (unsigned i = 0; i < 5; i++) {
		fields[i] = at;
		at = strchr(at, ' ');
		if (at == NULL)
			return;
		*at++ = '\0';
	}
	options = strrchr(type, ' ');
	if (options == NULL)
		return;
	options++;
	if (strncmp(type, "cgroup2 ", 8) == 0)
		h = &all->v2;
	else if (strncmp(type, "cgroup ", 7) == 0 && has_word(options, "memory"))
		h = &all->v1;
	if (h == NULL || h->mount[0] != '\0')
		return;
	copy(h->root, fields[3]);
	copy(h->mount, fields[4]);
}

/* The directory of our cgroup; false: the hierarchy is not there. */
static bool find_dir(const struct hierarchy *h, char *dir)
{
	const char *path = h->path;
	size_t len = strlen(h->root);

	if (h->mount[0] == '\0' || path[0] == '\0')
		return false;
	if (strcmp(h->root, "/") != 0) {
		/* What is not below the part that is mounted cannot be seen: its top, then. */
		if (strncmp(path, h->root, len) == 0 && (path[len] == '/' || path[len] == '\0'))
			path += len;
		else
			path = "";
	}
	if (path[0] == '\0' || strcmp(path, "/") == 0) {
		copy(dir, h->mount);
		return true;
	}
	return cgroup_path(dir, h->mount, path + 1);
}

/* The tightest limit of dir and those above it, up to the mount point. */
static void find_limit(struct cgroup *cgroup, const char *mount, const char *from,
		       const char *name)
{
	char dir[CGROUP_PATH_MAX];
	size_t mount_len = strlen(mount);

	copy(dir, from);
	for (;;) {
		char *slash;
		int err;
		uint64_t limit = read_number(dir, name, &err);

		/* The topmost one has no such file. */
		cgroup->failed |= err != 0 && err != ENOENT;
		/* Version 1 says "none" by a number near 2^63. */
		if (limit < cgroup->limit_bytes && limit < (uint64_t)1 << 60) {
			cgroup->limit_bytes = limit;
			copy(cgroup->dir, dir);
		}
		slash = strrchr(dir, '/');
		if (slash == NULL || (size_t)(slash - dir) < mount_len)
			return;
		*slash = '\0';
	}
}

void cgroup_find(struct cgroup *cgroup)
{
	struct hierarchies all;
	char dir[CGROUP_PATH_MAX];
	int saved = errno;

	memset(&all, 0, sizeof(all));
	memset(cgroup, 0, sizeof(*cgroup));
	cgroup->limit_bytes = UINT64_MAX;
	each_line("/proc/self/cgroup", membership_line, &all);
	each_line("/proc/self/mountinfo", mount_line, &all);
	if (find_dir(&all.v2, dir)) {
		copy(cgroup->pressure_dir, dir);
		find_limit(cgroup, all.v2.mount, dir, "memory.max");
		find_limit(cgroup, all.v2.mount, dir, "memory.high");
	}
	if (cgroup->limit_bytes == UINT64_MAX && find_dir(&all.v1, dir)) {
		find_limit(cgroup, all.v1.mount, dir, "memory.limit_in_bytes");
		cgroup->is_v1 = cgroup->limit_bytes != UINT64_MAX;
	}
	errno = saved;
}

uint64_t cgroup_used_bytes(const struct cgroup *cgroup)
{
	int saved = errno, err;
	uint64_t used = UINT64_MAX;

	if (cgroup->limit_bytes != UINT64_MAX)
		used = read_number(cgroup->dir,
				   cgroup->is_v1 ? "memory.usage_in_bytes" : "memory.current",
				   &err);
	errno = saved;
	return used;
}
