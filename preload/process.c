/*
 * The life of a process and its threads: start, thread exit, fork, exit.
 *
 * The library is linked -z initfirst, so start() comes before every other constructor:
 * its thread key has the lowest number (no allocation in pthread_setspecific, and its
 * destructor is the first of each round), and of all fork handlers ours take the locks
 * last and release them first.  Nothing depends on start() having run: allocation
 * works without it, and the key is made by whoever comes first.
 */
#define _GNU_SOURCE
#include "core/work.h"
#include "preload/background.h"
#include "preload/config.h"
#include "preload/export.h"
#include "preload/prof.h"
#include "preload/sited.h"
#include "preload/shrink.h"
#include "preload/stats.h"
#include "shim/shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- threads ------------------------------------------------------------------ */

/*
 * Rounds of destructors a thread's heap outlives.  In the first round ours comes first,
 * so it waits for one more, when everybody else's have run.  Not for the last: a thread
 * that first allocates in a destructor, in the second round say, would never get
 * there.  What still allocates or frees later is served without a heap of its own.
 */
#define ROUNDS_WAITED 1u
STATIC_ASSERT(ROUNDS_WAITED + 1 < _POSIX_THREAD_DESTRUCTOR_ITERATIONS, "a round is left");

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static bool thread_key_made;

static void thread_ends(void *value)
{
	uintptr_t rounds_left = (uintptr_t)value - 1;

	if (rounds_left == 0 || pthread_setspecific(thread_key, (void *)rounds_left) != 0)
		shim_thread_exit();
}

static void make_thread_key(void)
{
	thread_key_made = pthread_key_create(&thread_key, thread_ends) == 0;
}

/* Also for the main thread: it may end by pthread_exit() while others go on. */
void shim_thread_started(void)
{
	pthread_once(&thread_key_once, make_thread_key);
	if (thread_key_made)
		(void)pthread_setspecific(thread_key, (void *)(uintptr_t)(ROUNDS_WAITED + 1));
}

/* --- statistics at exit and meanwhile ------------------------------------------------ */

/*
 * Many programs close standard error before destructors run, so a second descriptor
 * is kept; what each refers to is compared before it is written to, since the program
 * may have closed and reused it.
 */
#define KEPT_FD_FROM 200

static int kept_fd = -1;
static struct stat kept_stat;

static bool is_kept(int fd)
{
	struct stat s;

	return fd >= 0 && fstat(fd, &s) == 0 && s.st_dev == kept_stat.st_dev &&
	       s.st_ino == kept_stat.st_ino;
}

static void keep_stderr(void)
{
	if (fstat(STDERR_FILENO, &kept_stat) == 0)
		kept_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, KEPT_FD_FROM);
}

/* Standard error as the process began with it, or -1. */
static int find_stderr(void)
{
	return is_kept(STDERR_FILENO) ? STDERR_FILENO : is_kept(kept_fd) ? kept_fd : -1;
}

/* By the background thread, or by a slow path of the program's. */
static uint64_t print_stats(uint64_t now_ns)
{
	int fd = find_stderr();

	if (fd < 0)
		return WORK_NEVER;
	stats_write(fd);
	return now_ns + config_value(OPT_stats_interval);
}

static void start_interval(void)
{
	static struct work work = { .run = print_stats };

	work_add(&work);
	/* At once: how it begins, and the clock that later ones are counted from. */
	work_due(&work, 0);
}

/* Whether the options ask for samples. */
static bool has_samples(void)
{
	return config_value(OPT_prof) || config_value(OPT_leak_report);
}

__attribute__((destructor)) static void end(void)
{
	int fd = find_stderr();

	if (has_samples())
		prof_end(fd);
	if (config_value(OPT_stats_print) && fd >= 0)
		stats_write(fd);
}

/* --- sites --- */

static void start_sites(void)
{
	static const char line[] = "pageblock: lifetime:auto cannot be had: the library's text "
				   "may not be written to\n";

	if (sited_start())
		sites_init(config_value(OPT_lifetime_from));
	else
		(void)!write(STDERR_FILENO, line, sizeof(line) - 1);
}

/* --- start ---------------------------------------------------------------------- */

static void fork_child(void)
{
	shim_fork_child();
	shrink_fork_child();
	background_fork_child();
}

__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	config_set_environment(envp);
	shim_init();
	pthread_once(&thread_key_once, make_thread_key);
	(void)pthread_atfork(shim_fork_prepare, shim_fork_parent, fork_child);
	background_init();
	if (config_value(OPT_stats_print) || config_value(OPT_leak_report) ||
	    config_value(OPT_prof_final) || config_value(OPT_stats_interval) > 0)
		keep_stderr();
	if (config_value(OPT_stats_interval) > 0)
		start_interval();
	if (config_value(OPT_lifetime) == LIFETIME_AUTO)
		start_sites();
}

/*
 * Between all libraries' constructors and the program's: the first moment at which another
 * library may be loaded.  start() comes too early for that, since dlopen() would have
 * libc's own constructor run without the program's arguments and environment.
 */
typedef int start_main_fn(int (*main)(int, char **, char **), int argc, char **argv,
			  void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			  void *stack_end);
start_main_fn __libc_start_main;

EXPORT int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end)
{
	start_main_fn *next;

	*(void **)&next = dlsym(RTLD_NEXT, "__libc_start_main");
	if (has_samples())
		prof_start();
	return next(main, argc, argv, init, fini, rtld_fini, stack_end);
}
