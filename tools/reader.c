/*
 * See reader.h.  The symbol is looked up in the process's own memory, not in the file,
 * which may have been replaced or be in another mount namespace.
 */
#define _GNU_SOURCE
#include "tools/reader.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SYMBOL "pb_inspect"
/* Bounds that keep garbage from making us read for ever. */
#define ITEMS_MAX 4096u
#define SYMBOLS_MAX 65536u
#define TYPE_BYTES_MAX ((uint32_t)1 << 20)
#define TRIES 16u

/* --- reading --------------------------------------------------------------------------- */

bool reader_read(struct reader *r, uint64_t from, void *to, size_t nr_bytes)
{
	while (nr_bytes > 0) {
		struct iovec local = { to, nr_bytes };
		struct iovec remote = { (void *)(uintptr_t)from, nr_bytes };
		ssize_t n = process_vm_readv(r->pid, &local, 1, &remote, 1, 0);

		if (n <= 0) {
			errno = n == 0 ? EFAULT : errno;
			return false;
		}
		from += (uint64_t)n;
		to = (char *)to + n;
		nr_bytes -= (size_t)n;
	}
	return true;
}

/* One call, which copies the lock, what it protects and the lock again, in this order. */
static bool read_between(struct reader *r, uint64_t lock, char copies[2][LOCK_BYTES_MAX],
			 uint64_t from, void *to, size_t nr_bytes)
{
	size_t lock_bytes = r->at.sizeof_lock;
	struct iovec local[3] = {
		{ copies[0], lock_bytes },
		{ to, nr_bytes },
		{ copies[1], lock_bytes },
	};
	struct iovec remote[3] = {
		{ (void *)(uintptr_t)lock, lock_bytes },
		{ (void *)(uintptr_t)from, nr_bytes },
		{ (void *)(uintptr_t)lock, lock_bytes },
	};
	ssize_t n = process_vm_readv(r->pid, local, 3, remote, 3, 0);

	if (n >= 0 && (size_t)n != 2 * lock_bytes + nr_bytes)
		errno = EFAULT;
	return n >= 0 && (size_t)n == 2 * lock_bytes + nr_bytes;
}

enum read_result reader_read_locked(struct reader *r, uint64_t lock, uint64_t from, void *to,
				    size_t nr_bytes)
{
	char copies[2][LOCK_BYTES_MAX];

	for (unsigned try = 0; try < TRIES; try++) {
		if (!read_between(r, lock, copies, from, to, nr_bytes))
			return READ_FAILED;
		/* Free both times and never released in between: nobody wrote meanwhile. */
		if (get(copies[0], r->at.lock_state) == r->at.lock_free &&
		    memcmp(copies[0], copies[1], r->at.sizeof_lock) == 0)
			return READ_WHOLE;
		r->nr_torn++;
	}
	return READ_TORN;
}

/* --- what went wrong ------------------------------------------------------------------- */

static bool has_ended(const struct reader *r)
{
	struct pollfd fd = { .fd = r->pidfd, .events = POLLIN };

	return r->pidfd >= 0 && poll(&fd, 1, 0) > 0;
}

__attribute__((format(printf, 3, 4))) static int fail(const struct reader *r, int status,
						      const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!r->quiet)
		complain(r->verb, "process %d %s", (int)r->pid, text);
	return status;
}

int reader_why(struct reader *r)
{
	int err = errno;

	if (err == ESRCH || has_ended(r))
		return fail(r, EXIT_NO_PROCESS, "has ended meanwhile");
	if (err == EPERM || err == EACCES)
		return fail(r, EXIT_NO_PERMISSION,
			    "may not be looked into: it needs the same user or CAP_SYS_PTRACE");
	if (err == EFAULT || err == EIO)
		return fail(r, EXIT_GARBLED,
			    "has no memory where its library says: it has begun another "
			    "program meanwhile, or its structures are damaged");
	return fail(r, EXIT_GARBLED, "cannot be read: %s", strerror(err));
}

int reader_garbled(struct reader *r, const char *what)
{
	if (has_ended(r))
		return fail(r, EXIT_NO_PROCESS, "has ended meanwhile");
	return fail(r, EXIT_GARBLED, "shows what cannot be: %s", what);
}

/* --- the symbol -------------------------------------------------------------------------- */

/* What is needed of an image's dynamic section, as addresses. */
struct dynamic {
	uint64_t symbols, strings, strings_bytes, gnu_hash, hash;
};

static bool read_dynamic(struct reader *r, uint64_t base, struct dynamic *d)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	Elf64_Dyn dyn;
	uint64_t dynamic = 0, first = UINT64_MAX;

	memset(d, 0, sizeof(*d));
	if (!reader_read(r, base, &header, sizeof(header)) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phnum > 256 ||
	    header.e_phentsize != sizeof(segment))
		return false;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		if (!reader_read(r, base + header.e_phoff + i * sizeof(segment), &segment,
				 sizeof(segment)))
			return false;
		if (segment.p_type == PT_LOAD && first == UINT64_MAX)
			first = segment.p_vaddr - segment.p_offset;
		if (segment.p_type == PT_DYNAMIC)
			dynamic = segment.p_vaddr;
	}
	if (dynamic == 0 || first == UINT64_MAX)
		return false;
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at;

		if (!reader_read(r, base - first + dynamic + i * sizeof(dyn), &dyn, sizeof(dyn)))
			return false;
		if (dyn.d_tag == DT_NULL)
			break;
		/* glibc has made addresses of the offsets by now, others have not. */
		at = dyn.d_un.d_ptr < base ? base - first + dyn.d_un.d_ptr : dyn.d_un.d_ptr;
		switch (dyn.d_tag) {
		case DT_SYMTAB:
			d->symbols = at;
			break;
		case DT_STRTAB:
			d->strings = at;
			break;
		case DT_STRSZ:
			d->strings_bytes = dyn.d_un.d_val;
			break;
		case DT_GNU_HASH:
			d->gnu_hash = at;
			break;
		case DT_HASH:
			d->hash = at;
			break;
		default:
			break;
		}
	}
	return d->symbols != 0 && d->strings != 0;
}

/* Whether symbol number i is the one; then its value is in *value. */
static bool is_symbol(struct reader *r, const struct dynamic *d, uint32_t i, uint64_t *value)
{
	Elf64_Sym symbol;
	char name[sizeof(SYMBOL)];

	if (!reader_read(r, d->symbols + i * sizeof(symbol), &symbol, sizeof(symbol)) ||
	    symbol.st_shndx == SHN_UNDEF ||
	    symbol.st_name + sizeof(name) > d->strings_bytes ||
	    !reader_read(r, d->strings + symbol.st_name, name, sizeof(name)) ||
	    memcmp(name, SYMBOL, sizeof(name)) != 0)
		return false;
	*value = symbol.st_value;
	return true;
}

/* By the GNU hash table: buckets of chains that end with an odd hash. */
static bool find_by_gnu_hash(struct reader *r, const struct dynamic *d, uint64_t *value)
{
	struct {
		uint32_t nr_buckets, first, bloom_words, bloom_shift;
	} head;
	uint32_t hash = 5381, i, chain;
	uint64_t buckets;

	for (const char *s = SYMBOL; *s != '\0'; s++)
		hash = hash * 33 + (unsigned char)*s;
	if (!reader_read(r, d->gnu_hash, &head, sizeof(head)) || head.nr_buckets == 0)
		return false;
	buckets = d->gnu_hash + sizeof(head) + (uint64_t)head.bloom_words * 8;
	if (!reader_read(r, buckets + hash % head.nr_buckets * 4u, &i, 4) || i < head.first)
		return false;
	for (unsigned n = 0; n < SYMBOLS_MAX; n++, i++) {
		if (!reader_read(r, buckets + (uint64_t)head.nr_buckets * 4 +
					    (uint64_t)(i - head.first) * 4,
				 &chain, 4))
			return false;
		if ((chain | 1) == (hash | 1) && is_symbol(r, d, i, value))
			return true;
		if ((chain & 1) != 0)
			return false;
	}
	return false;
}

/* By the old hash table, of which only the number of symbols is used. */
static bool find_by_hash(struct reader *r, const struct dynamic *d, uint64_t *value)
{
	uint32_t head[2];

	if (!reader_read(r, d->hash, head, sizeof(head)))
		return false;
	for (uint32_t i = 0; i < head[1] && i < SYMBOLS_MAX; i++) {
		if (is_symbol(r, d, i, value))
			return true;
	}
	return false;
}

static bool find_in_image(struct reader *r, uint64_t base)
{
	struct dynamic d;
	uint64_t value;

	if (!read_dynamic(r, base, &d) ||
	    !((d.gnu_hash != 0 && find_by_gnu_hash(r, &d, &value)) ||
	      (d.hash != 0 && find_by_hash(r, &d, &value))))
		return false;
	r->address = value < base ? base + value : value;
	return true;
}

/* One pass over the mappings of files' beginnings; named: only what is called like us. */
static bool find_in_maps(struct reader *r, FILE *maps, bool named)
{
	char line[PATH_MAX + 128];
	unsigned long start, offset;
	int path;

	rewind(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		const char *slash;

		line[strcspn(line, "\n")] = '\0';
		path = 0;
		if (sscanf(line, "%lx-%*x %*s %lx %*s %*s %n", &start, &offset, &path) < 2 ||
		    path == 0 || line[path] != '/' || offset != 0)
			continue;
		slash = strrchr(line, '/');
		if ((strncmp(slash + 1, "libpageblock", 12) == 0) != named)
			continue;
		if (find_in_image(r, start)) {
			snprintf(r->library, sizeof(r->library), "%s", line + path);
			return true;
		}
	}
	return false;
}

#define PF_KTHREAD 0x00200000u /* from linux/sched.h */

/* State and flags of the process as in /proc/PID/stat; false: there is none. */
static bool read_state(pid_t pid, char *state, unsigned *flags)
{
	char path[64], line[1024];
	const char *paren;
	bool ok = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(line, sizeof(line), file) != NULL && (paren = strrchr(line, ')')) != NULL)
		ok = sscanf(paren + 1, " %c %*d %*d %*d %*d %*d %u", state, flags) == 2;
	fclose(file);
	return ok;
}

/* Why a process has no memory at all. */
static int without_memory(struct reader *r)
{
	unsigned flags = 0;
	char state = '?';

	if (!read_state(r->pid, &state, &flags))
		return fail(r, EXIT_NO_PROCESS, "has ended meanwhile");
	if ((flags & PF_KTHREAD) != 0)
		return fail(r, EXIT_NO_LIBRARY, "(%s) is a thread of the kernel", r->name);
	if (state == 'Z')
		return fail(r, EXIT_NO_PROCESS, "has ended and only waits for its parent");
	return fail(r, EXIT_NO_PROCESS, "is about to end");
}

static int find_library(struct reader *r)
{
	char path[64];
	FILE *maps;
	bool found, any;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)r->pid);
	maps = fopen(path, "re");
	if (maps == NULL)
		return reader_why(r);
	errno = 0;
	found = find_in_maps(r, maps, true) || find_in_maps(r, maps, false);
	rewind(maps);
	any = fgetc(maps) != EOF;
	fclose(maps);
	if (found)
		return 0;
	if (!any)
		return without_memory(r);
	if (has_ended(r))
		return fail(r, EXIT_NO_PROCESS, "has ended meanwhile");
	if (errno == EPERM || errno == EACCES)
		return reader_why(r);
	return fail(r, EXIT_NO_LIBRARY, "(%s) runs without the library", r->name);
}

/* --- the structure ------------------------------------------------------------------------- */

bool reader_find(const struct reader *r, const char *name, struct inspect_item *item)
{
	for (size_t i = 0; i < r->nr_items; i++) {
		if (strncmp(r->items[i].name, name, INSPECT_NAME_BYTES) == 0) {
			*item = r->items[i];
			return true;
		}
	}
	return false;
}

uint64_t reader_object(const struct reader *r, const char *name, uint64_t *nr_bytes)
{
	for (size_t i = 0; i < INSPECT_OBJECTS_MAX; i++) {
		const struct inspect_object *o = &r->header.objects[i];

		if (o->size != 0 && strncmp(o->name, name, INSPECT_NAME_BYTES) == 0) {
			if (nr_bytes != NULL)
				*nr_bytes = o->size;
			return o->address;
		}
	}
	return 0;
}

static int lacks(struct reader *r, const char *name)
{
	return fail(r, EXIT_OTHER_VERSION,
		    "(%s) has pageblock %.15s, which does not show %s: use the program of its "
		    "version",
		    r->name, r->header.release, name);
}

/* Fills in r->at; 0 or an exit status. */
static int resolve(struct reader *r)
{
	struct inspect_item item;

#define TYPE(type)                                                                             \
	if (!reader_find(r, #type, &item))                                                     \
		return lacks(r, #type);                                                        \
	if (item.size == 0 || item.size > TYPE_BYTES_MAX)                                      \
		return reader_garbled(r, "a structure " #type " of no size");                  \
	r->at.sizeof_##type = item.size;
#define FIELD(type, field)                                                                     \
	if (!reader_find(r, #type "." #field, &item))                                          \
		return lacks(r, #type "." #field);                                             \
	r->at.type##_##field = (struct place){ (uint32_t)item.value, item.size };              \
	if (item.size == 0 || item.value > r->at.sizeof_##type ||                              \
	    item.value + item.size > r->at.sizeof_##type)                                      \
		return reader_garbled(r, #type "." #field " is outside of its structure");
#define CONSTANT(name, value_)                                                                 \
	if (!reader_find(r, #name, &item))                                                     \
		return lacks(r, #name);                                                        \
	r->at.name = item.value;
#include "core/inspect.def"
#include "shim/inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
	return 0;
}

/* Sizes that the code here counts on, whatever the rows say. */
static int check_layout(struct reader *r)
{
	const struct layout *at = &r->at;

	if (at->page_shift != 12 || at->granule_shift != 16 || at->pageblock_shift != 21)
		return fail(r, EXIT_OTHER_VERSION, "(%s) has pages or blocks of another size",
			    r->name);
	if (at->pageblock_free.size != 64 || at->pageblock_dirty.size != 64 ||
	    at->pageblock_purging.size != 64 || at->heap_lock.size != at->sizeof_lock ||
	    at->zone_lock.size != at->sizeof_lock || at->sizeof_lock > LOCK_BYTES_MAX)
		return reader_garbled(r, "fields of another size than they can have");
	return 0;
}

/* What the process says of itself goes to a terminal: nothing but letters. */
static void make_printable(char *text, size_t nr_bytes)
{
	text[nr_bytes - 1] = '\0';
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
	}
}

static int read_tables(struct reader *r)
{
	for (unsigned i = 0; i < INSPECT_TABLES_MAX; i++) {
		struct inspect_table *table = &r->header.tables[i];
		uint64_t nr = table->nr_items;
		void *more;

		if (nr == 0)
			continue;
		if (nr > ITEMS_MAX)
			return reader_garbled(r, "a table of layouts without end");
		more = realloc(r->items, (r->nr_items + nr) * sizeof(r->items[0]));
		if (more == NULL)
			return fail(r, EXIT_FAILURE, "shows more than there is memory for");
		r->items = more;
		if (!reader_read(r, table->items, r->items + r->nr_items,
				 nr * sizeof(r->items[0])))
			return reader_why(r);
		r->nr_items += nr;
	}
	int status = resolve(r);

	return status != 0 ? status : check_layout(r);
}

static int read_header(struct reader *r)
{
	struct inspect *h = &r->header;

	if (!reader_read(r, r->address, h, offsetof(struct inspect, objects)))
		return reader_why(r);
	if (memcmp(h->magic, INSPECT_MAGIC, sizeof(h->magic)) != 0)
		return reader_garbled(r, "no structure where the symbol " SYMBOL " points");
	if (h->version != INSPECT_VERSION)
		return fail(r, EXIT_OTHER_VERSION,
			    "(%s) has statistics of version %u, and this program knows version "
			    "%u: use the program of its version",
			    r->name, h->version, INSPECT_VERSION);
	if (h->size < sizeof(*h))
		return reader_garbled(r, "a structure of the wrong size");
	if (!reader_read(r, r->address, h, sizeof(*h)))
		return reader_why(r);
	make_printable(h->release, sizeof(h->release));
	for (unsigned i = 0; i < INSPECT_OBJECTS_MAX; i++)
		make_printable(h->objects[i].name, INSPECT_NAME_BYTES);
	if (h->nr_objects == 0)
		return fail(r, EXIT_NO_LIBRARY, "(%s) has not allocated anything yet", r->name);
	if (h->nr_objects > INSPECT_OBJECTS_MAX || h->nr_tables > INSPECT_TABLES_MAX)
		return reader_garbled(r, "more variables than there is room for");
	if (reader_object(r, "heaps", NULL) == 0)
		return lacks(r, "heaps");
	return read_tables(r);
}

/* --- opening ---------------------------------------------------------------------------------- */

bool reader_parse_pid(const struct verb *verb, const char *text, pid_t *pid)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || n <= 0 || n > INT_MAX) {
		complain(verb, "\"%s\" is not the number of a process", text);
		return false;
	}
	*pid = (pid_t)n;
	return true;
}

static void read_name(struct reader *r)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)r->pid);
	file = fopen(path, "re");
	if (file == NULL || fgets(r->name, sizeof(r->name), file) == NULL)
		snprintf(r->name, sizeof(r->name), "?");
	r->name[strcspn(r->name, "\n")] = '\0';
	for (char *s = r->name; *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
	}
	if (file != NULL)
		fclose(file);
}

int reader_open(struct reader *r, const struct verb *verb, pid_t pid, bool quiet)
{
	char path[64];
	int status;

	memset(r, 0, sizeof(*r));
	r->verb = verb;
	r->pid = pid;
	r->quiet = quiet;
	r->pagemap = -1;
	r->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (r->pidfd < 0 && errno == ESRCH)
		return fail(r, EXIT_NO_PROCESS, "does not exist");
	if (r->pidfd < 0 && errno == EINVAL)
		return fail(r, EXIT_NO_PROCESS, "is a thread of another process");
	read_name(r);
	status = find_library(r);
	if (status == 0)
		status = read_header(r);
	if (status != 0) {
		reader_close(r);
		return status;
	}
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	r->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	return 0;
}

void reader_close(struct reader *r)
{
	if (r->pidfd >= 0)
		close(r->pidfd);
	if (r->pagemap >= 0)
		close(r->pagemap);
	free(r->items);
	r->pidfd = r->pagemap = -1;
	r->items = NULL;
}
