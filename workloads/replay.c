/*
 * replay [OPTION..] TRACE..: plays allocation traces (pageblock-trace(5)) again.
 *
 * On whatever malloc the process has, LD_PRELOAD decides, or with --pages on the page
 * allocator alone, which is linked in.  Threads of the trace are threads here.  What a thread
 * frees it waits for until the other has allocated it, and no thread runs further ahead of
 * the slowest, in the order in which the trace was recorded, than --window events: so that
 * what was alive together then is about so now.  With --serial one thread does everything in
 * the recorded order, the same each time.
 *
 * The program itself takes none of the memory measured: what it needs is in place before the
 * first event, and what is resident then is subtracted.  Time is taken in runs of their own,
 * each in a fresh child process, in which nothing is sampled; memory in one more: with one
 * thread at even distances and where most is alive, with several every 2 ms.
 *
 * Exit status: 0; 1 when something went wrong in a replay (a block that changed, no memory);
 * 2 for a bad command line; 3 when a trace cannot be used.
 */
#define _GNU_SOURCE
#include "tools/trace.h"
#include "workloads/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	STATUS_WRONG = 1,
	STATUS_USAGE = 2,
	STATUS_TRACE = 3,
	PAGE = 4096,
	NR_SAMPLES = 64,
	MAX_RUNS = 99,
};

enum touch { TOUCH_NONE, TOUCH_PAGES, TOUCH_ALL };

static struct {
	bool serial, check, pages, oracle, once;
	enum touch touch;
	unsigned nr_runs;
	uint64_t window;
	const char *json;
} options = { .touch = TOUCH_PAGES, .nr_runs = 3, .window = 4096 };

static const char usage_text[] =
	"usage: replay [OPTION..] TRACE..\n"
	"  --serial       one thread plays all, in the recorded order\n"
	"  --pages        the page allocator alone, without malloc; implies --serial\n"
	"  --oracle       the same, knowing beforehand when each block will be freed\n"
	"  --check        fill every block and see that nothing changes it\n"
	"  --touch WHAT   none, pages (default: one byte of each), all\n"
	"  --runs N       measure time N times (default 3)\n"
	"  --window N     how many events a thread may be ahead (default 4096; 0: any)\n"
	"  --once         play once in this process and measure nothing, for callgrind\n"
	"  --json FILE    write the figures to FILE as well\n";

/* --- the plan: made once for each trace, read only then -------------------------------------
 */

struct plan {
	const char *name;
	struct trace trace;
	uint32_t *order; /* events, thread by thread, each in its order */
	uint64_t *first; /* by thread: where its part of order begins; nr_threads + 1 of them */
	uint32_t *starter;  /* by thread: the thread that starts it, or itself: the first one */
	uint32_t *start_at; /* by thread: the event after which it is started */
	uint64_t peak_at;   /* the event after which most is alive */
	uint64_t peak_live, end_live;
	double mean_live;
	uint32_t *size_of_birth; /* by object: its event */
	uint8_t *group;          /* by object: when it dies, in parts of the trace */
};

/* Memory that is in place, and no malloc's. */
static void *in_place(size_t nr_bytes)
{
	void *p = mmap(NULL, nr_bytes > 0 ? nr_bytes : 1, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "replay: no memory for %zu bytes of its own\n", nr_bytes);
		_exit(STATUS_WRONG);
	}
	return p;
}

static void plan_threads(struct plan *plan)
{
	const struct trace *t = &plan->trace;
	uint64_t *next = in_place((t->nr_threads + 1) * sizeof(*next));

	plan->order = in_place(t->nr_events * sizeof(*plan->order));
	plan->first = in_place((t->nr_threads + 1) * sizeof(*plan->first));
	plan->starter = in_place(t->nr_threads * sizeof(*plan->starter));
	plan->start_at = in_place(t->nr_threads * sizeof(*plan->start_at));
	for (uint64_t i = 0; i < t->nr_events; i++)
		plan->first[t->events[i].thread + 1]++;
	for (uint32_t i = 0; i < t->nr_threads; i++) {
		plan->first[i + 1] += plan->first[i];
		next[i] = plan->first[i];
	}
	for (uint64_t i = 0; i < t->nr_events; i++) {
		uint32_t thread = t->events[i].thread;

		/* Whoever did the event before its first one is taken for its maker. */
		if (next[thread] == plan->first[thread]) {
			plan->starter[thread] = i > 0 ? t->events[i - 1].thread : thread;
			plan->start_at[thread] = i > 0 ? (uint32_t)(i - 1) : 0;
		}
		plan->order[next[thread]++] = (uint32_t)i;
	}
	munmap(next, (t->nr_threads + 1) * sizeof(*next));
}

static void plan_sizes(struct plan *plan)
{
	const struct trace *t = &plan->trace;
	uint64_t live = 0;
	double sum = 0;

	plan->size_of_birth = in_place(((size_t)t->nr_objects + 1) * sizeof(uint32_t));
	for (uint64_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];

		if (e->op == TRACE_FREE)
			live -= t->events[plan->size_of_birth[e->object]].size;
		if (e->op == TRACE_REALLOC)
			live -= t->events[plan->size_of_birth[e->from]].size;
		if (trace_op_allocates(e->op)) {
			plan->size_of_birth[e->object] = (uint32_t)i;
			live += e->size;
		}
		if (live > plan->peak_live) {
			plan->peak_live = live;
			plan->peak_at = i;
		}
		sum += (double)live;
	}
	plan->end_live = live;
	plan->mean_live = t->nr_events > 0 ? sum / (double)t->nr_events : 0;
}

/*
 * Perfect knowledge: objects are told apart by when they die, in as many equal parts of the
 * trace as there are groups but one; what never dies is of the last.
 */
static void plan_deaths(struct plan *plan)
{
	const struct trace *t = &plan->trace;

	plan->group = in_place((size_t)t->nr_objects + 1);
	memset(plan->group, PAGES_GROUPS - 1, t->nr_objects);
	for (uint64_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];
		uint8_t group = (uint8_t)(i * (PAGES_GROUPS - 1) / t->nr_events);

		if (e->op == TRACE_FREE)
			plan->group[e->object] = group;
		if (e->op == TRACE_REALLOC)
			plan->group[e->from] = group;
	}
}

static bool plan_make(struct plan *plan, const char *path)
{
	char why[256];

	memset(plan, 0, sizeof(*plan));
	plan->name = path;
	if (!trace_load(&plan->trace, path, why)) {
		fprintf(stderr, "replay: %s: %s\n", path, why);
		return false;
	}
	if (plan->trace.nr_events == 0 || plan->trace.nr_events >= UINT32_MAX) {
		fprintf(stderr, "replay: %s: has %" PRIu64 " events\n", path,
			plan->trace.nr_events);
		trace_free(&plan->trace);
		return false;
	}
	plan_threads(plan);
	plan_sizes(plan);
	plan_deaths(plan);
	return true;
}

static void plan_free(struct plan *plan)
{
	const struct trace *t = &plan->trace;

	munmap(plan->order, t->nr_events * sizeof(*plan->order));
	munmap(plan->first, (t->nr_threads + 1) * sizeof(*plan->first));
	munmap(plan->starter, t->nr_threads * sizeof(*plan->starter));
	munmap(plan->start_at, t->nr_threads * sizeof(*plan->start_at));
	munmap(plan->group, (size_t)t->nr_objects + 1);
	munmap(plan->size_of_birth, ((size_t)t->nr_objects + 1) * sizeof(uint32_t));
	trace_free(&plan->trace);
}

/* --- one play
 * --------------------------------------------------------------------------------- */

struct result {
	double seconds;
	uint64_t peak_live, peak_resident, resident_at_peak, end_resident;
	double mean_resident, mean_held; /* held: handed out by the page allocator */
	uint64_t end_held;
	uint64_t nr_requests; /* --pages */
	struct core_stats core;
	int status;
};

static struct {
	const struct plan *plan;
	_Atomic(unsigned char *) *objects; /* by object: its address once it is there */
	/* By thread: the number of its next event; UINT64_MAX: it has none. */
	struct progress {
		_Atomic uint64_t at;
		char apart[56];
	} * progress;
	pthread_t *threads;
	_Atomic uint32_t nr_running;
	struct pages pages;
	struct result *result;
	uint64_t own_bytes;
	double sum_resident, sum_held;
	unsigned nr_samples;
	bool sampling;
} play;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Anonymous memory of the process, exactly; without malloc. */
static uint64_t resident_bytes(void)
{
	static const char key[] = "\nAnonymous:";
	char text[2048];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	const char *found;

	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = '\0';
	found = strstr(text, key);
	return found != NULL ? strtoull(found + sizeof(key) - 1, NULL, 10) * 1024 : 0;
}

/* Since the first event; an allocator may give back what it had kept from before it. */
static uint64_t resident_since(void)
{
	uint64_t resident = resident_bytes();

	return resident > play.own_bytes ? resident - play.own_bytes : 0;
}

_Noreturn __attribute__((format(printf, 2, 3))) static void wrong(uint64_t event,
								  const char *format, ...)
{
	va_list args;

	fprintf(stderr, "replay: %s: event %" PRIu64 ": ", play.plan->name, event);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(STATUS_WRONG);
}

/* --- contents
 * --------------------------------------------------------------------------------- */

static uint64_t pattern_of(uint32_t object)
{
	return (object + 1u) * 0x9e3779b97f4a7c15u;
}

static void fill(unsigned char *p, size_t size, uint64_t pattern)
{
	size_t i = 0;

	for (; i + 8 <= size; i += 8)
		memcpy(p + i, &pattern, 8);
	memcpy(p + i, &pattern, size - i);
}

static void verify(const unsigned char *p, size_t size, uint64_t pattern, uint64_t event)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != (unsigned char)(pattern >> 8 * (i % 8)))
			wrong(event, "byte %zu of a block of %zu bytes at %p has changed", i,
			      size, (const void *)p);
}

static void touch(unsigned char *p, size_t size, uint32_t object)
{
	if (options.touch == TOUCH_ALL) {
		memset(p, (int)object, size);
		return;
	}
	if (size == 0 || options.touch == TOUCH_NONE)
		return;
	*(volatile unsigned char *)p = 1;
	for (uintptr_t at = ((uintptr_t)p | (PAGE - 1)) + 1; at < (uintptr_t)p + size;
	     at += PAGE)
		*(volatile unsigned char *)at = 1;
}

static size_t size_of(uint32_t object)
{
	const struct plan *plan = play.plan;

	return (size_t)plan->trace.events[plan->size_of_birth[object]].size;
}

static void born(const struct trace_event *e, unsigned char *p, uint64_t event)
{
	size_t size = (size_t)e->size;

	if (p == NULL)
		wrong(event, "no memory for %zu bytes", size);
	if (options.check) {
		size_t align = e->op == TRACE_ALIGNED ? (size_t)1 << e->align_log2
			       : size >= 16           ? 16
						      : 8;

		if (((uintptr_t)p & (align - 1)) != 0)
			wrong(event, "a block of %zu bytes at %p is not aligned to %zu", size,
			      (void *)p, align);
		if (!options.pages && malloc_usable_size(p) < size)
			wrong(event, "a block of %zu bytes has only %zu", size,
			      malloc_usable_size(p));
		if (e->op == TRACE_CALLOC && !options.pages)
			verify(p, size, 0, event);
		if (e->op == TRACE_REALLOC)
			verify(p, size < size_of(e->from) ? size : size_of(e->from),
			       pattern_of(e->from), event);
		fill(p, size, pattern_of(e->object));
	} else {
		touch(p, size, e->object);
	}
	/* Release: pairs with the acquire in object_wait(). */
	atomic_store_explicit(&play.objects[e->object], p, memory_order_release);
}

/* The object's address, when it has been allocated. */
static unsigned char *object_wait(uint32_t object)
{
	unsigned char *p;

	/* Acquire: pairs with the release in born(). */
	for (unsigned n = 0;
	     (p = atomic_load_explicit(&play.objects[object], memory_order_acquire)) == NULL;
	     n++)
		if (n > 100)
			sched_yield();
	return p;
}

/* --- events
 * ------------------------------------------------------------------------------------ */

static void dies(uint32_t object, const unsigned char *p, uint64_t event)
{
	if (options.check)
		verify(p, size_of(object), pattern_of(object), event);
}

static void play_realloc(const struct trace_event *e, uint64_t event)
{
	unsigned char *old = object_wait(e->from), *p;

	dies(e->from, old, event);
	if (!options.pages) {
		born(e, realloc(old, (size_t)e->size), event);
		return;
	}
	play.pages.group = options.oracle ? play.plan->group[e->object] : 0;
	p = pages_alloc(&play.pages, e->thread, e->object, (size_t)e->size, 0);
	if (p != NULL)
		memcpy(p, old,
		       (size_t)e->size < size_of(e->from) ? (size_t)e->size : size_of(e->from));
	born(e, p, event);
	pages_free(&play.pages, e->thread, e->from);
}

static void *allocate(const struct trace_event *e)
{
	size_t size = (size_t)e->size;
	void *p = NULL;

	play.pages.group = options.oracle ? play.plan->group[e->object] : 0;
	if (options.pages)
		return pages_alloc(&play.pages, e->thread, e->object, size, e->align_log2);
	if (e->op == TRACE_CALLOC)
		return calloc(1, size);
	if (e->op == TRACE_MALLOC)
		return malloc(size);
	if (e->align_log2 < 3 || posix_memalign(&p, (size_t)1 << e->align_log2, size) == 0)
		return e->align_log2 < 3 ? malloc(size) : p;
	return NULL;
}

static void play_event(uint64_t event)
{
	const struct trace_event *e = &play.plan->trace.events[event];
	unsigned char *p;

	switch (e->op) {
	case TRACE_MALLOC:
	case TRACE_CALLOC:
	case TRACE_ALIGNED:
		born(e, allocate(e), event);
		break;
	case TRACE_REALLOC:
		play_realloc(e, event);
		break;
	case TRACE_FREE:
		p = object_wait(e->object);
		dies(e->object, p, event);
		if (options.pages)
			pages_free(&play.pages, e->thread, e->object);
		else
			free(p);
		break;
	default:
		break;
	}
}

static uint64_t held_bytes(void)
{
	struct core_stats stats;

	core_stats_read(&stats);
	return stats.allocated_pages * PAGE;
}

static void sample(uint64_t event)
{
	uint64_t resident = resident_since();
	struct result *r = play.result;

	if (resident > r->peak_resident)
		r->peak_resident = resident;
	if (event == play.plan->peak_at)
		r->resident_at_peak = resident;
	else {
		play.sum_resident += (double)resident;
		play.sum_held += options.pages ? (double)held_bytes() : 0;
	}
	play.nr_samples += event != play.plan->peak_at;
}

static void play_serial(void)
{
	uint64_t nr_events = play.plan->trace.nr_events;
	uint64_t step = nr_events / NR_SAMPLES + 1;

	for (uint64_t i = 0; i < nr_events; i++) {
		play_event(i);
		if (play.sampling && ((i + 1) % step == 0 || i == play.plan->peak_at))
			sample(i);
	}
}

/* --- threads
 * ----------------------------------------------------------------------------------- */

static void *play_thread(void *number);

static void thread_launch(uint32_t thread)
{
	atomic_fetch_add_explicit(&play.nr_running, 1, memory_order_relaxed);
	if (pthread_create(&play.threads[thread], NULL, play_thread,
			   (void *)(uintptr_t)thread)) {
		fprintf(stderr, "replay: cannot start thread %u\n", thread);
		_exit(STATUS_WRONG);
	}
}

/* The least next event of all threads. */
static uint64_t slowest(void)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < play.plan->trace.nr_threads; i++) {
		/* Relaxed: only holds somebody back for a while. */
		uint64_t at = atomic_load_explicit(&play.progress[i].at, memory_order_relaxed);

		least = at < least ? at : least;
	}
	return least;
}

/* Threads of which this event is the last before their first. */
static void launch_followers(uint32_t thread, uint32_t event, uint32_t *next)
{
	const struct plan *plan = play.plan;

	/* Threads are numbered by their first events. */
	while (*next < plan->trace.nr_threads &&
	       (plan->starter[*next] != thread || plan->start_at[*next] < event))
		++*next;
	if (*next < plan->trace.nr_threads && plan->start_at[*next] == event &&
	    plan->starter[*next] == thread)
		thread_launch((*next)++);
}

static void *play_thread(void *number)
{
	const struct plan *plan = play.plan;
	uint32_t thread = (uint32_t)(uintptr_t)number, next = thread + 1;
	uint64_t limit = 0;

	for (uint64_t i = plan->first[thread]; i < plan->first[thread + 1]; i++) {
		uint32_t event = plan->order[i];

		atomic_store_explicit(&play.progress[thread].at, event, memory_order_relaxed);
		while (options.window > 0 && event > limit) {
			limit = slowest() + options.window;
			if (event > limit)
				sched_yield();
		}
		play_event(event);
		launch_followers(thread, event, &next);
	}
	atomic_store_explicit(&play.progress[thread].at, UINT64_MAX, memory_order_relaxed);
	atomic_fetch_sub_explicit(&play.nr_running, 1, memory_order_release);
	return NULL;
}

static void play_parallel(void)
{
	const struct plan *plan = play.plan;
	static const struct timespec pause = { .tv_nsec = 2000000 };
	uint32_t nr_threads = plan->trace.nr_threads;

	thread_launch(0);
	/* Acquire: pairs with the release at a thread's end. */
	while (play.sampling &&
	       atomic_load_explicit(&play.nr_running, memory_order_acquire) > 0) {
		nanosleep(&pause, NULL);
		sample(UINT64_MAX);
	}
	/* Each has been started by one of a lower number, which has been joined. */
	for (uint32_t i = 0; i < nr_threads; i++)
		pthread_join(play.threads[i], NULL);
}

/* --- a run
 * --------------------------------------------------------------------------------------- */

static void prepare(const struct plan *plan, struct result *result, bool sampling)
{
	const struct trace *t = &plan->trace;
	struct core_config config = { .decay_ns = 1000000000, .thp_from_bytes = SIZE_MAX };

	memset(&play, 0, sizeof(play));
	play.plan = plan;
	play.result = result;
	play.sampling = sampling;
	play.objects = in_place(((size_t)t->nr_objects + 1) * sizeof(play.objects[0]));
	play.progress = in_place((t->nr_threads + 1) * sizeof(play.progress[0]));
	play.threads = in_place((t->nr_threads + 1) * sizeof(play.threads[0]));
	for (uint32_t i = 0; i < t->nr_threads; i++)
		play.progress[i].at = plan->order[plan->first[i]];
	if (options.pages && (core_init(&config) != 0 ||
			      !pages_init(&play.pages, t->nr_threads, t->nr_objects))) {
		fputs("replay: the page allocator cannot start\n", stderr);
		_exit(STATUS_WRONG);
	}
	play.own_bytes = resident_bytes();
}

static void run_plan(const struct plan *plan, struct result *result, bool sampling)
{
	double began;

	prepare(plan, result, sampling);
	began = now();
	if (options.serial || plan->trace.nr_threads == 1)
		play_serial();
	else
		play_parallel();
	result->seconds = now() - began;
	if (sampling) {
		result->end_resident = resident_since();
		if (result->end_resident > result->peak_resident)
			result->peak_resident = result->end_resident;
		if (play.nr_samples > 0)
			result->mean_resident = play.sum_resident / play.nr_samples;
		if (play.nr_samples > 0)
			result->mean_held = play.sum_held / play.nr_samples;
		result->end_held = options.pages ? held_bytes() : 0;
	}
	if (options.pages) {
		result->nr_requests = play.pages.nr_requests;
		core_stats_read(&result->core);
		core_check();
	}
}

/* In a child, so that each run begins with a fresh heap. */
static bool run_child(const struct plan *plan, struct result *result, bool sampling)
{
	int status = 0;
	pid_t pid;

	memset(result, 0, sizeof(*result));
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		run_plan(plan, result, sampling);
		_exit(0);
	}
	if (pid < 0) {
		perror("replay: fork");
		return false;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	if (WIFSIGNALED(status))
		fprintf(stderr, "replay: %s: ended by signal %d (%s)\n", plan->name,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	return status == 0;
}

/* --- telling
 * --------------------------------------------------------------------------------------- */

struct figures {
	double median, least, most;
	struct result memory;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void print_text(const struct plan *plan, const struct figures *f)
{
	const struct trace *t = &plan->trace;
	const struct result *m = &f->memory;
	const double mib = 1024 * 1024;

	printf("%s: %" PRIu64 " events, %u objects, %u thread%s%s%s\n", plan->name,
	       t->nr_events, t->nr_objects, t->nr_threads, t->nr_threads == 1 ? "" : "s",
	       t->nr_threads > 1 && options.serial ? " played by one" : "",
	       options.oracle  ? ", on the page allocator alone, deaths known"
	       : options.pages ? ", on the page allocator alone"
			       : "");
	printf("  time               %9.4f s, %.1f ns an event (%.4f..%.4f in %u runs)\n",
	       f->median, f->median * 1e9 / (double)t->nr_events, f->least, f->most,
	       options.nr_runs);
	printf("  live at the peak   %9.2f MiB, at the end %.2f MiB\n",
	       (double)plan->peak_live / mib, (double)plan->end_live / mib);
	printf("  resident at most   %9.2f MiB, %.3f times what is live at the peak\n",
	       (double)m->peak_resident / mib,
	       ratio((double)m->peak_resident, (double)plan->peak_live));
	printf("  resident on average%9.2f MiB, %.3f times what is live on average\n",
	       m->mean_resident / mib, ratio(m->mean_resident, plan->mean_live));
	printf("  resident at the end%9.2f MiB\n", (double)m->end_resident / mib);
	if (m->resident_at_peak > 0)
		printf("  fragmentation      %9.1f %% of what is resident at the peak is not "
		       "live\n",
		       100 * (1 - ratio((double)plan->peak_live, (double)m->resident_at_peak)));
	if (options.pages)
		printf("  held on average    %9.2f MiB of pages, %.3f times what is live; at "
		       "the end "
		       "%.2f MiB\n",
		       m->mean_held / mib, ratio(m->mean_held, plan->mean_live),
		       (double)m->end_held / mib);
	if (options.pages)
		printf("  page allocator     %9" PRIu64 " requests, %" PRIu64
		       " blocks, %" PRIu64 " claims, %" PRIu64 " steals\n",
		       m->nr_requests, m->core.nr_blocks, m->core.claims, m->core.steals);
}

static void json_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		if ((unsigned char)*text < ' ')
			fprintf(file, "\\u%04x", (unsigned char)*text);
		else
			fputc(*text, file);
	}
	fputc('"', file);
}

static void print_json(FILE *file, const struct plan *plan, const struct figures *f, bool first)
{
	const struct trace *t = &plan->trace;
	const struct result *m = &f->memory;

	fputs(first ? "[\n {\"trace\": " : ",\n {\"trace\": ", file);
	json_text(file, plan->name);
	fputs(", \"program\": ", file);
	json_text(file, t->program);
	fprintf(file,
		", \"events\": %" PRIu64 ", \"objects\": %u, \"threads\": %u, \"serial\": %s, "
		"\"pages\": %s, \"seconds\": %.6f, \"seconds_min\": %.6f, \"seconds_max\": "
		"%.6f, "
		"\"peak_live\": %" PRIu64 ", \"mean_live\": %.0f, \"end_live\": %" PRIu64
		", \"peak_resident\": %" PRIu64 ", \"mean_resident\": %.0f, "
		"\"end_resident\": %" PRIu64 ", \"resident_at_peak\": %" PRIu64,
		t->nr_events, t->nr_objects, t->nr_threads, options.serial ? "true" : "false",
		options.pages ? "true" : "false", f->median, f->least, f->most, plan->peak_live,
		plan->mean_live, plan->end_live, m->peak_resident, m->mean_resident,
		m->end_resident, m->resident_at_peak);
	if (options.pages)
		fprintf(file,
			", \"oracle\": %s, \"mean_held\": %.0f, \"end_held\": %" PRIu64
			", \"requests\": %" PRIu64 ", \"blocks\": %" PRIu64
			", \"claims\": %" PRIu64 ", \"steals\": %" PRIu64,
			options.oracle ? "true" : "false", m->mean_held, m->end_held,
			m->nr_requests, m->core.nr_blocks, m->core.claims, m->core.steals);
	fputs("}", file);
}

/* False when a run failed. */
static bool measure(const struct plan *plan, struct figures *f)
{
	struct result *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double seconds[MAX_RUNS];
	bool ok = shared != MAP_FAILED;

	for (unsigned i = 0; ok && i < options.nr_runs; i++) {
		ok = run_child(plan, shared, false);
		seconds[i] = shared->seconds;
	}
	ok = ok && run_child(plan, shared, true);
	if (ok) {
		qsort(seconds, options.nr_runs, sizeof(seconds[0]), by_value);
		f->median = seconds[options.nr_runs / 2];
		f->least = seconds[0];
		f->most = seconds[options.nr_runs - 1];
		f->memory = *shared;
	}
	if (shared != MAP_FAILED)
		munmap(shared, sizeof(*shared));
	return ok;
}

/* --- the command line
 * ------------------------------------------------------------------------------ */

static bool set_number(uint64_t *number, const char *text, uint64_t min, uint64_t max)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *text != '-' && *number >= min &&
	       *number <= max;
}

static bool set_touch(const char *text)
{
	static const char *const names[] = { "none", "pages", "all" };

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			options.touch = (enum touch)i;
			return true;
		}
	return false;
}

static bool parse_options(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "serial", no_argument, NULL, 's' },
		{ "pages", no_argument, NULL, 'p' },
		{ "check", no_argument, NULL, 'c' },
		{ "touch", required_argument, NULL, 't' },
		{ "runs", required_argument, NULL, 'r' },
		{ "window", required_argument, NULL, 'w' },
		{ "once", no_argument, NULL, 'o' },
		{ "oracle", no_argument, NULL, 'O' },
		{ "json", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t number;
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 's')
			options.serial = true;
		else if (c == 'p')
			options.pages = options.serial = true;
		else if (c == 'O')
			options.oracle = options.pages = options.serial = true;
		else if (c == 'c')
			options.check = true;
		else if (c == 'o')
			options.once = true;
		else if (c == 'j')
			options.json = optarg;
		else if (c == 'r' && set_number(&number, optarg, 1, MAX_RUNS))
			options.nr_runs = (unsigned)number;
		else if (c == 'w' && set_number(&number, optarg, 0, UINT32_MAX))
			options.window = number;
		else if (c == 'h') {
			fputs(usage_text, stdout);
			exit(0);
		} else if (c != 't' || !set_touch(optarg))
			return false;
	}
	return optind < argc;
}

int main(int argc, char **argv)
{
	FILE *json = NULL;
	int status = 0;
	bool first = true;

	if (!parse_options(argc, argv)) {
		fputs(usage_text, stderr);
		return STATUS_USAGE;
	}
	if (options.json != NULL) {
		json = fopen(options.json, "we");
		if (json == NULL) {
			fprintf(stderr, "replay: %s: %s\n", options.json, strerror(errno));
			return STATUS_USAGE;
		}
	}
	for (int i = optind; i < argc; i++) {
		struct figures figures = { 0 };
		struct plan plan;

		/* One that cannot be used does not keep the next from being played. */
		if (!plan_make(&plan, argv[i])) {
			status = STATUS_TRACE;
			continue;
		}
		if (options.once) {
			run_plan(&plan, &figures.memory, false);
		} else if (measure(&plan, &figures)) {
			print_text(&plan, &figures);
			if (json != NULL)
				print_json(json, &plan, &figures, first);
			first = false;
		} else if (status == 0) {
			status = STATUS_WRONG;
		}
		plan_free(&plan);
	}
	if (json != NULL) {
		fputs(first ? "[]\n" : "\n]\n", json);
		if (fclose(json) != 0)
			status = status != 0 ? status : STATUS_WRONG;
	}
	return status;
}
