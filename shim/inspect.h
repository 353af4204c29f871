/* What the shim shows to readers outside of the process, and does for them. */
#ifndef PB_SHIM_INSPECT_H
#define PB_SHIM_INSPECT_H

#include "shim/shim.h"

/* Once, when all is set up; the config stays valid. */
void inspect_shim(const struct shim_config *config);

#endif
