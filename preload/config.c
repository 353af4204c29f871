/*
 * Reads PAGEBLOCK_CONF and gives shim its configuration.  Nothing here allocates, and
 * nothing needs libc to be initialised.
 */
#define _GNU_SOURCE
#include "preload/config.h"

#include "shim/shim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define VARIABLE "PAGEBLOCK_CONF"
#define CONF_MAX 4096u

static struct options options;
static bool options_ready;

uint64_t config_value(enum option_id which)
{
	return options_ready ? options.value[which] : option_info[which].standard;
}

static struct limits limits;

const struct limits *config_limits(void)
{
	return &limits;
}

static void complain(const struct text *line)
{
	text_write(line, STDERR_FILENO);
}

/* Looks for VARIABLE= in a stream of strings that end with '\0', a byte at a time. */
struct scan {
	size_t matched; /* bytes of the prefix seen in this string; SIZE_MAX: another one */
	size_t len;
	char *value; /* CONF_MAX bytes */
	bool done;
};

static void scan_byte(struct scan *s, char c)
{
	static const char prefix[] = VARIABLE "=";
	const size_t whole = sizeof(prefix) - 1;

	if (s->matched == whole) {
		s->done = c == '\0';
		if (!s->done && s->len < CONF_MAX - 1)
			s->value[s->len++] = c;
	} else if (c == '\0') {
		s->matched = 0;
	} else if (s->matched != SIZE_MAX) {
		s->matched = c == prefix[s->matched] ? s->matched + 1 : SIZE_MAX;
	}
}

static char **given_environment;

void config_set_environment(char **envp)
{
	given_environment = envp;
}

/* The variable as the process was started with, when nobody has told us yet. */
static const char *proc_environment(void)
{
	static char value[CONF_MAX];
	struct scan scan = { .value = value };
	char buffer[1024];
	int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return NULL;
	while (!scan.done && (n = read(fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n && !scan.done; i++)
			scan_byte(&scan, buffer[i]);
	}
	close(fd);
	return scan.done ? value : NULL;
}

static const char *environment(void)
{
	size_t len = strlen(VARIABLE);
	char **all = environ != NULL ? environ : given_environment;

	if (all == NULL)
		return proc_environment();
	for (char **e = all; *e != NULL; e++) {
		if (strncmp(*e, VARIABLE, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	}
	return NULL;
}

static void read_options(void)
{
	/* In a set-uid program the environment is an attacker's. */
	const char *conf = getauxval(AT_SECURE) != 0 ? NULL : environment();

	options_set_defaults(&options);
	if (conf != NULL && options_parse(&options, conf, VARIABLE, complain) > 0 &&
	    options.value[OPT_abort_conf])
		abort();
	options_ready = true;
}

/* What the shim is told of the options. */
static void make_config(struct shim_config *config)
{
	config->reserve_bytes = options.value[OPT_address_space];
	config->ready_bytes = options.value[OPT_reserve];
	config->thp_extra_percent = (unsigned)options.value[OPT_thp_extra];
	config->fork_child_purges = options.value[OPT_fork_child_purge] != 0;
	config->decay_ns = options.value[OPT_decay];
	limits_resolve(&options, &limits, complain);
	config->soft_limit_bytes = limits.soft_bytes;
	config->hard_limit_bytes = limits.hard_bytes;
	config->purge_lazily = options.value[OPT_purge] == PURGE_FREE;
	config->lingers = true;
	config->sample = options.value[OPT_prof_active] != 0;
	config->cma_bytes = options.value[OPT_cma];
	switch ((enum option_choice)options.value[OPT_thp]) {
	case THP_AUTO:
		config->thp_from_bytes = options.value[OPT_thp_from];
		break;
	case THP_ALWAYS:
		config->thp_from_bytes = 0;
		break;
	case THP_NEVER:
		config->thp_from_bytes = SIZE_MAX;
		break;
	}
}

/* One change at a time: whoever asks waits for the answer before it asks again. */
static int set_option(char *text, size_t nr_bytes)
{
	enum option_id which;
	struct text why;
	struct shim_config config;
	int err;

	why.len = 0;
	err = options_change(&options, text, &which, &why);
	if (err != 0) {
		size_t len = why.len < nr_bytes ? why.len : nr_bytes - 1;

		memcpy(text, why.bytes, len);
		text[len] = '\0';
		return err;
	}
	make_config(&config);
	shim_reconfigure(&config);
	return 0;
}

const struct shim_config *shim_config(void)
{
	static struct shim_config config;

	read_options();
	make_config(&config);
	config.set_option = set_option;
	return &config;
}
