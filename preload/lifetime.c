/* How long blocks live, said by the program; see pageblock.h. */
#include "preload/export.h"
#include "preload/pageblock.h"
#include "shim/shim.h"

#include <errno.h>

EXPORT int pb_lifetime_push(enum pb_lifetime lifetime)
{
	bool known = (unsigned)lifetime <= PB_LONG_LIVED;

	/* Pushed in any case, so that the pop that follows finds it. */
	shim_lifetime_push(known ? (unsigned)lifetime : (unsigned)PB_LIFETIME_UNKNOWN);
	if (!known)
		errno = EINVAL;
	return known ? 0 : -1;
}

EXPORT void pb_lifetime_pop(void)
{
	shim_lifetime_pop();
}
