/*
 * libpageblock-record.so: writes down what a program asks of malloc, and passes it on to the
 * allocator that comes next, whichever that is.  `pageblock record` preloads it.
 *
 * A call costs one shared counter, which gives all events one order, and 32 bytes stored in
 * the thread's own chunk of a file (raw.h).  An allocation takes its place in the order after
 * the call and a free before it: so that an address is never seen to be reused before its
 * free, and a block handed to another thread is never seen to be freed before it was made.
 *
 * Chunks are mapped shared, so that what is stored survives exec, _exit, abort and SIGKILL.
 * The file is opened anew for each chunk: a program may close all descriptors it does not
 * know.  A child of fork either goes on in a file of its own or is not recorded.
 *
 * Not recorded: what the dynamic linker allocates before it is ready, a program that is
 * linked statically, threads of a process that was made by a bare clone().
 */
#define _GNU_SOURCE
#include "tools/record/raw.h"
#include "tools/trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Not in stdlib.h. */
void *memalign(size_t align, size_t size);
void *pvalloc(size_t size);
size_t malloc_usable_size(void *p);

#define EXPORT __attribute__((visibility("default")))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define CALLER ((uint64_t)(uintptr_t)__builtin_return_address(0))

/* --- the next allocator --------------------------------------------------------------------
 */

static struct {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t nr, size_t size);
	void *(*realloc)(void *p, size_t size);
	void *(*memalign)(size_t align, size_t size);
	int (*posix_memalign)(void **result, size_t align, size_t size);
	void *(*aligned_alloc)(size_t align, size_t size);
	void (*free)(void *p);
	size_t (*malloc_usable_size)(void *p);
	void *(*new)(size_t size);
	void *(*new_aligned)(size_t size, size_t align);
} next;

/* What dlsym may want while next is looked for; never given back. */
static _Alignas(16) char early[8192];
static size_t early_used;
/* volatile: dlsym is declared a leaf, which calls nothing here; it calls calloc. */
static _Thread_local volatile bool finding __attribute__((tls_model("initial-exec")));

static bool is_early(const void *p)
{
	return (const char *)p >= early && (const char *)p < early + sizeof(early);
}

static void *early_alloc(size_t size)
{
	size_t need = (size + 31) & ~(size_t)15;
	char *p = early + early_used + 16;

	if (size > sizeof(early) || early_used + need + 16 > sizeof(early))
		return NULL;
	early_used += need + 16;
	memcpy(p - 16, &size, sizeof(size));
	return p;
}

#define FIND(field, name) (*(void **)&next.field = dlsym(RTLD_NEXT, name))

/* All who come here at once store the same; malloc comes last, for it is what is asked for. */
static bool find_next(void)
{
	if (finding)
		return false;
	finding = true;
	FIND(calloc, "calloc");
	FIND(realloc, "realloc");
	FIND(memalign, "memalign");
	FIND(posix_memalign, "posix_memalign");
	FIND(aligned_alloc, "aligned_alloc");
	FIND(free, "free");
	FIND(malloc_usable_size, "malloc_usable_size");
	FIND(malloc, "malloc");
	finding = false;
	return true;
}

/* Whether next can be called; false within find_next() only. */
static inline bool ready(void)
{
	return next.malloc != NULL || find_next();
}

/* --- chunks ---------------------------------------------------------------------------------
 */

struct recorder {
	struct raw_event *at, *end; /* room in the chunk */
	uint64_t last_ticks;
	uint32_t thread; /* number + 1; 0: it has none yet */
	bool busy;       /* in the recorder itself: what it allocates is not written down */
	bool ended;
	uint8_t nr_ends; /* rounds of destructors so far */
};

static _Thread_local struct recorder self __attribute__((tls_model("initial-exec")));

static struct {
	_Atomic uint64_t order; /* places handed out */
	_Atomic uint32_t nr_chunks;
	_Atomic uint32_t nr_threads;
	_Atomic bool on;
	struct raw_chunk *first; /* mapped for good */
	char path[PATH_MAX];
	char directory[PATH_MAX];
	bool children;
	pthread_key_t key;
	/* Room that ended threads left, for new ones and for what ended threads still do. */
	atomic_flag lock;
	struct raw_event *at, *end;
} file;

static inline uint64_t now_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static void stamp(uint64_t *ticks, uint64_t *ns)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*ticks = now_ticks();
	*ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void lock(void)
{
	/* Acquire pairs with the release in unlock(). */
	while (atomic_flag_test_and_set_explicit(&file.lock, memory_order_acquire))
		syscall(SYS_sched_yield);
}

static void unlock(void)
{
	atomic_flag_clear_explicit(&file.lock, memory_order_release);
}

static void stop_recording(int error)
{
	if (file.first != NULL && file.first->stopped == 0)
		file.first->stopped = (uint32_t)error;
	/* Relaxed: others may write down a little more. */
	atomic_store_explicit(&file.on, false, memory_order_relaxed);
}

/* A new chunk at the file's end; NULL when there can be none, and nothing is recorded then. */
static struct raw_chunk *chunk_new(enum raw_kind kind)
{
	struct raw_chunk *chunk = MAP_FAILED;
	/* Relaxed: the numbers need only differ. */
	uint32_t number = atomic_fetch_add_explicit(&file.nr_chunks, 1, memory_order_relaxed);
	off_t at = (off_t)number * RAW_CHUNK_BYTES;
	int fd = open(file.path, O_RDWR | O_CLOEXEC);
	int error = fd < 0 ? errno : posix_fallocate(fd, at, RAW_CHUNK_BYTES);

	/* Allocated, not only extended: a full disk must be an error here, not a SIGBUS. */
	if (error == 0) {
		chunk = mmap(NULL, RAW_CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
		error = chunk == MAP_FAILED ? errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (error != 0) {
		stop_recording(error);
		return NULL;
	}
	stamp(&chunk->ticks, &chunk->ns);
	chunk->kind = kind;
	chunk->magic = RAW_MAGIC;
	return chunk;
}

/* The executable lines of /proc/self/maps, as far as they fit into a chunk. */
static void write_maps(void)
{
	struct raw_chunk *chunk = chunk_new(RAW_MAPS);
	char *text = (char *)(chunk + 1);
	size_t room = RAW_CHUNK_BYTES - sizeof(*chunk), len = 0, line = 0;
	char part[2048];
	ssize_t nr;
	int fd;

	if (chunk == NULL)
		return;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (nr = read(fd, part, sizeof(part))) > 0)
		for (ssize_t i = 0; i < nr && len < room; i++) {
			text[len++] = part[i];
			if (part[i] != '\n')
				continue;
			/* Keeps the line if it is executable. */
			if (memmem(text + line, len - line, "x", 1) == NULL ||
			    memmem(text + line, len - line, "xp ", 3) == NULL)
				len = line;
			line = len;
		}
	if (fd >= 0)
		close(fd);
	chunk->nr_bytes = (uint32_t)line;
	munmap(chunk, RAW_CHUNK_BYTES);
}

static void thread_new(struct recorder *r)
{
	/* Relaxed: the numbers need only differ. */
	uint32_t thread = atomic_fetch_add_explicit(&file.nr_threads, 1, memory_order_relaxed);

	r->thread = (thread < TRACE_THREADS_MAX ? thread : TRACE_THREADS_MAX - 1) + 1;
	r->last_ticks = now_ticks();
	lock();
	r->at = file.at;
	r->end = file.end;
	file.at = file.end = NULL;
	unlock();
	pthread_setspecific(file.key, r);
}

/* The thread has no room: finds some.  False when nothing is to be recorded. */
static bool more_room(struct recorder *r)
{
	int saved_errno = errno;
	struct raw_chunk *chunk;
	uint32_t nr;

	r->busy = true;
	if (r->thread == 0)
		thread_new(r);
	if (r->at == r->end) {
		if (r->end != NULL)
			munmap((char *)r->end - RAW_CHUNK_BYTES, RAW_CHUNK_BYTES);
		r->at = r->end = NULL;
		chunk = chunk_new(RAW_EVENTS);
		if (chunk != NULL) {
			r->at = (struct raw_event *)(chunk + 1);
			r->end = r->at + RAW_EVENTS_MAX;
		}
		/* Libraries come and go: look again now and then. */
		nr = atomic_load_explicit(&file.nr_chunks, memory_order_relaxed);
		if (chunk != NULL && nr > 2 && (nr & (nr - 1)) == 0)
			write_maps();
	}
	r->busy = false;
	errno = saved_errno;
	return r->at != r->end;
}

/* --- events ----------------------------------------------------------------------------------
 */

static inline uint64_t next_place(void)
{
	/*
	 * Relaxed: what happens before what is settled by the program's and the allocator's
	 * own synchronisation, and the places of one counter follow it.
	 */
	return atomic_fetch_add_explicit(&file.order, 1, memory_order_relaxed) + 1;
}

static inline void store(struct recorder *r, struct raw_event *e, unsigned op,
			 unsigned align_log2, const void *p, size_t size, uint64_t site)
{
	uint64_t ticks = now_ticks();

	e->addr = ((uint64_t)(uintptr_t)p & 0xffffffffffff) | (uint64_t)(r->thread - 1) << 48;
	e->size = (size & 0xffffffffffff) | raw_think(ticks - r->last_ticks) << 48;
	e->site = site;
	e->order = next_place() << 16 | align_log2 << 4 | op;
	r->last_ticks = ticks;
}

/* What a thread does after its end goes where the next thread would write. */
static void store_late(struct recorder *r, unsigned op, unsigned align_log2, const void *p,
		       size_t size, uint64_t site)
{
	struct recorder rest = { .thread = r->thread, .last_ticks = now_ticks() };

	lock();
	rest.at = file.at;
	rest.end = file.end;
	if (rest.at != rest.end || more_room(&rest))
		store(&rest, rest.at++, op, align_log2, p, size, site);
	file.at = rest.at;
	file.end = rest.end;
	unlock();
}

static inline void record(unsigned op, unsigned align_log2, const void *p, size_t size,
			  uint64_t site)
{
	struct recorder *r = &self;

	/* Relaxed: what is written down shortly after the end does no harm. */
	if (unlikely(!atomic_load_explicit(&file.on, memory_order_relaxed) || r->busy))
		return;
	if (unlikely(r->at == r->end)) {
		if (r->ended) {
			r->busy = true;
			store_late(r, op, align_log2, p, size, site);
			r->busy = false;
			return;
		}
		if (!more_room(r))
			return;
	}
	store(r, r->at++, op, align_log2, p, size, site);
}

/* The last of the thread's destructors, as far as can be told. */
static void thread_end(void *state)
{
	struct recorder *r = state;

	/* Others' destructors free what they have: come again, after them. */
	if (++r->nr_ends < 3) {
		pthread_setspecific(file.key, r);
		return;
	}
	record(TRACE_END, 0, NULL, 0, 0);
	r->busy = true;
	r->ended = true;
	lock();
	if (file.at == file.end) {
		file.at = r->at;
		file.end = r->end;
	} else if (r->end != NULL) {
		munmap((char *)r->end - RAW_CHUNK_BYTES, RAW_CHUNK_BYTES);
	}
	unlock();
	r->at = r->end = NULL;
	r->busy = false;
}

/* --- the process
 * ------------------------------------------------------------------------------ */

static void name_program(char *name, size_t room)
{
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, name, room - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (len > 0 && name[len - 1] == '\0')
		len--;
	for (ssize_t i = 0; i < len; i++)
		if (name[i] == '\0')
			name[i] = ' ';
	name[len > 0 ? len : 0] = '\0';
}

/* DIRECTORY/PID-N, the first N that is not there yet. */
static bool create_file(void)
{
	char digits[24];
	size_t len = strlen(file.directory), nr = 0;
	int fd = -1;

	for (pid_t pid = getpid(); pid > 0; pid /= 10)
		digits[nr++] = (char)('0' + pid % 10);
	if (len + nr + 16 > sizeof(file.path))
		return false;
	memcpy(file.path, file.directory, len);
	file.path[len++] = '/';
	while (nr > 0)
		file.path[len++] = digits[--nr];
	file.path[len++] = '-';
	for (unsigned n = 0; n < 1000 && fd < 0; n++) {
		file.path[len] = (char)('0' + n / 100);
		file.path[len + 1] = (char)('0' + n / 10 % 10);
		file.path[len + 2] = (char)('0' + n % 10);
		file.path[len + 3] = '\0';
		fd = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 && errno != EEXIST)
			return false;
	}
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void start(void)
{
	self.busy = true;
	if (create_file()) {
		file.first = chunk_new(RAW_EVENTS);
		if (file.first != NULL) {
			name_program(file.first->program, sizeof(file.first->program));
			write_maps();
			atomic_store_explicit(&file.on, true, memory_order_relaxed);
		}
	}
	self.busy = false;
}

static void fork_prepare(void)
{
	lock();
}

static void fork_parent(void)
{
	unlock();
}

/* The chunks are the parent's: nothing may be written to them. */
static void fork_child(void)
{
	self.at = self.end = NULL;
	self.thread = 0;
	file.at = file.end = NULL;
	file.first = NULL;
	atomic_store_explicit(&file.on, false, memory_order_relaxed);
	atomic_store_explicit(&file.nr_chunks, 0, memory_order_relaxed);
	atomic_store_explicit(&file.nr_threads, 0, memory_order_relaxed);
	atomic_store_explicit(&file.order, 0, memory_order_relaxed);
	unlock();
	if (file.children)
		start();
}

__attribute__((constructor)) static void begin(void)
{
	const char *directory = getenv("PAGEBLOCK_RECORD");
	const char *pid = getenv("PAGEBLOCK_RECORD_PID");

	ready();
	if (directory == NULL || strlen(directory) >= sizeof(file.directory) || pid == NULL)
		return;
	file.children = strcmp(pid, "0") == 0;
	if (!file.children && atol(pid) != (long)getpid())
		return;
	strcpy(file.directory, directory);
	self.busy = true;
	if (pthread_key_create(&file.key, thread_end) == 0)
		pthread_atfork(fork_prepare, fork_parent, fork_child);
	else
		directory = NULL;
	self.busy = false;
	if (directory != NULL)
		start();
}

/* Not the end: destructors of other libraries free things, and are still written down. */
__attribute__((destructor)) static void finish(void)
{
	if (file.first == NULL || !atomic_load_explicit(&file.on, memory_order_relaxed))
		return;
	self.busy = true;
	stamp(&file.first->end_ticks, &file.first->end_ns);
	write_maps();
	self.busy = false;
}

/* --- malloc and its relatives
 * ------------------------------------------------------------------ */

static inline void *allocated(unsigned op, void *p, size_t size, uint64_t site)
{
	if (p != NULL)
		record(op, 0, p, size, site);
	return p;
}

static inline void *allocated_aligned(void *p, size_t align, size_t size, uint64_t site)
{
	unsigned align_log2 = align > 1 ? 63u - (unsigned)__builtin_clzll(align) : 0;

	if (p != NULL && align_log2 <= 4)
		record(TRACE_MALLOC, 0, p, size, site);
	else if (p != NULL)
		record(TRACE_ALIGNED, align_log2, p, size, site);
	return p;
}

/*
 * Allocators make some of these calls of others by their public names, which leads back
 * here: what is called while busy is part of what is being recorded.
 */
#define NESTED(result, call)                                                                   \
	do {                                                                                   \
		bool was_busy = self.busy;                                                     \
                                                                                               \
		self.busy = true;                                                              \
		(result) = (call);                                                             \
		self.busy = was_busy;                                                          \
	} while (0)

static inline void do_free(void *p)
{
	if (p == NULL || unlikely(is_early(p)))
		return;
	record(TRACE_FREE, 0, p, 0, 0);
	if (ready())
		next.free(p);
}

static void *do_memalign(size_t align, size_t size, uint64_t site)
{
	void *p = NULL;

	if (ready())
		NESTED(p, next.memalign(align, size));
	return allocated_aligned(p, align, size, site);
}

static void *do_realloc(void *p, size_t size, uint64_t site)
{
	void *q;

	if (!ready())
		return p == NULL ? early_alloc(size) : NULL;
	if (unlikely(is_early(p))) {
		size_t old_size;

		memcpy(&old_size, (char *)p - 16, sizeof(old_size));
		q = next.malloc(size);
		if (q != NULL)
			memcpy(q, p, old_size < size ? old_size : size);
		return allocated(TRACE_MALLOC, q, size, site);
	}
	if (p == NULL || size == 0) {
		if (p != NULL)
			record(TRACE_FREE, 0, p, 0, 0);
		NESTED(q, next.realloc(p, size));
		return allocated(TRACE_MALLOC, q, size, site);
	}
	record(RAW_REALLOC_FROM, 0, p, 0, 0);
	NESTED(q, next.realloc(p, size));
	if (q != NULL)
		record(TRACE_REALLOC, 0, q, size, site);
	else
		record(RAW_REALLOC_FAILED, 0, p, 0, 0);
	return q;
}

EXPORT void *malloc(size_t size)
{
	if (unlikely(!ready()))
		return early_alloc(size);
	return allocated(TRACE_MALLOC, next.malloc(size), size, CALLER);
}

EXPORT void free(void *p)
{
	do_free(p);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	/* What is early has never been used: it is zero. */
	if (unlikely(!ready()))
		return size == 0 || nr <= sizeof(early) / size ? early_alloc(nr * size) : NULL;

	void *p;

	NESTED(p, next.calloc(nr, size));
	return allocated(TRACE_CALLOC, p, nr * size, CALLER);
}

EXPORT void *realloc(void *p, size_t size)
{
	return do_realloc(p, size, CALLER);
}

EXPORT void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t nr_bytes;

	if (__builtin_mul_overflow(nr, size, &nr_bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return do_realloc(p, nr_bytes, CALLER);
}

EXPORT void *memalign(size_t align, size_t size)
{
	return do_memalign(align, size, CALLER);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	void *p = NULL;

	if (ready())
		NESTED(p, next.aligned_alloc(align, size));
	return allocated_aligned(p, align, size, CALLER);
}

EXPORT int posix_memalign(void **result, size_t align, size_t size)
{
	int error = ENOMEM;

	if (ready())
		NESTED(error, next.posix_memalign(result, align, size));
	if (error == 0)
		(void)allocated_aligned(*result, align, size, CALLER);
	return error;
}

EXPORT void *valloc(size_t size)
{
	return do_memalign((size_t)sysconf(_SC_PAGESIZE), size, CALLER);
}

EXPORT void *pvalloc(size_t size)
{
	size_t align = (size_t)sysconf(_SC_PAGESIZE);
	size_t whole = (size + align - 1) & ~(align - 1);

	return whole >= size ? do_memalign(align, whole, CALLER) : NULL;
}

EXPORT size_t malloc_usable_size(void *p)
{
	return p == NULL || is_early(p) || !ready() ? 0 : next.malloc_usable_size(p);
}

/* --- C++: so that the call sites are the program's, and the next allocator's own operators do
 * not pass by unseen.  What fails is left to them, as they know about new-handlers. -----------
 */

static void *do_new(size_t size, uint64_t site)
{
	void *p = ready() ? next.malloc(size) : early_alloc(size);

	if (unlikely(p == NULL) && next.new == NULL)
		FIND(new, "_Znwm");
	if (unlikely(p == NULL) && next.new != NULL)
		p = next.new(size);
	return is_early(p) ? p : allocated(TRACE_MALLOC, p, size, site);
}

static void *do_new_aligned(size_t size, size_t align, uint64_t site)
{
	void *p = NULL;

	if (ready())
		NESTED(p, next.memalign(align, size));
	if (unlikely(p == NULL) && next.new_aligned == NULL)
		FIND(new_aligned, "_ZnwmSt11align_val_t");
	if (unlikely(p == NULL) && next.new_aligned != NULL)
		p = next.new_aligned(size, align);
	return allocated_aligned(p, align, size, site);
}

#define OPERATOR(result, name, ...)                                                            \
	EXPORT result name(__VA_ARGS__);                                                       \
	EXPORT result name(__VA_ARGS__)

OPERATOR(void *, _Znwm, size_t size)
{
	return do_new(size, CALLER);
}

OPERATOR(void *, _Znam, size_t size)
{
	return do_new(size, CALLER);
}

OPERATOR(void *, _ZnwmSt11align_val_t, size_t size, size_t align)
{
	return do_new_aligned(size, align, CALLER);
}

OPERATOR(void *, _ZnamSt11align_val_t, size_t size, size_t align)
{
	return do_new_aligned(size, align, CALLER);
}

/* A nothrow new that fails answers NULL without the handlers' help. */
OPERATOR(void *, _ZnwmRKSt9nothrow_t, size_t size, const void *tag)
{
	(void)tag;
	return ready() ? allocated(TRACE_MALLOC, next.malloc(size), size, CALLER) : NULL;
}

OPERATOR(void *, _ZnamRKSt9nothrow_t, size_t size, const void *tag)
{
	(void)tag;
	return ready() ? allocated(TRACE_MALLOC, next.malloc(size), size, CALLER) : NULL;
}

OPERATOR(void *, _ZnwmSt11align_val_tRKSt9nothrow_t, size_t size, size_t align, const void *tag)
{
	(void)tag;
	return do_memalign(align, size, CALLER);
}

OPERATOR(void *, _ZnamSt11align_val_tRKSt9nothrow_t, size_t size, size_t align, const void *tag)
{
	(void)tag;
	return do_memalign(align, size, CALLER);
}

/* The arguments, of which the first is p. */
#define DELETE(name, ...)                                                                      \
	OPERATOR(void, name, __VA_ARGS__)                                                      \
	{                                                                                      \
		do_free(p);                                                                    \
	}

DELETE(_ZdlPv, void *p)
DELETE(_ZdaPv, void *p)
#pragma GCC diagnostic ignored "-Wunused-parameter"
DELETE(_ZdlPvm, void *p, size_t size)
DELETE(_ZdaPvm, void *p, size_t size)
DELETE(_ZdlPvSt11align_val_t, void *p, size_t align)
DELETE(_ZdaPvSt11align_val_t, void *p, size_t align)
DELETE(_ZdlPvmSt11align_val_t, void *p, size_t size, size_t align)
DELETE(_ZdaPvmSt11align_val_t, void *p, size_t size, size_t align)
DELETE(_ZdlPvRKSt9nothrow_t, void *p, const void *tag)
DELETE(_ZdaPvRKSt9nothrow_t, void *p, const void *tag)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, void *p, size_t align, const void *tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, void *p, size_t align, const void *tag)
