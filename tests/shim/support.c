/* See support.h. */
#define _GNU_SOURCE
#include "tests/shim/support.h"

#include "shim/classes.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- what the shim asks of its user -------------------------------------------------- */

struct shim_config test_config = {
	.reserve_bytes = (size_t)64 << 30,
	.decay_ns = 2000000, /* short, so that memory is purged under the tests */
	.thp_from_bytes = SIZE_MAX,
};

const struct shim_config *shim_config(void)
{
	return &test_config;
}

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void thread_ends(void *unused)
{
	(void)unused;
	shim_thread_exit();
}

static void make_thread_key(void)
{
	if (pthread_key_create(&thread_key, thread_ends) != 0)
		abort();
}

void shim_thread_started(void)
{
	pthread_once(&thread_key_once, make_thread_key);
	(void)pthread_setspecific(thread_key, &thread_key);
}

/* --- failing ------------------------------------------------------------------------- */

/* How to do it again; empty when the test is the same every time. */
static char repeat[256];
/* In a child of a test the framework is not asked: it belongs to the parent. */
static bool in_child;

static void write_repeat(void)
{
	os_write_stderr(repeat, strlen(repeat));
}

#if UNDER_TSAN || UNDER_ASAN
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

/* Also when it is the shim or the hardware that stops the test. */
static void on_death(int sig)
{
	(void)sig;
	write_repeat();
	/* The handler is gone (SA_RESETHAND): what comes back to it ends the process. */
	if (sig == SIGABRT)
		raise(sig);
}

static void catch_deaths(void)
{
	struct sigaction action = {.sa_handler = on_death, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGABRT, &action, NULL);
#if UNDER_TSAN || UNDER_ASAN
	__sanitizer_set_death_callback(write_repeat);
#else
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
#endif
}

void expect_failed(const char *file, int line, const char *cond, const char *format, ...)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "%s:%d: %s: ", file, line, cond);
	va_list args;

	va_start(args, format);
	if (len >= 0 && (size_t)len < sizeof(text))
		(void)vsnprintf(text + len, sizeof(text) - (size_t)len, format, args);
	va_end(args);
#if !UNDER_TSAN
	if (gettid() == getpid() && !in_child) {
		write_repeat();
		cr_assert_fail("%s", text);
	}
#endif
	fprintf(stderr, "%s\n", text);
	abort();
}

/* --- children ------------------------------------------------------------------------ */

static pid_t fork_quietly(int stderr_to, void (*fn)(void *), void *arg)
{
	const struct rlimit none = {0, 0};
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	in_child = true;
	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	if (stderr_to >= 0)
		dup2(stderr_to, STDERR_FILENO);
	fn(arg);
	_exit(0);
}

int run_in_child(void (*fn)(void *), void *arg)
{
	pid_t pid = fork_quietly(-1, fn, arg);
	int status = 0;

	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid, "fork or wait failed");
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

bool dies_saying(void (*fn)(void *), void *arg, const char *text)
{
	char said[1024];
	size_t len = 0;
	int ends[2], status = 0;
	ssize_t n;
	pid_t pid;

	EXPECT(pipe(ends) == 0, "no pipe");
	pid = fork_quietly(ends[1], fn, arg);
	close(ends[1]);
	while (len < sizeof(said) - 1 && (n = read(ends[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(ends[0]);
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid, "fork or wait failed");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, text) != NULL)
		return true;
	fprintf(stderr, "expected abort and \"%s\", got status 0x%x and \"%s\"\n", text,
		(unsigned)status, said);
	return false;
}

/* --- randomness ---------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t rng_next(struct rng *r)
{
	return mix(r->state += 0x9e3779b97f4a7c15u);
}

size_t rng_size(struct rng *r, size_t max)
{
	size_t magnitude = (size_t)1 << rng_below(r, log2_floor(max) + 2);

	return rng_below(r, magnitude < max ? magnitude + 1 : max + 1);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}

uint64_t seed_begin(const char *filter, uint64_t nr_ops)
{
	uint64_t fresh = mix(os_now_ns() ^ (uint64_t)getpid() << 32) & 0xffffffff;
	uint64_t seed = from_environment("PB_SEED", fresh);

	snprintf(repeat, sizeof(repeat),
		 "to repeat: PB_SEED=%llu PB_OPS=%llu %s --filter '%s'\n",
		 (unsigned long long)seed, (unsigned long long)nr_ops, TEST_BINARY, filter);
	catch_deaths();
	return seed;
}

uint64_t nr_ops_of(uint64_t usual)
{
	return from_environment("PB_OPS", usual / SLOWNESS);
}

/* --- blocks -------------------------------------------------------------------------- */

/* Past this many bytes the pattern has gaps, yet touches every page in several places. */
#define DENSE_BYTES ((size_t)16384)
#define GAP_WORDS 61u

static uint64_t pattern_base(const struct block *b)
{
	return mix((uintptr_t)b->p ^ b->tag << 48 ^ b->tag >> 16);
}

static size_t next_word(const struct block *b, size_t i)
{
	return b->filled <= DENSE_BYTES || i < 64 ? i + 1 : i + GAP_WORDS;
}

void block_fill(struct block *b, size_t nr_bytes, uint64_t tag)
{
	uint64_t *words = (uint64_t *)(void *)b->p;
	uint64_t base;

	b->filled = nr_bytes;
	b->tag = tag;
	base = pattern_base(b);
	for (size_t i = 0; i < nr_bytes / 8; i = next_word(b, i))
		words[i] = base + i;
	for (size_t at = nr_bytes & ~(size_t)7; at < nr_bytes; at++)
		b->p[at] = (unsigned char)(base >> (at % 8 * 8));
}

void block_verify(const struct block *b, const unsigned char *p, size_t nr_bytes)
{
	const uint64_t *words = (const uint64_t *)(const void *)p;
	uint64_t base = pattern_base(b);

	for (size_t i = 0; i < nr_bytes / 8; i = next_word(b, i)) {
		EXPECT(words[i] == base + i,
		       "block of %zu bytes at %p (now %p): word %zu is 0x%llx", b->size,
		       (const void *)b->p, (const void *)p, i, (unsigned long long)words[i]);
	}
	for (size_t at = nr_bytes & ~(size_t)7; at < nr_bytes && nr_bytes == b->filled; at++) {
		EXPECT(p[at] == (unsigned char)(base >> (at % 8 * 8)),
		       "block of %zu bytes at %p: byte %zu is 0x%x", b->size,
		       (const void *)b->p, at, p[at]);
	}
}

void block_free(struct block *b)
{
	block_verify(b, b->p, b->filled);
	shim_free(b->p);
	b->p = NULL;
}

bool is_zero(const unsigned char *p, size_t nr_bytes)
{
	const uint64_t *words = (const uint64_t *)(const void *)p;

	for (size_t i = 0; i < nr_bytes / 8; i++) {
		if (words[i] != 0)
			return false;
	}
	for (size_t at = nr_bytes & ~(size_t)7; at < nr_bytes; at++) {
		if (p[at] != 0)
			return false;
	}
	return true;
}

/* --- the rest ------------------------------------------------------------------------ */

struct shim_stats stats_now(void)
{
	struct shim_stats stats;

	shim_stats_read(&stats);
	return stats;
}

void expect_nothing_kept(void)
{
	struct shim_stats stats;

	(void)shim_trim();
	shim_check();
	stats = stats_now();
	EXPECT(stats.slab_bytes == 0, "%llu bytes of slabs are left, %llu of them free",
	       (unsigned long long)stats.slab_bytes, (unsigned long long)stats.slab_free_bytes);
	EXPECT(stats.large_bytes == 0, "%llu bytes of page runs are left",
	       (unsigned long long)stats.large_bytes);
	EXPECT(stats.live_bytes == 0, "%llu bytes count as live",
	       (unsigned long long)stats.live_bytes);
	EXPECT(stats.dirty_free_bytes == 0, "%llu free bytes may be resident",
	       (unsigned long long)stats.dirty_free_bytes);
}

void thread_start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	int err = pthread_create(thread, NULL, fn, arg);

	EXPECT(err == 0, "pthread_create: %d", err);
}

void thread_join(pthread_t thread)
{
	int err = pthread_join(thread, NULL);

	EXPECT(err == 0, "pthread_join: %d", err);
}

void on_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	thread_start(&thread, fn, arg);
	thread_join(thread);
}
