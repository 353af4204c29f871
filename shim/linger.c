/* Slow paths that leave work for later; see linger.h. */
#include "shim/linger.h"

#include "core/work.h"
#include "shim/divert.h"
#include "shim/heap.h"

/* What is due later than that waits for a slow path: 2 s. */
#define HORIZON_NS ((uint64_t)2000 * 1000 * 1000)
#define MS ((uint64_t)1000 * 1000)
/* Coming by costs about a microsecond: 1 % of the time.  What is not used is saved for programs
 * that do a little every now and then, so that they are still diverted after it. */
#define VISITS_PER_MS 8u
#define VISITS_FIRST 512u
#define VISITS_MAX 4096u
/* The last ones are traps, which a program that does much of the same does not fall into: they
 * are still there when it has done, and does something else now and then. */
#define VISITS_TRAPS 256u

static void save_visits(struct heap *h, uint64_t now_ns)
{
	uint64_t more;

	if (h->lingered_ns == 0) {
		h->lingered_ns = now_ns;
		h->visits_left = VISITS_FIRST;
	}
	more = (now_ns - h->lingered_ns) / MS * VISITS_PER_MS;
	if (more > 0) {
		h->visits_left = (uint32_t)(more < VISITS_MAX - h->visits_left
						    ? h->visits_left + more
						    : VISITS_MAX);
		h->lingered_ns = now_ns;
	}
}

static COLD void linger(uint64_t now_ns, uint64_t next_ns)
{
	struct heap *h = heap_current;

	if (h == &heap_null || heap_is_asked(h) || next_ns > now_ns + HORIZON_NS)
		return;
	save_visits(h, now_ns);
	if (h->visits_left > VISITS_TRAPS) {
		h->visits_left--;
		divert_heap(h, DIVERT_COME_BY);
	} else if (heap_requests(h) == 0) {
		divert_trap(h, h->visits_left > 0 ? --h->visits_left % NR_TRAPS : NR_TRAPS);
	}
}

bool linger_is_due(const struct heap *h)
{
	return os_now_ns() > h->lingered_ns + VISITS_TRAPS / VISITS_PER_MS * MS;
}

void linger_init(void)
{
	work_set_linger(linger);
}
