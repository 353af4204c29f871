/*
 * What PAGEBLOCK_CONF made of the options.  Read once, by the first allocation of the
 * process, which may come before constructors and before libc has set environ.
 */
#ifndef PB_PRELOAD_CONFIG_H
#define PB_PRELOAD_CONFIG_H

#include "preload/limits.h"
#include "preload/options.h"

/*
 * The environment that the dynamic linker hands to constructors.  Ours comes before libc
 * has set environ; where it comes before the first allocation too, this saves reading
 * /proc, which may not be there.
 */
void config_set_environment(char **envp);

/* The value of an option; its default until shim_config() has run. */
uint64_t config_value(enum option_id which);

/* What the limits come to. */
const struct limits *config_limits(void);

#endif
