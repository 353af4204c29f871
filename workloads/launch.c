/*
 * launch [-t SECONDS] [-e NAME=VALUE] [-x] REPORT PROGRAM [ARGUMENT..]
 *
 * Runs a program once and writes what it took to the file REPORT:
 *
 *   run STATUS WALL_NS USER_US SYSTEM_US PEAK_KIB MINOR_FAULTS MAJOR_FAULTS TICKS_PER_S
 *   process NAME RESIDENT_KIB ANONYMOUS_KIB PEAK_KIB   (only with -x, one line for each
 * process)
 *
 * The figures are of the program and of all processes it waited for, PEAK_KIB of the largest
 * of them; TICKS_PER_S is the rate of the clock of ticks.h. STATUS is the exit status, 128 plus the signal that ended the program, or "timeout".
 *
 * Why a program of its own: the kernel hands the peak resident size of a process on to what
 * it executes, so that a child of a large interpreter never seems smaller than that. This
 * one is small: measured, the floor it sets is below that of /bin/true. The variable given
 * by -e is set for the program alone, not for this one.
 *
 * With -x every process started is traced, and its memory map is read when it exits. That is
 * exact, where the kernel's counters (PEAK_KIB) may lag by some pages, but it slows the
 * program down: time is not to be measured together with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "workloads/ticks.h"

static volatile sig_atomic_t program_group;
static volatile sig_atomic_t timed_out;

_Noreturn static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void kill_program(void)
{
	if (program_group > 0)
		kill(-(pid_t)program_group, SIGKILL);
}

static void on_alarm(int signal_number)
{
	(void)signal_number;
	timed_out = 1;
	kill_program();
}

/* The program is in a process group of its own and does not hear the terminal. */
static void on_interrupt(int signal_number)
{
	kill_program();
	_exit(128 + signal_number);
}

static uint64_t timeval_us(struct timeval time)
{
	return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec;
}

/* The number after "key" at the start of a line of /proc/PID/file; 0 if there is none. */
static unsigned long proc_number(pid_t pid, const char *file, const char *key)
{
	char path[64], line[256];
	unsigned long number = 0;
	FILE *stream;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	stream = fopen(path, "re");
	if (!stream)
		return 0;
	while (fgets(line, sizeof(line), stream))
		if (!strncmp(line, key, strlen(key))) {
			number = strtoul(line + strlen(key), NULL, 10);
			break;
		}
	fclose(stream);
	return number;
}

static void report_process(FILE *report, pid_t pid)
{
	char path[64], name[32] = "?";
	FILE *stream;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	stream = fopen(path, "re");
	if (stream) {
		if (!fgets(name, sizeof(name), stream))
			name[0] = '\0';
		fclose(stream);
	}
	name[strcspn(name, "\n")] = '\0';
	for (char *at = name; *at; at++)
		if (*at == ' ')
			*at = '_';
	fprintf(report, "process %s %lu %lu %lu\n", name,
		proc_number(pid, "smaps_rollup", "Rss:"),
		proc_number(pid, "smaps_rollup", "Anonymous:"),
		proc_number(pid, "status", "VmHWM:"));
}

/* Lets all traced processes run to their ends; returns the wait status of the first. */
static int trace_to_end(FILE *report, pid_t program, struct rusage *usage)
{
	const long options = PTRACE_O_TRACEEXIT | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
			     PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	int program_status = 0;
	int status;
	struct rusage one;
	pid_t pid;

	while ((pid = wait4(-1, &status, __WALL, &one)) > 0 || errno == EINTR) {
		int deliver = 0;

		if (pid <= 0)
			continue;
		if (!WIFSTOPPED(status)) {
			if (pid == program) {
				program_status = status;
				*usage = one;
			}
			continue;
		}
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
			report_process(report, pid);
		else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP &&
			 WSTOPSIG(status) != SIGTRAP)
			deliver = WSTOPSIG(status);
		ptrace(PTRACE_SETOPTIONS, pid, NULL, options);
		ptrace(PTRACE_CONT, pid, NULL, (long)deliver);
	}
	return program_status;
}

_Noreturn static void become_program(char *variable, bool traced, char **arguments)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	setpgid(0, 0);
	if (variable && putenv(variable))
		fail("putenv");
	if (traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		fail("ptrace");
	execvp(arguments[0], arguments);
	fail(arguments[0]);
}

int main(int argc, char **argv)
{
	bool traced = false;
	char *variable = NULL;
	unsigned limit_s = 0;
	int status = 0;
	struct rusage usage = {0};
	uint64_t start_ns, wall_ns, start_ticks, nr_ticks;
	FILE *report;
	pid_t pid;

	for (int option; (option = getopt(argc, argv, "+t:e:x")) != -1;)
		if (option == 't')
			limit_s = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'e')
			variable = optarg;
		else if (option == 'x')
			traced = true;
		else
			return 2;
	if (argc - optind < 2) {
		fputs("usage: launch [-t SECONDS] [-e NAME=VALUE] [-x] REPORT PROGRAM ..\n",
		      stderr);
		return 2;
	}
	report = fopen(argv[optind], "we");
	if (!report)
		fail(argv[optind]);
	signal(SIGALRM, on_alarm);
	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);

	start_ns = ticks_clock_ns();
	start_ticks = ticks_now();
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		become_program(variable, traced, argv + optind + 1);
	setpgid(pid, pid);
	program_group = pid;
	alarm(limit_s);
	if (traced)
		status = trace_to_end(report, pid, &usage);
	else
		while (wait4(pid, &status, 0, &usage) < 0)
			if (errno != EINTR)
				fail("wait4");
	wall_ns = ticks_clock_ns() - start_ns;
	nr_ticks = ticks_now() - start_ticks;

	fputs("run ", report);
	if (timed_out)
		fputs("timeout", report);
	else
		fprintf(report, "%d",
			WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	fprintf(report, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %ld %ld %ld %.0f\n", wall_ns,
		timeval_us(usage.ru_utime), timeval_us(usage.ru_stime), usage.ru_maxrss,
		usage.ru_minflt, usage.ru_majflt, (double)nr_ticks * 1e9 / (double)wall_ns);
	if (fclose(report))
		fail(argv[optind]);
	return 0;
}
