/*
 * Verbs that change something in a process: trim, set, offline, online.
 *
 * The request is written into the process's structure (core/inspect.h), and a slow path of
 * one of its threads, or its background thread, does it.  That one is woken through the
 * socket it sleeps on, of which a duplicate is taken for the moment.  When nobody answers
 * the request is withdrawn, and the caller is told.  Askers take turns by a lock on
 * /proc/PID, which leaves nothing behind.
 */
#define _GNU_SOURCE
#include "tools/json.h"
#include "tools/reader.h"
#include "tools/snapshot.h"

#include "preload/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S ((uint64_t)1000000000)
#define ANSWER_WITHIN_NS (2 * NS_PER_S)
#define LOOK_EVERY_NS (NS_PER_S / 500)

struct ask {
	const struct verb *verb;
	struct reader reader;
	bool json;
	uint64_t within_ns; /* how long to wait until somebody takes it */
	enum inspect_request_kind kind;
	uint64_t argument, patience_ns;
	const char *text;
	struct inspect_request answer;
};

/* --- time ---------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void nap(void)
{
	struct timespec t = { .tv_nsec = LOOK_EVERY_NS };

	nanosleep(&t, NULL);
}

/* --- the request word ------------------------------------------------------------------------ */

static uint64_t request_address(const struct ask *a)
{
	return a->reader.address + offsetof(struct inspect, request);
}

static bool look(struct ask *a)
{
	return reader_read(&a->reader, request_address(a), &a->answer, sizeof(a->answer));
}

static bool write_part(struct ask *a, size_t offset, const void *from, size_t nr_bytes)
{
	struct iovec local = { (char *)(uintptr_t)from, nr_bytes };
	struct iovec remote = { (char *)(uintptr_t)request_address(a) + offset, nr_bytes };

	return process_vm_writev(a->reader.pid, &local, 1, &remote, 1, 0) == (ssize_t)nr_bytes;
}

static bool set_pending(struct ask *a, uint32_t pending)
{
	return write_part(a, offsetof(struct inspect_request, pending), &pending,
			  sizeof(pending));
}

/* The words after pending first, pending last. */
static bool write_request(struct ask *a)
{
	struct inspect_request request = {
		.number = a->answer.number + 1,
		.taken = a->answer.taken,
		.answered = a->answer.answered,
		.kind = a->kind,
		.argument = a->argument,
		.patience_ns = a->patience_ns,
	};
	size_t first = offsetof(struct inspect_request, number);

	if (a->text != NULL)
		snprintf(request.text, sizeof(request.text), "%s", a->text);
	a->answer.number = request.number;
	return write_part(a, first, (char *)&request + first, sizeof(request) - first) &&
	       set_pending(a, 1);
}

/* --- waking ------------------------------------------------------------------------------------ */

/* The background thread, if there is one and its socket is still the one it opened. */
static void wake(struct ask *a)
{
	struct reader *r = &a->reader;
	char copy[64];
	struct stat s;
	int fd;

	if (r->at.sizeof_work_waker > sizeof(copy) ||
	    !reader_read(r, reader_object(r, "waker", NULL), copy, r->at.sizeof_work_waker))
		return;
	fd = (int32_t)get(copy, r->at.work_waker_fd);
	if (fd < 0)
		return;
	fd = (int)syscall(SYS_pidfd_getfd, r->pidfd, fd, 0);
	if (fd < 0)
		return;
	if (fstat(fd, &s) == 0 && s.st_dev == get(copy, r->at.work_waker_dev) &&
	    s.st_ino == get(copy, r->at.work_waker_ino))
		(void)send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

/* --- asking -------------------------------------------------------------------------------------- */

/* Whoever asks something of this process waits here for the others to be done. */
static int take_turn(const struct ask *a, int *lock)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", (int)a->reader.pid);
	*lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *lock < 0 || flock(*lock, LOCK_EX) != 0 ? -1 : 0;
}

static int unanswered(struct ask *a, bool taken)
{
	if (taken)
		complain(a->verb,
			 "process %d has begun with it but did not end within %.1f s; it goes on",
			 (int)a->reader.pid, (double)(a->within_ns + a->patience_ns) / NS_PER_S);
	else
		complain(a->verb,
			 "process %d did not answer within %.1f s: it has not come to a slow "
			 "path meanwhile and has no background thread; nothing was changed",
			 (int)a->reader.pid, (double)a->within_ns / NS_PER_S);
	return EXIT_NO_ANSWER;
}

/* Waits for the answer to what was written; 0 or an exit status. */
static int await(struct ask *a)
{
	uint32_t number = a->answer.number;
	uint64_t until = now_ns() + a->within_ns;
	bool taken = false;

	for (;;) {
		if (!look(a))
			return reader_why(&a->reader);
		if (a->answer.answered == number)
			return 0;
		if (!taken && a->answer.taken == number) {
			taken = true;
			until += a->within_ns + a->patience_ns;
		}
		if (now_ns() >= until) {
			if (taken || a->answer.pending == 0)
				return unanswered(a, true);
			if (!set_pending(a, 0))
				return reader_why(&a->reader);
			/* Somebody may have taken it just before: one more look tells. */
			nap();
			if (!look(a))
				return reader_why(&a->reader);
			if (a->answer.taken != number)
				return unanswered(a, false);
			taken = true;
			until = now_ns() + a->within_ns + a->patience_ns;
		}
		nap();
	}
}

/* Asks and waits; 0 when it was done, a->answer.err != 0 included, else an exit status. */
static int ask(struct ask *a, pid_t pid)
{
	int lock = -1;
	int status = reader_open(&a->reader, a->verb, pid, false);

	if (status != 0)
		return status;
	if (take_turn(a, &lock) != 0 || !look(a) || !write_request(a)) {
		status = reader_why(&a->reader);
	} else {
		wake(a);
		status = await(a);
	}
	if (lock >= 0)
		close(lock);
	reader_close(&a->reader);
	a->answer.text[sizeof(a->answer.text) - 1] = '\0';
	return status;
}

/* --- arguments ------------------------------------------------------------------------------------ */

static bool parse_number(const struct verb *verb, enum option_type type, const char *text,
			 uint64_t *n)
{
	if (options_parse_number(type, text, n))
		return true;
	complain(verb, "\"%s\" is not a %s such as %s", text, options_type_name(type),
		 type == OPTION_SIZE ? "64M" : "500ms");
	return false;
}

/* The options all have in common; 0 or an exit status, and optind is at the arguments. */
static int parse_options(struct ask *a, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "within", required_argument, NULL, 'w' },
		{ "deadline", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	a->within_ns = ANSWER_WITHIN_NS;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'j')
			a->json = true;
		else if (c == 'w' && !parse_number(a->verb, OPTION_TIME, optarg, &a->within_ns))
			return EXIT_USAGE;
		else if (c == 'd' &&
			 !parse_number(a->verb, OPTION_TIME, optarg, &a->patience_ns))
			return EXIT_USAGE;
		else if (c == '?' || (c == 'd' && a->kind != INSPECT_OFFLINE &&
				      a->kind != INSPECT_TRIM))
			return usage(a->verb);
	}
	return 0;
}

/* --- answers -------------------------------------------------------------------------------------- */

static const char *why_not(const struct ask *a)
{
	switch (-a->answer.err) {
	case EBUSY:
		return "what is left is in use";
	case ETIMEDOUT:
		return "the deadline has passed";
	case ENOSYS:
		return "its library cannot do that";
	default:
		return strerror(-a->answer.err);
	}
}

/* What was done in bytes; 0 of what was wanted is a failure. */
static int report(struct ask *a, pid_t pid, const char *done)
{
	bool nothing = a->answer.err != 0 && a->answer.result == 0;
	char text[24];

	if (a->json) {
		json_object(NULL);
		json_number("pid", (uint64_t)pid);
		json_number("bytes", a->answer.result);
		json_signed("error", a->answer.err);
		json_end();
	} else if (!nothing) {
		printf("%s %s", human_bytes(text, a->answer.result), done);
		if (a->answer.err != 0)
			printf("; %s", why_not(a));
		putchar('\n');
	}
	if (nothing)
		complain(a->verb, "process %d: %s", (int)pid, why_not(a));
	return nothing ? EXIT_REFUSED : finish(a->verb);
}

/* trim, offline, online: PID and perhaps a size. */
static int verb_bytes(struct ask *a, int argc, char **argv, bool wants_size, const char *done)
{
	pid_t pid;
	int status = parse_options(a, argc, argv);

	if (status != 0)
		return status;
	if (argc - optind < 1 + wants_size || argc - optind > 2)
		return usage(a->verb);
	if (!reader_parse_pid(a->verb, argv[optind], &pid) ||
	    (argc - optind == 2 &&
	     !parse_number(a->verb, OPTION_SIZE, argv[optind + 1], &a->argument)))
		return EXIT_USAGE;
	if (a->kind == INSPECT_OFFLINE && (a->argument == 0 || a->argument % BLOCK_BYTES != 0)) {
		complain(a->verb, "\"%s\" is not a multiple of 2M", argv[optind + 1]);
		return EXIT_USAGE;
	}
	status = ask(a, pid);
	return status != 0 ? status : report(a, pid, done);
}

int verb_trim(const struct verb *verb, int argc, char **argv)
{
	struct ask a = { .verb = verb, .kind = INSPECT_TRIM };

	return verb_bytes(&a, argc, argv, false, "given back");
}

int verb_offline(const struct verb *verb, int argc, char **argv)
{
	struct ask a = { .verb = verb, .kind = INSPECT_OFFLINE };

	return verb_bytes(&a, argc, argv, true, "taken out of use");
}

int verb_online(const struct verb *verb, int argc, char **argv)
{
	struct ask a = { .verb = verb, .kind = INSPECT_ONLINE, .argument = UINT64_MAX };

	return verb_bytes(&a, argc, argv, false, "back in use");
}

/* What this program's own version of the library would refuse is not even asked. */
static int check_option(struct ask *a, pid_t pid)
{
	enum option_id which;
	struct options o;
	struct text why;
	int status = reader_open(&a->reader, a->verb, pid, false);

	if (status != 0)
		return status;
	options_set_defaults(&o);
	why.len = 0;
	if (strcmp(a->reader.header.release, PB_VERSION) == 0 &&
	    options_change(&o, a->text, &which, &why) != 0) {
		complain(a->verb, "process %d: %.*s", (int)pid, (int)why.len, why.bytes);
		status = EXIT_REFUSED;
	}
	reader_close(&a->reader);
	return status;
}

int verb_set(const struct verb *verb, int argc, char **argv)
{
	struct ask a = { .verb = verb, .kind = INSPECT_SET };
	pid_t pid;
	int status = parse_options(&a, argc, argv);

	if (status != 0)
		return status;
	if (argc - optind != 2)
		return usage(verb);
	if (!reader_parse_pid(verb, argv[optind], &pid))
		return EXIT_USAGE;
	a.text = argv[optind + 1];
	if (strlen(a.text) >= INSPECT_TEXT_BYTES) {
		complain(verb, "\"%.32s...\" is too long", a.text);
		return EXIT_USAGE;
	}
	status = check_option(&a, pid);
	if (status == 0)
		status = ask(&a, pid);
	if (status != 0)
		return status;
	if (a.json) {
		json_object(NULL);
		json_number("pid", (uint64_t)pid);
		json_string("set", a.text);
		json_signed("error", a.answer.err);
		json_end();
	}
	if (a.answer.err != 0) {
		complain(verb, "process %d: %s", (int)pid,
			 a.answer.err == -ENOSYS ? why_not(&a) : a.answer.text);
		return EXIT_REFUSED;
	}
	return finish(verb);
}
