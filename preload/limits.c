/* What soft_limit and hard_limit come to; see limits.h. */
#include "preload/limits.h"

#include "preload/cgroup.h"

#include <errno.h>
#include <sys/sysinfo.h>

/* A program does not start with less. */
#define LEAST_BYTES ((uint64_t)4 << 20)
/* Without a percentage. */
#define CGROUP_PERCENT 90u

static uint64_t machine_bytes(void)
{
	int saved = errno;
	struct sysinfo info;
	uint64_t bytes = UINT64_MAX;

	if (sysinfo(&info) == 0)
		bytes = (uint64_t)info.totalram * info.mem_unit;
	errno = saved;
	return bytes;
}

/* "pageblock: NAME:VALUE WHY" */
static void say(enum option_id which, uint64_t value, const char *why,
		void (*complain)(const struct text *line))
{
	struct text line = {.len = 0};

	text_string(&line, "pageblock: ");
	text_string(&line, option_info[which].name);
	text_char(&line, ':');
	options_text_value(&line, which, value);
	text_string(&line, why);
	text_end_line(&line);
	complain(&line);
}

struct bases {
	uint64_t machine, cgroup;
	bool failed;
};

static uint64_t in_bytes(enum option_id which, uint64_t value, const struct bases *bases,
			 void (*complain)(const struct text *line))
{
	uint64_t percent = value & ~OPTION_IN_PERCENT;
	uint64_t base = bases->cgroup != UINT64_MAX ? bases->cgroup : bases->machine;

	if (value == 0)
		return 0;
	if ((value & OPTION_IN_PERCENT) == 0) {
		if (value > bases->machine) {
			say(which, value, " is more than the machine has; there is no such limit",
			    complain);
			return 0;
		}
	} else {
		if (bases->failed && bases->cgroup == UINT64_MAX)
			say(which, value,
			    ": the cgroup's limit cannot be read; taken of the machine's memory",
			    complain);
		value = base / 100 * percent;
	}
	if (value < LEAST_BYTES) {
		say(which, value, " is too little for any program; there is no such limit",
		    complain);
		return 0;
	}
	return value;
}

void limits_resolve(const struct options *options, struct limits *limits,
		    void (*complain)(const struct text *line))
{
	uint64_t soft = options->value[OPT_soft_limit], hard = options->value[OPT_hard_limit];
	struct bases bases = {.cgroup = UINT64_MAX};

	*limits = (struct limits){.cgroup_percent = CGROUP_PERCENT};
	if ((soft | hard) == 0)
		return;
	bases.machine = machine_bytes();
	if (((soft | hard) & OPTION_IN_PERCENT) != 0) {
		struct cgroup cgroup;

		cgroup_find(&cgroup);
		bases.cgroup = cgroup.limit_bytes;
		bases.failed = cgroup.failed;
		/* A limit above what there is bounds nothing. */
		if (bases.cgroup != UINT64_MAX && bases.cgroup > bases.machine)
			bases.cgroup = bases.machine;
	}
	if ((soft & OPTION_IN_PERCENT) != 0)
		limits->cgroup_percent = (unsigned)(soft & ~OPTION_IN_PERCENT);
	limits->soft_bytes = in_bytes(OPT_soft_limit, soft, &bases, complain);
	limits->hard_bytes = in_bytes(OPT_hard_limit, hard, &bases, complain);
	if (limits->hard_bytes != 0 && limits->soft_bytes > limits->hard_bytes) {
		say(OPT_soft_limit, soft, " is above the hard limit, which counts for both",
		    complain);
		limits->soft_bytes = limits->hard_bytes;
	}
}
