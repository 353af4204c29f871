/*
 * Allocation traces in files: pageblock-trace(5) has the format.  Reading trusts nothing.
 */
#define _GNU_SOURCE
#include "tools/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const unsigned char magic[8] = { 0x89, 'P', 'B', 'T', '\r', '\n', 0x1a, '\n' };

#define BLOCK_BYTES 65536u /* events are cut into blocks of about so much */
#define BLOCK_BYTES_MAX (1u << 30)
#define EVENT_BYTES_MAX 40u
#define SMALL_STEP 8u /* sizes in the operation's byte are multiples */
#define NO_OBJECT UINT32_MAX

/* --- checksum: CRC-32C (Castagnoli), as in iSCSI and ext4 ------------------------------ */

static uint32_t crc_update(uint32_t crc, const unsigned char *at, size_t nr_bytes)
{
	static uint32_t table[256];

	if (table[1] == 0)
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t value = i;

			for (int bit = 0; bit < 8; bit++)
				value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
			table[i] = value;
		}
	while (nr_bytes-- > 0)
		crc = crc >> 8 ^ table[(crc ^ *at++) & 0xff];
	return crc;
}

static uint32_t crc_block(unsigned char kind, const unsigned char *payload, size_t nr_bytes)
{
	return ~crc_update(crc_update(~0u, &kind, 1), payload, nr_bytes);
}

/* --- writing ------------------------------------------------------------------------------ */

struct buffer {
	unsigned char *bytes;
	size_t len, room;
	bool failed;
};

static void put_bytes(struct buffer *b, const void *bytes, size_t nr_bytes)
{
	if (b->len + nr_bytes > b->room) {
		size_t room = 2 * (b->len + nr_bytes) + 64;
		unsigned char *grown = realloc(b->bytes, room);

		b->failed |= grown == NULL;
		if (b->failed)
			return;
		b->bytes = grown;
		b->room = room;
	}
	memcpy(b->bytes + b->len, bytes, nr_bytes);
	b->len += nr_bytes;
}

static void put_byte(struct buffer *b, unsigned byte)
{
	unsigned char c = (unsigned char)byte;

	put_bytes(b, &c, 1);
}

/* LEB128: seven bits a byte, the lowest first. */
static void put_number(struct buffer *b, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		put_byte(b, (unsigned)(n | 0x80) & 0xff);
	put_byte(b, (unsigned)n);
}

static void put_text(struct buffer *b, const char *text)
{
	put_number(b, strlen(text));
	put_bytes(b, text, strlen(text));
}

/* Writes what the buffer has as a block and empties it. */
static void write_block(struct buffer *b, unsigned char kind, FILE *file)
{
	struct buffer head = { 0 };
	uint32_t crc = crc_block(kind, b->bytes, b->len);
	unsigned char tail[4];

	for (unsigned i = 0; i < 4; i++)
		tail[i] = crc >> 8 * i & 0xff;
	put_byte(&head, kind);
	put_number(&head, b->len);
	b->failed |= head.failed;
	if (!b->failed) {
		fwrite(head.bytes, 1, head.len, file);
		fwrite(b->bytes, 1, b->len, file);
		fwrite(tail, 1, sizeof(tail), file);
	}
	free(head.bytes);
	b->len = 0;
}

/* The operation in the low three bits, and a small number in the others where it fits. */
static void put_op(struct buffer *b, unsigned op, uint64_t small, uint64_t number)
{
	bool fits = small >= 1 && small <= 31;

	put_byte(b, op | (fits ? (unsigned)small << 3 : 0));
	if (!fits)
		put_number(b, number);
}

static void put_event(struct buffer *b, const struct trace *t, const struct trace_event *e,
		      uint32_t nr_born)
{
	uint64_t small = e->size % SMALL_STEP == 0 ? e->size / SMALL_STEP : 0;

	if ((t->flags & TRACE_TIMES) != 0 && e->think_us > 0)
		put_op(b, TRACE_TIME, e->think_us, e->think_us);
	switch (e->op) {
	case TRACE_MALLOC:
	case TRACE_CALLOC:
		put_op(b, e->op, small, e->size);
		break;
	case TRACE_ALIGNED:
		put_byte(b, TRACE_ALIGNED | (unsigned)e->align_log2 << 3);
		put_number(b, e->size);
		break;
	case TRACE_REALLOC:
		put_op(b, TRACE_REALLOC, nr_born - e->from, nr_born - e->from);
		put_number(b, e->size);
		break;
	case TRACE_FREE:
		put_op(b, TRACE_FREE, nr_born - e->object, nr_born - e->object);
		break;
	default:
		put_byte(b, e->op);
	}
	if ((t->flags & TRACE_SITES) != 0 && trace_op_allocates(e->op))
		put_number(b, e->site);
}

static void put_sites(struct buffer *b, const struct trace *t)
{
	put_number(b, t->nr_modules);
	for (uint32_t i = 0; i < t->nr_modules; i++)
		put_text(b, t->modules[i]);
	put_number(b, t->nr_sites);
	for (uint32_t i = 0; i < t->nr_sites; i++) {
		put_number(b, t->sites[i].module);
		put_number(b, t->sites[i].offset);
	}
}

bool trace_save(const struct trace *t, FILE *file)
{
	struct buffer b = { 0 };
	uint32_t nr_born = 0;
	unsigned thread = 0;

	put_number(&b, t->flags);
	put_number(&b, t->nr_events);
	put_number(&b, t->nr_objects);
	put_number(&b, t->nr_threads);
	put_text(&b, t->program != NULL ? t->program : "");
	fwrite(magic, 1, sizeof(magic), file);
	fputc(TRACE_VERSION, file);
	write_block(&b, 'H', file);
	if ((t->flags & TRACE_SITES) != 0) {
		put_sites(&b, t);
		write_block(&b, 'S', file);
	}
	for (uint64_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];

		if (e->thread != thread) {
			thread = e->thread;
			put_byte(&b, TRACE_THREAD);
			put_number(&b, thread);
		}
		put_event(&b, t, e, nr_born);
		nr_born += trace_op_allocates(e->op);
		if (b.len >= BLOCK_BYTES)
			write_block(&b, 'E', file);
	}
	if (b.len > 0)
		write_block(&b, 'E', file);
	put_number(&b, t->nr_events);
	write_block(&b, 'Z', file);

	bool ok = !b.failed && !ferror(file);

	free(b.bytes);
	return ok;
}

void trace_free(struct trace *t)
{
	for (uint32_t i = 0; i < t->nr_modules; i++)
		free(t->modules[i]);
	free(t->modules);
	free(t->sites);
	free(t->events);
	free(t->program);
	memset(t, 0, sizeof(*t));
}

/* --- reading ------------------------------------------------------------------------------ */

struct reader {
	struct trace *trace;
	const unsigned char *start, *at, *end; /* end: of the block once in it */
	const unsigned char *file_end;
	char *why;
	bool failed;
	uint64_t nr_read; /* events */
	uint32_t nr_born;
	uint32_t thread;
	uint32_t think_us;
	unsigned char *dead; /* one bit an object */
};

/* Keeps the first reason; false. */
__attribute__((format(printf, 2, 3))) static bool fail(struct reader *r, const char *format,
						       ...)
{
	va_list args;

	if (!r->failed) {
		va_start(args, format);
		vsnprintf(r->why, 256, format, args);
		va_end(args);
	}
	r->failed = true;
	r->at = r->end;
	return false;
}

static bool fail_here(struct reader *r, const char *what)
{
	return fail(r, "%s at byte %zu, after %llu events", what, (size_t)(r->at - r->start),
		    (unsigned long long)r->nr_read);
}

static unsigned get_byte(struct reader *r)
{
	if (r->at == r->end) {
		fail_here(r, "ends too early");
		return 0;
	}
	return *r->at++;
}

static uint64_t get_number(struct reader *r)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 63; shift += 7) {
		unsigned byte = get_byte(r);

		n |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	fail_here(r, "a number of too many digits");
	return 0;
}

/* A number of at most max. */
static uint64_t get_below(struct reader *r, uint64_t max, const char *what)
{
	uint64_t n = get_number(r);

	if (n <= max)
		return n;
	fail_here(r, what);
	return 0;
}

static char *get_text(struct reader *r)
{
	size_t len = (size_t)get_below(r, (uint64_t)(r->end - r->at), "a text too long");
	char *text;

	if (r->failed || len > (size_t)(r->end - r->at))
		return NULL;
	text = strndup((const char *)r->at, len);
	r->at += len;
	if (text == NULL)
		fail(r, "no memory");
	return text;
}

/* Room for nr things, each of which takes at least a byte of what is left of the file. */
static void *get_room(struct reader *r, uint64_t nr, size_t each, const char *what)
{
	void *room;

	if (r->failed)
		return NULL;
	if (nr > (uint64_t)(r->file_end - r->at)) {
		fail_here(r, what);
		return NULL;
	}
	room = calloc(nr > 0 ? nr : 1, each);
	if (room == NULL)
		fail(r, "no memory for it");
	return room;
}

static void read_header(struct reader *r)
{
	struct trace *t = r->trace;

	t->flags = (unsigned)get_below(r, TRACE_SITES | TRACE_TIMES, "unknown flags");
	t->nr_events = get_number(r);
	t->nr_objects = (uint32_t)get_below(r, UINT32_MAX - 1, "too many objects");
	t->nr_threads = (uint32_t)get_below(r, TRACE_THREADS_MAX, "too many threads");
	t->program = get_text(r);
	t->events = get_room(r, t->nr_events, sizeof(*t->events), "more events than bytes");
	if (!r->failed && t->nr_objects > t->nr_events)
		fail_here(r, "more objects than events");
	if (!r->failed)
		r->dead = calloc(t->nr_objects / 8 + 1, 1);
	if (!r->failed && r->dead == NULL)
		fail(r, "no memory for it");
}

static void read_sites(struct reader *r)
{
	struct trace *t = r->trace;
	uint32_t nr = (uint32_t)get_below(r, UINT32_MAX, "too many modules");

	if (t->modules != NULL || (t->flags & TRACE_SITES) == 0) {
		fail_here(r, "unexpected table of call sites");
		return;
	}
	t->modules = get_room(r, nr, sizeof(*t->modules), "more modules than bytes");
	for (; !r->failed && t->nr_modules < nr; t->nr_modules++) {
		t->modules[t->nr_modules] = get_text(r);
		if (t->modules[t->nr_modules] == NULL)
			return;
	}
	nr = (uint32_t)get_below(r, UINT32_MAX, "too many call sites");
	t->sites = get_room(r, nr, sizeof(*t->sites), "more call sites than bytes");
	for (; !r->failed && t->nr_sites < nr; t->nr_sites++) {
		struct trace_site *site = &t->sites[t->nr_sites];

		site->module = (uint32_t)get_below(r, t->nr_modules, "an unknown module");
		if (!r->failed && site->module == t->nr_modules)
			fail_here(r, "an unknown module");
		site->offset = get_number(r);
	}
}

/* The object the distance leads to, which dies here. */
static uint32_t get_dying(struct reader *r, unsigned small)
{
	uint64_t distance = small > 0 ? small : get_number(r);
	uint32_t object = r->nr_born - (uint32_t)distance;

	if (r->failed)
		return NO_OBJECT;
	if (distance == 0 || distance > r->nr_born) {
		fail_here(r, "a free of an object that was never allocated");
		return NO_OBJECT;
	}
	if ((r->dead[object / 8] >> object % 8 & 1) != 0) {
		fail_here(r, "an object freed twice");
		return NO_OBJECT;
	}
	r->dead[object / 8] |= (unsigned char)(1u << object % 8);
	return object;
}

static void get_birth(struct reader *r, struct trace_event *e)
{
	if (r->nr_born == r->trace->nr_objects) {
		fail_here(r, "more objects than the header says");
		return;
	}
	e->object = r->nr_born++;
	if ((r->trace->flags & TRACE_SITES) != 0)
		e->site = (uint32_t)get_below(r, r->trace->nr_sites, "an unknown call site");
}

static uint64_t get_size(struct reader *r)
{
	return get_below(r, TRACE_SIZE_MAX, "a size that cannot be");
}

static void read_event(struct reader *r, unsigned op, unsigned small)
{
	struct trace_event *e = &r->trace->events[r->nr_read];

	if (r->nr_read == r->trace->nr_events || r->thread >= r->trace->nr_threads) {
		fail_here(r, "more events or threads than the header says");
		return;
	}
	*e = (struct trace_event){ .op = (uint8_t)op,
				   .thread = (uint16_t)r->thread,
				   .think_us = r->think_us };
	r->think_us = 0;
	switch (op) {
	case TRACE_MALLOC:
	case TRACE_CALLOC:
		e->size = small > 0 ? small * SMALL_STEP : get_size(r);
		get_birth(r, e);
		break;
	case TRACE_ALIGNED:
		e->align_log2 = (uint8_t)small;
		e->size = get_size(r);
		get_birth(r, e);
		break;
	case TRACE_REALLOC:
		e->from = get_dying(r, small);
		e->size = get_size(r);
		get_birth(r, e);
		break;
	case TRACE_FREE:
		e->object = get_dying(r, small);
		break;
	default:
		if (small != 0)
			fail_here(r, "an unknown operation");
	}
	r->nr_read++;
}

static void read_events(struct reader *r)
{
	while (!r->failed && r->at < r->end) {
		unsigned byte = get_byte(r);
		unsigned op = byte & 7, small = byte >> 3;

		if (op == TRACE_THREAD) {
			r->thread = (uint32_t)get_number(r);
			if (r->thread >= r->trace->nr_threads || small != 0)
				fail_here(r, "an unknown thread");
		} else if (op == TRACE_TIME) {
			r->think_us = small > 0 ? small
						: (uint32_t)get_below(r, UINT32_MAX,
								      "a time that cannot be");
		} else {
			read_event(r, op, small);
		}
	}
}

/* One block, its checksum included; its kind, or 0. */
static unsigned read_block(struct reader *r, unsigned nr_before)
{
	size_t at = (size_t)(r->at - r->start);
	unsigned kind = get_byte(r);
	uint64_t len = get_number(r);

	if (r->failed || len > BLOCK_BYTES_MAX || len + 4 > (uint64_t)(r->file_end - r->at)) {
		r->failed = false;
		fail(r, "truncated in the block at byte %zu, after %llu events", at,
		     (unsigned long long)r->nr_read);
		return 0;
	}

	const unsigned char *sum = r->at + len;

	if (crc_block((unsigned char)kind, r->at, len) !=
	    ((uint32_t)sum[0] | (uint32_t)sum[1] << 8 | (uint32_t)sum[2] << 16 |
	     (uint32_t)sum[3] << 24)) {
		fail(r, "damaged: the checksum of the block at byte %zu differs", at);
		return 0;
	}
	r->end = sum;
	if ((kind == 'H') != (nr_before == 0))
		fail_here(r, "a header where none belongs, or none where one does");
	else if (kind == 'H')
		read_header(r);
	else if (kind == 'S')
		read_sites(r);
	else if (kind == 'E')
		read_events(r);
	else if (kind == 'Z' && get_number(r) != r->nr_read)
		fail_here(r, "not as many events as it says");
	else if (kind != 'Z')
		fail_here(r, "a block of an unknown kind");
	if (!r->failed && r->at != r->end)
		fail_here(r, "a block too long");
	r->at = sum + 4;
	r->end = r->file_end;
	return kind;
}

static bool parse(struct reader *r)
{
	unsigned kind = 0;
	uint64_t version;

	if (r->end - r->start < (ptrdiff_t)sizeof(magic) ||
	    memcmp(r->start, magic, sizeof(magic)) != 0)
		return fail(r, r->end == r->start ? "is empty" : "is no allocation trace");
	r->at = r->start + sizeof(magic);
	version = get_number(r);
	if (!r->failed && version != TRACE_VERSION)
		return fail(r, "has version %llu of the format, known here is %u",
			    (unsigned long long)version, TRACE_VERSION);
	for (unsigned n = 0; !r->failed && kind != 'Z'; n++) {
		if (r->at == r->file_end)
			return fail_here(r, "truncated");
		kind = read_block(r, n);
	}
	if (!r->failed &&
	    (r->nr_read != r->trace->nr_events || r->nr_born != r->trace->nr_objects))
		fail(r, "has not as many events as its header says");
	if (!r->failed && r->at != r->file_end)
		fail_here(r, "goes on after its end");
	return !r->failed;
}

/* --- the file ------------------------------------------------------------------------------
 */

static unsigned char *read_all(FILE *file, size_t *nr_bytes)
{
	size_t room = 1 << 16, len = 0;
	unsigned char *bytes = malloc(room);

	while (bytes != NULL) {
		len += fread(bytes + len, 1, room - len, file);
		if (len < room)
			break;
		room *= 2;

		unsigned char *grown = realloc(bytes, room);

		if (grown == NULL)
			free(bytes);
		bytes = grown;
	}
	*nr_bytes = len;
	return bytes;
}

/* A stream of what `xz -dc` makes of the path, and its process; NULL with errno. */
static FILE *unpack(const char *path, pid_t *pid)
{
	int ends[2];

	if (pipe(ends) != 0)
		return NULL;
	*pid = fork();
	if (*pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		unsetenv("LD_PRELOAD");
		execlp("xz", "xz", "-qdc", "--", path, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	if (*pid < 0) {
		close(ends[0]);
		return NULL;
	}
	return fdopen(ends[0], "r");
}

static bool is_xz(FILE *file)
{
	static const char xz_magic[6] = "\xfd"
					"7zXZ";
	char head[6] = { 0 };
	bool is = fread(head, 1, sizeof(head), file) == sizeof(head) &&
		  memcmp(head, xz_magic, sizeof(head)) == 0;

	rewind(file);
	return is;
}

/* The file's bytes, unpacked; NULL with a reason. */
static unsigned char *load_bytes(const char *path, size_t *nr_bytes, char *why)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	unsigned char *bytes;
	int status = 0;
	pid_t pid = 0;

	if (file != NULL && file != stdin && is_xz(file)) {
		fclose(file);
		file = unpack(path, &pid);
	}
	if (file == NULL) {
		snprintf(why, 256, "cannot be read: %s", strerror(errno));
		return NULL;
	}
	bytes = read_all(file, nr_bytes);
	if (bytes == NULL)
		snprintf(why, 256, "is too large for the memory");
	else if (ferror(file))
		snprintf(why, 256, "cannot be read: %s", strerror(errno));
	if (bytes != NULL && ferror(file)) {
		free(bytes);
		bytes = NULL;
	}
	if (file != stdin)
		fclose(file);
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (bytes != NULL && status != 0) {
		snprintf(why, 256,
			 WIFEXITED(status) && WEXITSTATUS(status) == 127
				 ? "is compressed by xz, which is not installed"
				 : "is damaged: xz cannot unpack it");
		free(bytes);
		bytes = NULL;
	}
	return bytes;
}

bool trace_load(struct trace *trace, const char *path, char why[256])
{
	size_t nr_bytes = 0;
	unsigned char *bytes = load_bytes(path, &nr_bytes, why);
	struct reader r = { .trace = trace, .why = why };
	bool ok;

	memset(trace, 0, sizeof(*trace));
	if (bytes == NULL)
		return false;
	r.start = r.at = bytes;
	r.end = r.file_end = bytes + nr_bytes;
	ok = parse(&r);
	free(r.dead);
	free(bytes);
	if (!ok)
		trace_free(trace);
	return ok;
}
