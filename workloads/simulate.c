/*
 * simulate [OPTION..] TRACE..: the page allocator with 1 to 256 processors, on paper.
 *
 * The real core runs here, in one thread of the system, on virtual processors, each a
 * coroutine with a clock of its own.  What a processor does is counted, not timed: core is
 * compiled so that every basic block it passes adds one unit to the clock (trace-pc of the
 * compilers' coverage), and what is not code has a price stated below.  Before a processor
 * takes a lock, all those whose clocks are behind go first, so that locks are had in the
 * order of virtual time; who finds one taken waits until the moment it is released.  The
 * result is the same each time, and shows contention that this machine has too few
 * processors to show.
 *
 * Every processor plays the whole trace by itself and begins a little later than the one
 * before: what it asks of the page allocator is worked out beforehand by pages.c.  So with N
 * processors N times the work is done, and in a perfect world in the same time.
 *
 * What this does not know: caches and their lines but for one price when a lock changes
 * processors, the memory's bandwidth, the system's own locks (mmap_lock), and programs that
 * wait for each other.
 */
#define _GNU_SOURCE
#include "tools/trace.h"
#include "workloads/pages.h"
#include "workloads/simulate.h"
#include "workloads/stream.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

/* Prices in units; a unit is a basic block: 5 instructions, a little more than 1 ns. */
#define PRICE_EVENT 20u     /* an event outside of the page allocator: malloc and the program */
#define PRICE_ATOMIC 8u     /* taking or releasing a lock */
#define PRICE_TRANSFER 100u /* the lock and what it protects come from another processor */
#define PRICE_SPIN 800u     /* how long one waits before one sleeps */
#define PRICE_SLEEP 4000u   /* from the release on until a sleeper is back */
#define PRICE_WAKE 400u     /* for who wakes it */
#define PRICE_SYSTEM 1000u  /* a call of the system's memory functions */
#define UNITS_TO_NS(units) ((units)*5 / 4)

enum {
	MAX_CPUS = 256,
	STACK_BYTES = 256 << 10,
	MAX_LOCKS = 4096,
	STATUS_WRONG = 1,
	STATUS_USAGE = 2,
	STATUS_TRACE = 3,
};

/* --- the stream of requests
 * ------------------------------------------------------------------- */

static struct {
	struct stream_request *requests;
	size_t nr, room;
	uint32_t *free_slots;
	uint32_t nr_free_slots, nr_slots;
	uint32_t gap;
} stream;

/* A pfn that stands for a slot, far from its neighbours. */
#define SLOT_SHIFT 19u

static uint32_t slot_new(void)
{
	if (stream.nr_free_slots > 0)
		return stream.free_slots[--stream.nr_free_slots];
	stream.nr_slots++;
	stream.free_slots = realloc(stream.free_slots, stream.nr_slots * sizeof(uint32_t));
	if (stream.free_slots == NULL)
		abort();
	return stream.nr_slots - 1;
}

static void stream_add(struct stream_request request)
{
	if (stream.nr == stream.room) {
		stream.room = 2 * stream.room + 1024;
		stream.requests = realloc(stream.requests, stream.room * sizeof(request));
		if (stream.requests == NULL)
			abort();
	}
	request.gap = stream.gap;
	stream.gap = 0;
	stream.requests[stream.nr++] = request;
}

static pfn_t stream_alloc(size_t nr_pages, unsigned align_order, enum migratetype mt,
			  bool cached)
{
	uint32_t slot = slot_new();

	stream_add((struct stream_request){ .slot = slot,
					    .nr_pages = (uint32_t)nr_pages,
					    .align_order = (uint16_t)align_order,
					    .type = (uint8_t)mt,
					    .cached = cached });
	return ((pfn_t)slot + 1) << SLOT_SHIFT;
}

static void stream_release(pfn_t pfn, size_t nr_pages, bool cached)
{
	uint32_t slot = (uint32_t)(pfn >> SLOT_SHIFT) - 1;

	stream_add((struct stream_request){ .slot = slot,
					    .nr_pages = (uint32_t)nr_pages,
					    .is_free = true,
					    .cached = cached });
	stream.free_slots[stream.nr_free_slots++] = slot;
}

pfn_t stream_pcp_alloc(struct pcp *pcp, unsigned order, enum migratetype mt, bool *zeroed)
{
	(void)pcp;
	(void)zeroed;
	return stream_alloc((size_t)1 << order, order, mt, true);
}

void stream_pcp_free(struct pcp *pcp, pfn_t pfn, unsigned order)
{
	(void)pcp;
	stream_release(pfn, (size_t)1 << order, true);
}

pfn_t stream_zone_alloc(size_t nr_pages, unsigned align_order, enum migratetype mt,
			bool *zeroed)
{
	(void)zeroed;
	return stream_alloc(nr_pages, align_order, mt, false);
}

void stream_zone_free(pfn_t pfn, size_t nr_pages)
{
	stream_release(pfn, nr_pages, false);
}

/* All requests of a trace, played by one thread; what is left is freed at the end. */
static void stream_make(const struct trace *t)
{
	struct pages pages;

	stream.nr = 0;
	stream.nr_slots = stream.nr_free_slots = 0;
	stream.gap = 0;
	if (!pages_init(&pages, 1, t->nr_objects))
		abort();
	for (uint64_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *e = &t->events[i];

		stream.gap++;
		if (trace_op_allocates(e->op))
			(void)pages_alloc(&pages, 0, e->object, (size_t)e->size, e->align_log2);
		if (e->op == TRACE_FREE)
			pages_free(&pages, 0, e->object);
		if (e->op == TRACE_REALLOC)
			pages_free(&pages, 0, e->from);
	}
	for (uint32_t object = 0; object < t->nr_objects; object++)
		if (pages.objects[object].addr != NULL)
			pages_free(&pages, 0, object);
	munmap(pages.threads, sizeof(*pages.threads));
	munmap(pages.objects, ((size_t)t->nr_objects + 1) * sizeof(*pages.objects));
}

/* --- processors
 * --------------------------------------------------------------------------------- */

struct cpu {
	ucontext_t context;
	uint64_t clock;
	bool done;
	unsigned place; /* in the heap */
	pfn_t *runs;    /* by slot */
	struct pcp *pcp;
	uint64_t wait;
	char *stack;
};

static struct {
	struct cpu *cpus;
	unsigned nr_cpus;
	unsigned *heap; /* those that may run, the earliest first */
	unsigned nr_ready;
	unsigned current;
	ucontext_t back;
} machine;

static uint64_t *clock_now; /* of the processor that runs */
static uint64_t idle_clock;

/* Called by every basic block of core. */
void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	++*clock_now;
}

static bool earlier(unsigned a, unsigned b)
{
	const struct cpu *x = &machine.cpus[a], *y = &machine.cpus[b];

	return x->clock < y->clock || (x->clock == y->clock && a < b);
}

static void heap_place(unsigned at, unsigned cpu)
{
	machine.heap[at] = cpu;
	machine.cpus[cpu].place = at;
}

static void heap_push(unsigned cpu)
{
	unsigned at = machine.nr_ready++;

	for (; at > 0 && earlier(cpu, machine.heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap_place(at, machine.heap[(at - 1) / 2]);
	heap_place(at, cpu);
}

static unsigned heap_pop(void)
{
	unsigned first = machine.heap[0], last = machine.heap[--machine.nr_ready], at = 0;

	for (;;) {
		unsigned child = 2 * at + 1;

		if (child + 1 < machine.nr_ready &&
		    earlier(machine.heap[child + 1], machine.heap[child]))
			child++;
		if (child >= machine.nr_ready || !earlier(machine.heap[child], last))
			break;
		heap_place(at, machine.heap[child]);
		at = child;
	}
	if (machine.nr_ready > 0)
		heap_place(at, last);
	return first;
}

/* Lets the earliest processor run; the current one is in the heap, or waits elsewhere. */
static void switch_away(void)
{
	unsigned from = machine.current;

	if (machine.nr_ready == 0) {
		fputs("simulate: all processors wait: a deadlock\n", stderr);
		_Exit(STATUS_WRONG);
	}
	machine.current = heap_pop();
	clock_now = &machine.cpus[machine.current].clock;
	if (machine.current != from)
		swapcontext(&machine.cpus[from].context,
			    &machine.cpus[machine.current].context);
}

/* Everybody who is behind goes first. */
static void let_earlier_go(void)
{
	while (machine.nr_ready > 0 && earlier(machine.heap[0], machine.current)) {
		heap_push(machine.current);
		switch_away();
	}
}

/* --- locks
 * ---------------------------------------------------------------------------------------- */

struct sim_lock {
	enum lock_rank rank;
	bool held;
	unsigned last;     /* processor + 1 */
	uint64_t taken_at; /* by whoever holds it */
	uint64_t free_at;
	unsigned waiting[MAX_CPUS], nr_waiting; /* while its holder is not running */
};

struct lock_figures {
	uint64_t acquired, contended, slept, hold, wait, moved;
	uint64_t hold_system; /* of hold: in calls of the system */
};

static struct sim_lock locks[MAX_LOCKS];
static unsigned nr_locks;
static struct lock_figures figures[NR_LOCK_RANKS];
static bool simulating;

static struct sim_lock *lock_find(struct lock *lock, enum lock_rank rank)
{
	/* Relaxed: there is one thread. */
	uint32_t number = atomic_load_explicit(&lock->state, memory_order_relaxed);

	if (number == 0) {
		if (nr_locks == MAX_LOCKS)
			abort();
		number = ++nr_locks;
		locks[number - 1] = (struct sim_lock){ .rank = rank };
		atomic_store_explicit(&lock->state, number, memory_order_relaxed);
	}
	return &locks[number - 1];
}

static void take(struct sim_lock *l, uint64_t asked_at)
{
	struct cpu *me = &machine.cpus[machine.current];
	struct lock_figures *f = &figures[l->rank];

	if (l->last != 0 && l->last != machine.current + 1) {
		me->clock += PRICE_TRANSFER;
		f->moved++;
	}
	l->held = true;
	l->last = machine.current + 1;
	l->taken_at = me->clock;
	f->acquired++;
	if (me->clock - asked_at > PRICE_TRANSFER) {
		f->contended++;
		f->wait += me->clock - asked_at;
		me->wait += me->clock - asked_at;
	}
}

void simulate_acquire(struct lock *lock, enum lock_rank rank)
{
	struct sim_lock *l = lock_find(lock, rank);
	struct cpu *me;
	uint64_t asked_at;

	if (!simulating)
		return;
	me = &machine.cpus[machine.current];
	me->clock += PRICE_ATOMIC;
	let_earlier_go();
	asked_at = me->clock;
	for (;;) {
		if (l->held) {
			/* Its holder waits for another lock meanwhile. */
			l->waiting[l->nr_waiting++] = machine.current;
			switch_away();
			continue;
		}
		if (l->free_at <= me->clock)
			break;
		if (l->free_at - asked_at <= PRICE_SPIN) {
			me->clock = l->free_at;
			break;
		}
		figures[rank].slept++;
		/* Whoever released it had to wake somebody; it runs on from where it is now. */
		if (!machine.cpus[l->last - 1].done)
			machine.cpus[l->last - 1].clock += PRICE_WAKE;
		me->clock = l->free_at + PRICE_SLEEP;
		asked_at = asked_at < me->clock ? asked_at : me->clock;
		let_earlier_go();
		if (!l->held && l->free_at > me->clock) {
			/* Somebody else was quicker: spin again before the next sleep. */
			me->wait += me->clock - asked_at;
			figures[rank].wait += me->clock - asked_at;
			asked_at = me->clock;
		}
	}
	take(l, asked_at);
}

bool simulate_try(struct lock *lock, enum lock_rank rank)
{
	struct sim_lock *l = lock_find(lock, rank);
	struct cpu *me;

	if (!simulating)
		return true;
	me = &machine.cpus[machine.current];
	me->clock += PRICE_ATOMIC;
	let_earlier_go();
	if (l->held || l->free_at > me->clock)
		return false;
	take(l, me->clock);
	return true;
}

void simulate_release(struct lock *lock, enum lock_rank rank)
{
	struct sim_lock *l = lock_find(lock, rank);
	struct cpu *me;

	if (!simulating)
		return;
	me = &machine.cpus[machine.current];
	me->clock += PRICE_ATOMIC;
	l->held = false;
	l->free_at = me->clock;
	figures[rank].hold += me->clock - l->taken_at;
	for (unsigned i = 0; i < l->nr_waiting; i++)
		heap_push(l->waiting[i]);
	l->nr_waiting = 0;
}

/* --- the system
 * -------------------------------------------------------------------------------------- */

int __real_mprotect(void *addr, size_t len, int prot);
int __wrap_mprotect(void *addr, size_t len, int prot);
int __wrap_madvise(void *addr, size_t len, int advice);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);

static uint64_t nr_system;

/* Whoever waits for the zone lock waits for this too. */
static void pay_system(void)
{
	*clock_now += PRICE_SYSTEM;
	nr_system++;
	for (unsigned i = 0; simulating && i < nr_locks; i++)
		if (locks[i].rank == LOCK_ZONE && locks[i].held &&
		    locks[i].last == machine.current + 1)
			figures[LOCK_ZONE].hold_system += PRICE_SYSTEM;
}

int __wrap_mprotect(void *addr, size_t len, int prot)
{
	pay_system();
	return __real_mprotect(addr, len, prot);
}

/* No page is ever written to: there is nothing to give back. */
int __wrap_madvise(void *addr, size_t len, int advice)
{
	(void)addr;
	(void)len;
	(void)advice;
	pay_system();
	return 0;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t ns = UNITS_TO_NS(*clock_now) + 1000000000u;

	(void)id;
	now->tv_sec = (time_t)(ns / 1000000000u);
	now->tv_nsec = (long)(ns % 1000000000u);
	return 0;
}

/* --- what a processor does
 * ----------------------------------------------------------------------------- */

static unsigned price_event = PRICE_EVENT;
static unsigned nr_rounds = 1;

static void play_request(struct cpu *cpu, const struct stream_request *r)
{
	unsigned order = log2_floor(r->nr_pages);
	pfn_t *run = &cpu->runs[r->slot];

	cpu->clock += (uint64_t)r->gap * price_event;
	if (r->is_free) {
		if (r->cached)
			pcp_free(cpu->pcp, *run, order);
		else
			zone_free(*run, r->nr_pages);
		*run = 0;
		work_tick();
		return;
	}
	*run = r->cached ? pcp_alloc(cpu->pcp, order, (enum migratetype)r->type, NULL)
			 : zone_alloc(r->nr_pages, r->align_order, (enum migratetype)r->type,
				      NULL);
	if (*run == 0) {
		fputs("simulate: the page allocator has no memory\n", stderr);
		_Exit(STATUS_WRONG);
	}
}

static void cpu_main(void)
{
	struct cpu *cpu = &machine.cpus[machine.current];

	for (unsigned round = 0; round < nr_rounds; round++)
		for (size_t i = 0; i < stream.nr; i++)
			play_request(cpu, &stream.requests[i]);
	cpu->done = true;
	if (machine.nr_ready == 0) {
		setcontext(&machine.back);
	} else {
		machine.current = heap_pop();
		clock_now = &machine.cpus[machine.current].clock;
		setcontext(&machine.cpus[machine.current].context);
	}
}

static struct pcp *pcps; /* registered for good */

static void machine_make(unsigned nr_cpus, uint64_t stagger)
{
	machine.nr_cpus = nr_cpus;
	machine.nr_ready = 0;
	for (unsigned i = 0; i < nr_cpus; i++) {
		struct cpu *cpu = &machine.cpus[i];
		char *stack = cpu->stack;

		if (stack == NULL)
			stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (stack == MAP_FAILED)
			abort();
		free(cpu->runs);
		*cpu = (struct cpu){ .stack = stack,
				     .clock = idle_clock + i * stagger,
				     .pcp = &pcps[i],
				     .runs = calloc(stream.nr_slots + 1, sizeof(pfn_t)) };
		if (cpu->runs == NULL)
			abort();
		getcontext(&cpu->context);
		cpu->context.uc_stack.ss_sp = stack;
		cpu->context.uc_stack.ss_size = STACK_BYTES;
		makecontext(&cpu->context, cpu_main, 0);
		heap_push(i);
	}
}

struct outcome {
	unsigned nr_cpus;
	uint64_t units, wait, nr_events, nr_system;
	struct lock_figures locks[NR_LOCK_RANKS];
	struct core_stats before, after;
};

static void simulate(unsigned nr_cpus, uint64_t stagger, uint64_t nr_events, struct outcome *o)
{
	*o = (struct outcome){ .nr_cpus = nr_cpus, .nr_events = nr_events * nr_rounds };
	core_stats_read(&o->before);
	memset(figures, 0, sizeof(figures));
	nr_system = 0;
	machine_make(nr_cpus, stagger);
	for (unsigned i = 0; i < nr_locks; i++)
		locks[i].last = 0;
	simulating = true;
	machine.current = heap_pop();
	clock_now = &machine.cpus[machine.current].clock;
	swapcontext(&machine.back, &machine.cpus[machine.current].context);
	simulating = false;
	for (unsigned i = 0; i < nr_cpus; i++) {
		const struct cpu *cpu = &machine.cpus[i];
		uint64_t took = cpu->clock - idle_clock - i * stagger;

		o->units = took > o->units ? took : o->units;
		o->wait += cpu->wait;
	}
	for (unsigned i = 0; i < nr_cpus; i++)
		if (machine.cpus[i].clock > idle_clock)
			idle_clock = machine.cpus[i].clock;
	clock_now = &idle_clock;
	memcpy(o->locks, figures, sizeof(figures));
	o->nr_system = nr_system;
	pcp_drain_all();
	core_check();
	core_stats_read(&o->after);
}

/* --- telling
 * ----------------------------------------------------------------------------------------------
 */

static const char *const rank_names[] = {
#define LOCK(name, what) #name,
#include "core/locks.def"
#undef LOCK
};

static double part(uint64_t a, double b)
{
	return b > 0 ? (double)a / b : 0;
}

static void print_row(const struct outcome *o, const struct outcome *one)
{
	const struct lock_figures *zone = &o->locks[LOCK_ZONE];
	double all = (double)o->units * o->nr_cpus;

	printf("  %4u %12.3f %9.3f %9.1f%% %9.1f%% %9.1f%% %12.2f %10.1f%% %9" PRIu64 "\n",
	       o->nr_cpus, (double)UNITS_TO_NS(o->units) / 1e6,
	       part(one->units, (double)o->units), 100 * part(o->wait, all),
	       100 * part(zone->hold, (double)o->units),
	       100 * part(zone->hold_system, (double)zone->hold),
	       1000 * part(zone->acquired, (double)(o->nr_events * o->nr_cpus)),
	       100 * part(zone->contended, (double)zone->acquired), zone->slept);
}

static void print_json(FILE *file, const char *name, const struct outcome *o,
		       const struct outcome *one, bool first)
{
	const char *comma = "";

	fprintf(file,
		"%s\n {\"trace\": \"%s\", \"cpus\": %u, \"events\": %" PRIu64
		", \"requests\": %zu, \"units\": %" PRIu64
		", \"efficiency\": %.4f, \"wait\": %" PRIu64 ", \"system_calls\": %" PRIu64
		", \"grown\": %" PRIu64 ", \"purged_pages\": %" PRIu64 ", \"locks\": {",
		first ? "[" : ",", name, o->nr_cpus, o->nr_events, stream.nr, o->units,
		part(one->units, (double)o->units), o->wait, o->nr_system,
		o->after.grown - o->before.grown,
		o->after.purged_pages - o->before.purged_pages);
	for (unsigned rank = 0; rank < NR_LOCK_RANKS; rank++) {
		const struct lock_figures *f = &o->locks[rank];

		if (f->acquired == 0)
			continue;
		fprintf(file,
			"%s\"%s\": {\"acquired\": %" PRIu64 ", \"contended\": %" PRIu64
			", \"slept\": %" PRIu64 ", \"hold\": %" PRIu64 ", \"wait\": %" PRIu64
			", \"moved\": %" PRIu64 ", \"hold_system\": %" PRIu64 "}",
			comma, rank_names[rank], f->acquired, f->contended, f->slept, f->hold,
			f->wait, f->moved, f->hold_system);
		comma = ", ";
	}
	fputs("}}", file);
}

static const char usage_text[] =
	"usage: simulate [OPTION..] TRACE..\n"
	"  --cpus N,N,..   how many processors (default 1,2,4,8,16,32,64,128,256)\n"
	"  --price UNITS   of an event outside of the page allocator (default 20)\n"
	"  --json FILE     write the figures to FILE as well\n";

static unsigned wanted[16] = { 1, 2, 4, 8, 16, 32, 64, 128, 256 };
static unsigned nr_wanted = 9;

static bool parse_cpus(char *text)
{
	nr_wanted = 0;
	for (char *word; (word = strsep(&text, ",")) != NULL;) {
		char *end;
		unsigned long n = strtoul(word, &end, 10);

		if (end == word || *end != '\0' || n < 1 || n > MAX_CPUS || nr_wanted == 16)
			return false;
		wanted[nr_wanted++] = (unsigned)n;
	}
	return nr_wanted > 0;
}

static bool simulate_trace(const char *path, FILE *json, bool first)
{
	struct outcome one = { 0 }, outcome;
	struct trace trace;
	const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	char why[256];
	uint64_t stagger;

	if (!trace_load(&trace, path, why)) {
		fprintf(stderr, "simulate: %s: %s\n", path, why);
		return false;
	}
	stream_make(&trace);
	/* So that not all do the same at once: an odd part of the whole, small enough. */
	stagger = trace.nr_events * price_event / 1024 + 7;
	printf("%.*s: %" PRIu64 " events, of which %zu reach the page allocator\n",
	       (int)strcspn(name, "."), name, trace.nr_events, stream.nr);
	printf("  %4s %12s %9s %10s %10s %10s %12s %11s %9s\n", "cpus", "virtual ms", "speed",
	       "waiting", "zone held", "in system", "zone/1000", "contended", "slept");
	simulate(1, stagger, trace.nr_events, &one);
	for (unsigned i = 0; i < nr_wanted; i++) {
		char short_name[64];

		simulate(wanted[i], stagger, trace.nr_events, &outcome);
		/* The first one grew the span: later ones are compared with one that did not.
		 */
		if (wanted[i] == 1)
			one = outcome;
		print_row(&outcome, &one);
		snprintf(short_name, sizeof(short_name), "%.*s", (int)strcspn(name, "."), name);
		if (json != NULL)
			print_json(json, short_name, &outcome, &one, first);
		first = false;
		fflush(stdout);
	}
	trace_free(&trace);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "cpus", required_argument, NULL, 'c' },
		{ "price", required_argument, NULL, 'p' },
		{ "json", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct core_config config = { .decay_ns = 1000000000, .thp_from_bytes = SIZE_MAX };
	FILE *json = NULL;
	int c, status = 0;
	bool first = true;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage_text, stdout);
			return 0;
		}
		if (c == 'p')
			price_event = (unsigned)strtoul(optarg, NULL, 10);
		if (c == 'j' && (json = fopen(optarg, "we")) == NULL) {
			fprintf(stderr, "simulate: %s: %s\n", optarg, strerror(errno));
			return STATUS_USAGE;
		}
		if (c == '?' || (c == 'c' && !parse_cpus(optarg))) {
			fputs(usage_text, stderr);
			return STATUS_USAGE;
		}
	}
	if (optind == argc) {
		fputs(usage_text, stderr);
		return STATUS_USAGE;
	}
	clock_now = &idle_clock;
	machine.cpus = calloc(MAX_CPUS, sizeof(*machine.cpus));
	machine.heap = calloc(MAX_CPUS, sizeof(*machine.heap));
	pcps = mmap(NULL, MAX_CPUS * sizeof(*pcps), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (machine.cpus == NULL || machine.heap == NULL || pcps == MAP_FAILED ||
	    core_init(&config) != 0) {
		fputs("simulate: cannot start\n", stderr);
		return STATUS_WRONG;
	}
	for (unsigned i = 0; i < MAX_CPUS; i++)
		pcp_init(&pcps[i]);
	for (int i = optind; i < argc; i++) {
		if (simulate_trace(argv[i], json, first))
			first = false;
		else
			status = STATUS_TRACE;
	}
	if (json != NULL) {
		fputs(first ? "[]\n" : "\n]\n", json);
		if (fclose(json) != 0)
			status = STATUS_WRONG;
	}
	return status;
}
