/*
 * The background thread; see background.h.
 *
 * It sleeps in poll() on one end of a socket pair; whoever makes work due earlier than it
 * would wake sends a byte into the other end.  Programs close descriptors that they do
 * not know, so each end is compared with what was opened (device and inode) before it is
 * used; when they are gone, poll() says so, and the thread makes new ones.  Sockets, because
 * writing into a pipe without a reader would raise SIGPIPE.
 *
 * What it may use of the CPU is kept in a bucket that holds a minute's worth: a peak's
 * memory goes back at once, a load that makes work all the time is slowed to the rate, and slow
 * paths do the rest.
 *
 * It allocates nothing and has no heap.  Not guaranteed: that there is one; without it
 * slow paths do the work.
 */
#define _GNU_SOURCE
#include "preload/background.h"

#include "core/util.h"
#include "core/work.h"
#include "preload/config.h"
#include "preload/export.h"
#include "preload/pressure.h"
#include "shim/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Out of the way of programs that count on the numbers they get. */
#define FDS_FROM 200
#define STACK_BYTES ((size_t)256 << 10)
#define MS ((uint64_t)1000000)
/* Between two runs for work that becomes due: what comes close together is done together. */
#define STEP_NS (50 * MS)
/* How long a fork child is left alone. */
#define AGAIN_NS (100 * MS)
/* Between two looks at a cgroup's use. */
#define LOOK_NS (100 * MS)
/* From when on PSI triggers are worth what it costs to close them. */
#define OLD_NS (1000 * MS)
#define BUCKET_NS ((uint64_t)60 * 1000 * MS)

enum state { NONE, STARTING, RUNNING, OVER };

static struct {
	_Atomic int state;
	_Atomic bool stop;
	bool is_old; /* the thread's own: it watches PSI triggers */
	pthread_t thread;
	/* Its own end of the pair; the other one is work_waker, for others to see. */
	struct work_waker sleeper;
} background = {.sleeper.fd = -1};

/* Set for the main thread: its destructor runs when that thread ends alone. */
static pthread_key_t main_key;
static bool main_key_made;

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* --- descriptors -------------------------------------------------------------------- */

static int end_fd(const struct work_waker *end)
{
	/* Relaxed: whether it is the right one is asked of the system. */
	return atomic_load_explicit(&end->fd, memory_order_relaxed);
}

static bool end_is_own(const struct work_waker *end)
{
	struct stat s;
	int fd = end_fd(end);

	return fd >= 0 && fstat(fd, &s) == 0 && s.st_dev == end->dev && s.st_ino == end->ino;
}

static void end_close(struct work_waker *end)
{
	if (end_is_own(end))
		(void)syscall(SYS_close, end_fd(end));
	/* Relaxed: as end_fd(). */
	atomic_store_explicit(&end->fd, -1, memory_order_relaxed);
}

static bool end_open(struct work_waker *end, int fd)
{
	struct stat s;
	int high;

	/* Before it has a number that the program may take for one of its own. */
	if (fstat(fd, &s) != 0)
		return false;
	high = fcntl(fd, F_DUPFD_CLOEXEC, FDS_FROM);
	if (high >= 0)
		(void)syscall(SYS_close, fd);
	else
		high = fd;
	end->dev = s.st_dev;
	end->ino = s.st_ino;
	/* Relaxed: as end_fd(); a waker that sees the number before the inode wakes nobody,
	 * and this thread is awake. */
	atomic_store_explicit(&end->fd, high, memory_order_relaxed);
	return true;
}

static void close_ends(void)
{
	end_close(&background.sleeper);
	end_close(&work_waker);
}

static bool open_ends(void)
{
	bool both = true;
	int fds[2];

	close_ends();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
		return false;
	both &= end_open(&background.sleeper, fds[0]);
	both &= end_open(&work_waker, fds[1]);
	return both;
}

/* Any thread, perhaps under the zone lock. */
void background_wake(void)
{
	int saved = errno;

	/* Not send(), which is a cancellation point. */
	if (end_is_own(&work_waker))
		(void)syscall(SYS_sendto, end_fd(&work_waker), "", 1,
			      MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	errno = saved;
}

/* --- the bucket ---------------------------------------------------------------------- */

struct bucket {
	int64_t ns;        /* CPU time that may be used now */
	uint64_t since_ns; /* when that was found */
	uint64_t cpu_ns;   /* what the thread had used then */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = {0};

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

/* The clock of work_run(). */
static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE);
}

static int64_t percent_of(uint64_t ns)
{
	return (int64_t)(ns / 100 * config_value(OPT_purge_cpu));
}

/* How long to do nothing; 0: it may go on. */
static uint64_t bucket_wait_ns(struct bucket *bucket, uint64_t now)
{
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	if (config_value(OPT_purge_cpu) >= 100)
		return 0;
	bucket->ns += percent_of(now - bucket->since_ns) - (int64_t)(cpu - bucket->cpu_ns);
	bucket->since_ns = now;
	bucket->cpu_ns = cpu;
	if (bucket->ns > percent_of(BUCKET_NS))
		bucket->ns = percent_of(BUCKET_NS);
	if (bucket->ns > 0)
		return 0;
	/* Until there is enough for a slice. */
	return ((uint64_t)-bucket->ns + MS) * 100 / config_value(OPT_purge_cpu);
}

/* --- the thread ------------------------------------------------------------------------ */

static bool must_stop(void)
{
	/* Acquire pairs with the release in main_ends(). */
	return atomic_load_explicit(&background.stop, memory_order_acquire);
}

/* Somebody has woken it, or the program has closed one end or the other. */
static bool drain(const struct pollfd *fd)
{
	char bytes[64];

	if (end_is_own(&background.sleeper) &&
	    recv(fd->fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		return true;
	pressure_open(background.is_old);
	return open_ends();
}

/* Sleeps for so long, WORK_NEVER: for good, or until it is woken.  False: it cannot. */
static bool sleep_ns(uint64_t ns)
{
	struct pollfd fds[1 + PRESSURE_FDS] = {
		{.fd = end_fd(&background.sleeper), .events = POLLIN},
	};
	unsigned nr = 1 + pressure_poll(fds + 1);
	int timeout_ms = ns == WORK_NEVER      ? -1
			 : ns > 3600000 * MS ? 3600000
					     : (int)((ns + MS - 1) / MS);

	if (poll(fds, nr, timeout_ms) <= 0)
		return true;
	if (pressure_answer(fds + 1, nr - 1))
		shim_pressed();
	return fds[0].revents == 0 || drain(&fds[0]);
}

/* Until something is due, the bucket allows; false: it cannot sleep. */
static bool sleep_until(uint64_t next, uint64_t now, uint64_t wait_ns)
{
	uint64_t until = next;

	if (wait_ns == 0) {
		if (!work_sleep(next))
			return true;
		if (until < now + STEP_NS)
			until = now + STEP_NS;
		/* Work that is due some time: there is something that could be given back. */
		if (until != WORK_NEVER && until > now + LOOK_NS && pressure_must_look())
			until = now + LOOK_NS;
		wait_ns = until == WORK_NEVER ? WORK_NEVER : until - now;
	}
	if (!sleep_ns(wait_ns))
		return false;
	work_awake();
	return true;
}

static void *run(void *unused)
{
	struct bucket bucket = {.ns = percent_of(BUCKET_NS), .since_ns = now_ns()};
	uint64_t born = now_ns();
	bool can_sleep = true;

	(void)unused;
	(void)prctl(PR_SET_NAME, "pageblock");
	pressure_open(false);
	while (can_sleep && !must_stop()) {
		uint64_t now = now_ns();
		uint64_t next;

		if (!background.is_old && now - born >= OLD_NS) {
			background.is_old = true;
			pressure_open(true);
		}
		if (pressure_must_look() && pressure_look())
			shim_pressed();
		next = work_run(now);
		uint64_t wait_ns = bucket_wait_ns(&bucket, now);

		if (next > now || wait_ns > 0)
			can_sleep = sleep_until(next, now, wait_ns);
	}
	work_background(NULL);
	pressure_close();
	return NULL;
}

static create_fn *next_create(void)
{
	static create_fn *_Atomic found;
	/* Relaxed: whoever looks it up finds the same one. */
	create_fn *fn = atomic_load_explicit(&found, memory_order_relaxed);

	if (fn == NULL) {
		*(void **)&fn = dlsym(RTLD_NEXT, "pthread_create");
		atomic_store_explicit(&found, fn, memory_order_relaxed);
	}
	return fn;
}

/* Makes the thread with all signals blocked. */
static int create(void)
{
	create_fn *fn = next_create();
	pthread_attr_t attr;
	sigset_t all, before;
	int err;

	if (fn == NULL || pthread_attr_init(&attr) != 0)
		return EAGAIN;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Too small where static TLS is large. */
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	err = fn(&background.thread, &attr, run, NULL);
	if (err == EINVAL)
		err = fn(&background.thread, NULL, run, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return err;
}

static void end_thread(void)
{
	struct timespec until;

	/* Release pairs with the acquire in must_stop(). */
	atomic_store_explicit(&background.stop, true, memory_order_release);
	background_wake();
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	/* Longer than that only when a callback of the program keeps it. */
	if (pthread_timedjoin_np(background.thread, NULL, &until) != 0)
		(void)pthread_detach(background.thread);
	close_ends();
}

static bool start_thread(void)
{
	int starting = STARTING;

	work_background(background_wake);
	if (create() != 0) {
		work_background(NULL);
		return false;
	}
	/* Release pairs with the acquire in main_ends(): thread is set. */
	if (!atomic_compare_exchange_strong_explicit(&background.state, &starting, RUNNING,
						     memory_order_release,
						     memory_order_relaxed))
		end_thread(); /* the main thread has ended meanwhile */
	return true;
}

/* At a point where the program itself makes threads.  One try for each process. */
static void background_start(void)
{
	int saved = errno;
	int none = NONE;

	/* Relaxed: only that one of several does it. */
	if (atomic_load_explicit(&background.state, memory_order_relaxed) != NONE ||
	    !atomic_compare_exchange_strong_explicit(&background.state, &none, STARTING,
						     memory_order_relaxed,
						     memory_order_relaxed))
		return;
	if (!open_ends() || !start_thread()) {
		close_ends();
		atomic_store_explicit(&background.state, OVER, memory_order_relaxed);
	}
	errno = saved;
}

void background_want(void)
{
	if (config_value(OPT_background) != BACKGROUND_FALSE)
		background_start();
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*routine)(void *), void *arg)
{
	create_fn *fn = next_create();
	int err = fn == NULL ? EAGAIN : fn(thread, attr, routine, arg);

	if (err == 0)
		background_want();
	return err;
}

/* --- the life of the process --------------------------------------------------------------- */

/*
 * The main thread ends and the process goes on until its last thread does, which must not
 * be ours.
 */
static void main_ends(void *unused)
{
	/* Acquire pairs with the release in start_thread(). */
	int was = atomic_exchange_explicit(&background.state, OVER, memory_order_acquire);

	(void)unused;
	if (was == RUNNING)
		end_thread();
}

/* In a fork child of a process that has asked for it, from its first slow path after a
 * while: one that is about to exec does not get one. */
static uint64_t start_again(uint64_t now)
{
	(void)now;
	background_start();
	return WORK_NEVER;
}

static struct work again = {.run = start_again};

AT_START void background_init(void)
{
	main_key_made = pthread_key_create(&main_key, main_ends) == 0;
	if (main_key_made)
		(void)pthread_setspecific(main_key, &main_key);
	if (config_value(OPT_background) == BACKGROUND_TRUE) {
		work_add(&again);
		background_start();
	}
}

void background_fork_child(void)
{
	/* The descriptors are the parent's too. */
	close_ends();
	pressure_close();
	background.is_old = false;
	/* Relaxed: there is one thread. */
	atomic_store_explicit(&background.stop, false, memory_order_relaxed);
	atomic_store_explicit(&background.state, NONE, memory_order_relaxed);
	if (main_key_made)
		(void)pthread_setspecific(main_key, &main_key);
	if (config_value(OPT_background) == BACKGROUND_TRUE)
		work_due(&again, now_ns() + AGAIN_NS);
}
