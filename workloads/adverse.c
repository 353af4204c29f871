/*
 * adverse CASE [OPS]: programs that are hard on who learns lifetimes by the place in the code
 * that asks for memory.
 *
 *   one        one place asks for everything
 *   alternate  one place, whose blocks live long and short in turns, 16 times
 *   tenth      two places, every tenth block is long-lived and of its own: not hard, to compare
 *   many       ten thousand places, many of which share the low 16 bits of their address
 *   phases     64 places, of which another one is long-lived in each of 16 phases
 *   made       places in code that is made, used, and unmapped 64 times
 *   fork       as tenth, with a fork every 32nd of the way, whose child does some of it too
 *   unload     as tenth, places in a library that is loaded, used, and unloaded 64 times
 *
 * A phase is a sixteenth of the run.  Of 8 million operations that is half a million, 100 MiB
 * of new blocks while 40 MiB are live, in well below a second: phases that change every second
 * leave a learner more time.  Its clock may be bytes or seconds; with more OPS, say 400
 * million, phases last for seconds.
 *
 * The places are made at run time: a few instructions that call malloc.  Long-lived blocks
 * replace each other in a large table at random, short-lived ones in a ring; what was asked
 * for from a place outlives its code.  Standard output says how much of the process's CPU time
 * it took, in nanoseconds.
 */
#include "workloads/adverse.h"
#include "workloads/support.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum {
	NR_PLACES = 10000,
	PLACE_BYTES = 16,
	CODE_BYTES = 1 << 18,
	NR_LONG = 1 << 17,
	NR_SHORT = 1 << 15,
	NR_PHASES = 16,
	NR_OF_PHASES = 64, /* places that take turns */
	NR_MADE = 64,      /* times that code is made, or loaded */
	NR_FORKS = 32,
	CHILD_PART = 64, /* a child does so much less */
};

enum adverse { ONE, ALTERNATE, TENTH, MANY, PHASES, MADE, FORK, UNLOAD, NR_CASES };
static const char *const names[NR_CASES] = { "one",    "alternate", "tenth", "many",
					     "phases", "made",      "fork",  "unload" };

static unsigned char *code;
static place_fn *loaded[2];
static struct block long_lived[NR_LONG], short_lived[NR_SHORT];
static struct random choice;

/* sub $8, %rsp; call *%rsi; add $8, %rsp; ret */
static void make_places(void)
{
	static const unsigned char place[] = { 0x48, 0x83, 0xec, 0x08, 0xff, 0xd6,
					       0x48, 0x83, 0xc4, 0x08, 0xc3 };

	if (code != NULL)
		munmap(code, CODE_BYTES);
	code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		fail("no memory for code");
	for (unsigned i = 0; i < NR_PLACES; i++)
		memcpy(code + i * PLACE_BYTES, place, sizeof(place));
}

/* The library beside this program, once more. */
static void load_places(void)
{
	static void *library;
	static char path[PATH_MAX];

	if (library == NULL) {
		ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 16);

		if (len < 0)
			fail("cannot find itself");
		memcpy(path + len, "_places.so", sizeof("_places.so"));
	} else if (dlclose(library) != 0) {
		fail("the library cannot be unloaded");
	}
	/* What stays mapped is not what this is about. */
	if (dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL)
		fail("the library was not unloaded");
	library = dlopen(path, RTLD_NOW);
	if (library == NULL)
		fail(dlerror());
	*(void **)&loaded[0] = dlsym(library, "adverse_goes");
	*(void **)&loaded[1] = dlsym(library, "adverse_stays");
	if (loaded[0] == NULL || loaded[1] == NULL)
		fail("a place is missing");
}

static struct block ask(enum adverse what, unsigned place)
{
	size_t size = random_log_uniform(&choice, 4, 10);
	place_fn *fn;

	if (what == UNLOAD)
		fn = loaded[place];
	else
		*(void **)&fn = code + place * PLACE_BYTES;
	return block_adopt(fn(size, malloc), size);
}

static void step(enum adverse what, unsigned nr, unsigned nr_ops)
{
	static unsigned next_short;
	bool stays = nr % 10 == 0;
	unsigned place = stays, phase = (unsigned)((uint64_t)nr * NR_PHASES / nr_ops);
	struct block *to;

	if (what == ONE || what == ALTERNATE)
		place = 0;
	if (what == ALTERNATE)
		stays = phase % 2 == 0;
	if (what == MANY || what == MADE)
		place = (unsigned)random_between(&choice, 0, NR_PLACES - 1);
	if (what == PHASES) {
		place = nr % NR_OF_PHASES;
		stays = place == phase;
	}
	to = stays ? &long_lived[random_between(&choice, 0, NR_LONG - 1)]
		   : &short_lived[next_short++ % NR_SHORT];
	block_free(to);
	*to = ask(what, place);
}

static void fork_once(unsigned nr_ops)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		fail("cannot fork");
	if (child == 0) {
		for (unsigned i = 0; i < nr_ops / CHILD_PART; i++)
			step(FORK, i, nr_ops);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("a child failed");
}

/* What happens NR times on the way. */
static bool is_time(unsigned nr, unsigned nr_ops, unsigned nr_times)
{
	return nr % (nr_ops / nr_times + 1) == 0;
}

static void work(enum adverse what, unsigned nr_ops)
{
	for (unsigned i = 0; i < nr_ops; i++) {
		if (what == MADE && is_time(i, nr_ops, NR_MADE))
			make_places();
		if (what == UNLOAD && is_time(i, nr_ops, NR_MADE))
			load_places();
		if (what == FORK && is_time(i, nr_ops, NR_FORKS))
			fork_once(nr_ops);
		step(what, i, nr_ops);
	}
}

static enum adverse case_of(const char *name)
{
	for (unsigned i = 0; i < NR_CASES; i++) {
		if (strcmp(name, names[i]) == 0)
			return (enum adverse)i;
	}
	fail("no such case");
}

int main(int argc, char **argv)
{
	enum adverse what = argc > 1 ? case_of(argv[1]) : ONE;
	unsigned nr_ops = argument_or(argc, argv, 2, 8000000);
	bool has_many = what == MANY || what == MADE;
	struct timespec now;

	choice = random_seed(1);
	make_places();
	if (what == UNLOAD)
		load_places();
	/* So that there is enough for anything to be kept apart. */
	for (unsigned i = 0; i < NR_LONG; i++)
		long_lived[i] =
			ask(what, has_many ? i % NR_PLACES : what != ONE && what != ALTERNATE);
	work(what, nr_ops);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	printf("%llu\n",
	       (unsigned long long)now.tv_sec * 1000000000u + (unsigned long long)now.tv_nsec);
	for (unsigned i = 0; i < NR_LONG; i++)
		block_free(&long_lived[i]);
	for (unsigned i = 0; i < NR_SHORT; i++)
		block_free(&short_lived[i]);
	return 0;
}
