/*
 * Looking into a process from outside: finds the library's structure (core/inspect.h) in
 * its memory and reads what that leads to.  The process is neither stopped nor signalled
 * nor asked, nothing is left in it, and nothing is written but by request.c.
 *
 * The process goes on meanwhile.  What a lock protects is read between two looks at that
 * lock and read again when it was held or taken in between; reader_read_locked() tells when
 * that did not help, and then the caller must find out whether what it has makes sense.
 */
#ifndef PB_TOOLS_READER_H
#define PB_TOOLS_READER_H

#include "core/inspect.h"
#include "tools/tool.h"

#include <string.h>
#include <sys/types.h>

#define LOCK_BYTES_MAX 64u /* a struct lock is smaller, or refused */

/* Where a field is in its structure, in the library that is looked into. */
struct place {
	uint32_t offset;
	uint32_t size;
};

/* The rows of the two tables inspect.def, by their names there. */
struct layout {
#define TYPE(type) uint32_t sizeof_##type;
#define FIELD(type, field) struct place type##_##field;
#define CONSTANT(name, value) uint64_t name;
#include "core/inspect.def"
#include "shim/inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
};

struct reader {
	const struct verb *verb;
	pid_t pid;
	int pidfd;
	int pagemap;           /* /proc/PID/pagemap, or -1 */
	char name[64];         /* of the process, as in /proc/PID/comm */
	char library[256];     /* path of the mapping it was found in */
	uint64_t address;      /* of its pb_inspect */
	struct inspect header; /* a copy */
	struct inspect_item *items;
	size_t nr_items;
	struct layout at;
	uint64_t nr_torn;      /* reads that had to be repeated */
	bool quiet;            /* no complaints: the caller goes on without this process */
};

/* A process number; false after a complaint. */
bool reader_parse_pid(const struct verb *verb, const char *text, pid_t *pid);

/* 0, or an exit status after a complaint; then nothing is to be closed. */
int reader_open(struct reader *r, const struct verb *verb, pid_t pid, bool quiet);
void reader_close(struct reader *r);

/* False when it cannot be read; reader_why() then says why. */
bool reader_read(struct reader *r, uint64_t from, void *to, size_t nr_bytes);

enum read_result { READ_FAILED, READ_TORN, READ_WHOLE };
/* The same of what the lock at this address protects; torn: the last try is in *to. */
enum read_result reader_read_locked(struct reader *r, uint64_t lock, uint64_t from, void *to,
				    size_t nr_bytes);

/* Complains about what a failed read means, an ended process first; the exit status. */
int reader_why(struct reader *r);
/* Complains that what was read cannot be; the exit status. */
int reader_garbled(struct reader *r, const char *what);

/* A variable of the library; 0: it shows none of that name. */
uint64_t reader_object(const struct reader *r, const char *name, uint64_t *nr_bytes);
/* A row that is in none of the tables here; false: the library has no such row. */
bool reader_find(const struct reader *r, const char *name, struct inspect_item *item);

/* A field of a copy of its structure, as an unsigned number. */
static inline uint64_t get(const void *copy, struct place place)
{
	uint64_t n = 0;

	memcpy(&n, (const char *)copy + place.offset, place.size < 8 ? place.size : 8);
	return n;
}

#endif
