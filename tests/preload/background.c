/*
 * background MODE - the background thread: an idle process gives its memory back, sleeps
 * for good afterwards, and what programs do to descriptors, threads and processes does
 * not disturb it.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>

#define MIB ((size_t)1 << 20)

enum { NR = 160 };

static char *blocks[NR];

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A line's number in a file of /proc, without allocating; base 16 for masks. */
static unsigned long long proc_number(const char *path, const char *name, int base)
{
	char text[4096], *at;
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	EXPECT(n > 0);
	close(fd);
	text[n] = '\0';
	at = strstr(text, name);
	EXPECT(at != NULL);
	return strtoull(at + strlen(name), NULL, base);
}

static size_t resident_now(void)
{
	return (size_t)proc_number("/proc/self/status", "VmRSS:", 10) * 1024;
}

/* The thread named pageblock; 0: there is none. */
static int background_tid(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int tid = 0;

	EXPECT(d != NULL);
	while ((e = readdir(d)) != NULL && tid == 0) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (f == NULL)
			continue;
		if (fgets(name, sizeof(name), f) != NULL && strcmp(name, "pageblock\n") == 0)
			tid = atoi(e->d_name);
		fclose(f);
	}
	closedir(d);
	return tid;
}

/* It gives itself its name, so it may take a moment. */
static int expect_thread(void)
{
	double until = seconds() + 10;
	int tid;

	while ((tid = background_tid()) == 0) {
		EXPECT(seconds() < until);
		usleep(1000);
	}
	return tid;
}

/* It has opened all it wants to have open, and sleeps: it is seen to three times in a row, as it
 * may sleep for a moment on its way. */
static void expect_asleep(int tid)
{
	double until = seconds() + 10;
	unsigned nr_seen = 0;
	char path[64], text[512], *at;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	for (;;) {
		int fd = open(path, O_RDONLY);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

		EXPECT(n > 0);
		close(fd);
		text[n] = '\0';
		at = strrchr(text, ')');
		EXPECT(at != NULL);
		nr_seen = at[2] == 'S' ? nr_seen + 1 : 0;
		if (nr_seen == 3)
			return;
		EXPECT(seconds() < until);
		usleep(1000);
	}
}

/* It has been joined, but the system may not have taken it off the list yet. */
static void expect_no_thread(void)
{
	double until = seconds() + 10;

	while (background_tid() != 0) {
		EXPECT(seconds() < until);
		usleep(1000);
	}
}

/* Microseconds for which somebody on the machine has waited for memory; 0: not known here.
 * The thread wakes for that, whoever it was. */
static unsigned long long pressure_us(void)
{
	char text[256], *at;
	int fd = open("/proc/pressure/memory", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "total=");
	return at == NULL ? 0 : strtoull(at + strlen("total="), NULL, 10);
}

static void fill(void)
{
	for (int i = 0; i < NR; i++) {
		blocks[i] = malloc(MIB);
		memset(blocks[i], 1, MIB);
	}
}

/* Frees everything and does nothing; how long until it is no longer resident. */
static double free_and_wait(void)
{
	size_t full = resident_now();
	double start, now;

	for (int i = 0; i < NR; i++)
		free(blocks[i]);
	start = seconds();
	do {
		usleep(10000);
		now = seconds();
		EXPECT(now - start < 20);
	} while (full - resident_now() < NR * MIB * 9 / 10);
	return now - start;
}

static unsigned long long switches(int tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	return proc_number(path, "\nvoluntary_ctxt_switches:", 10) +
	       proc_number(path, "nonvoluntary_ctxt_switches:", 10);
}

/* What is left of the work is done some time, and then it sleeps for good. */
static void idle(void)
{
	unsigned long long before = 0, now, pressed, pressed_before = 0;
	double took, until, last = seconds() + 80;
	int tid = expect_thread();

	fill();
	took = free_and_wait();
	printf("given back after %.2f s\n", took);
	fflush(stdout);
	EXPECT(took < 2);
	until = seconds() + 20;
	now = switches(tid);
	pressed = pressure_us();
	do {
		if (seconds() >= until) {
			printf("%llu context switches in the last 1.5 s, %llu us of pressure\n",
			       now - before, pressed - pressed_before);
			fflush(stdout);
		}
		EXPECT(seconds() < until);
		before = now;
		pressed_before = pressed;
		usleep(1500000);
		now = switches(tid);
		pressed = pressure_us();
		/* The thread is told when somebody waits 150 ms of 2 s, and so has something to do;
		 * the program that runs it gives it 120 s. */
		if (pressed - pressed_before > 50000 && until < last)
			until = seconds() + 20;
	} while (now != before);
	printf("no context switch in 1.5 s of doing nothing\n");
	fflush(stdout);
}

static void signals(void)
{
	char path[64];
	unsigned long long blocked;
	int thread = expect_thread();

	/* What it has to say when it begins it says before that. */
	expect_asleep(thread);
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", thread);
	blocked = proc_number(path, "SigBlk:", 16);
	/* All but SIGKILL, SIGSTOP and the two of libc's own, 32 and 33. */
	EXPECT((blocked | 1u << (SIGKILL - 1) | 1u << (SIGSTOP - 1) | 3ull << 31) ==
	       0xffffffffffffffffull);
}

/* Closes everything, as daemons do, and opens files where the descriptors were. */
static void descriptors(void)
{
	char name[] = "/tmp/pageblock-test-XXXXXX";
	int fd, nr = 0;
	off_t size;

	/* Before that it opens files at low numbers, which are not its own yet. */
	expect_asleep(expect_thread());
	fill();
	for (int i = 3; i < 1024; i++)
		close(i);
	fd = mkstemp(name);
	EXPECT(fd >= 0);
	unlink(name);
	EXPECT(write(fd, "mine", 4) == 4);
	for (int i = 200; i < 300; i++) {
		int got;

		/* The thread may be about to take this number. */
		do
			got = dup2(fd, i);
		while (got < 0 && errno == EBUSY);
		nr += got == i;
	}
	EXPECT(nr == 100);
	printf("given back after %.2f s\n", free_and_wait());
	size = lseek(fd, 0, SEEK_END);
	EXPECT(size == 4);
}

/* The same with eventfds, which all have one inode: where the thread had one is another's. */
static void eventfds(void)
{
	uint64_t n;

	expect_asleep(expect_thread());
	fill();
	for (int i = 3; i < 1024; i++)
		close(i);
	for (int i = 200; i < 300; i++) {
		int fd = eventfd(1, EFD_NONBLOCK), got;

		EXPECT(fd >= 0 && fd < 200);
		do
			got = dup2(fd, i);
		while (got < 0 && errno == EBUSY);
		EXPECT(got == i);
		close(fd);
	}
	printf("given back after %.2f s\n", free_and_wait());
	for (int i = 200; i < 300; i++) {
		n = 0;
		EXPECT(read(i, &n, sizeof(n)) == (ssize_t)sizeof(n) && n == 1);
	}
}

static void child_ends(pid_t pid)
{
	int status;

	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* always: the option is true, so that a child gets a thread without making one. */
static void forks(bool always)
{
	(void)expect_thread();
	for (int i = 0; i < 10; i++) {
		double before;
		int tid;
		pid_t pid;

		/* While the thread has something to do. */
		fill();
		for (int k = 0; k < NR; k++)
			free(blocks[k]);
		before = seconds();
		pid = fork();
		EXPECT(pid >= 0);
		if (pid == 0) {
			tid = background_tid();
			/* A child that wants one gets it after 100 ms, by whatever allocates then:
			 * looking does. */
			EXPECT(tid == 0 || (always && seconds() - before > 0.1));
			if (i % 5 == 0) {
				if (!always)
					make_a_thread();
				else
					usleep(150000);
				fill();
				(void)expect_thread();
				EXPECT(free_and_wait() < 2);
			}
			pb_check();
			_exit(0);
		}
		child_ends(pid);
	}
	pb_check();

}

static void *outlives(void *arg)
{
	(void)arg;
	usleep(300000);
	expect_no_thread();
	return NULL;
}

/* The process ends with its last thread, which is not ours. */
static void main_ends(void)
{
	pthread_t t;

	(void)expect_thread();
	EXPECT(pthread_create(&t, NULL, outlives, NULL) == 0);
	pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	expect_library();
	if (strcmp(mode, "none") == 0) {
		EXPECT(background_tid() == 0);
		make_a_thread();
		EXPECT(background_tid() == 0);
		return 0;
	}
	if (strcmp(mode, "forks-always") == 0) {
		forks(true);
		return 0;
	}
	if (strcmp(mode, "auto") == 0) {
		EXPECT(background_tid() == 0);
		make_a_thread();
		(void)expect_thread();
		return 0;
	}
	make_a_thread();
	if (strcmp(mode, "idle") == 0)
		idle();
	else if (strcmp(mode, "signals") == 0)
		signals();
	else if (strcmp(mode, "descriptors") == 0)
		descriptors();
	else if (strcmp(mode, "eventfds") == 0)
		eventfds();
	else if (strcmp(mode, "forks") == 0)
		forks(false);
	else if (strcmp(mode, "main-ends") == 0)
		main_ends();
	else
		return 2;
	return 0;
}
