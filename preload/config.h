/*
 * What PAGEBLOCK_CONF made of the options.  Read once, by the first allocation of the
 * process, which may come before constructors and before libc has set environ.
 */
#ifndef PB_PRELOAD_CONFIG_H
#define PB_PRELOAD_CONFIG_H

#include "preload/options.h"

/* The value of an option; its default until shim_config() has run. */
uint64_t config_value(enum option_id which);

#endif
