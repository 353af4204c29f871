/*
 * The structure of inspect.h, core's part of what it shows, and requests from outside.
 *
 * Objects and tables are only ever added, and never change.
 */
#include "core/inspect.h"

#include "core/isolate.h"
#include "core/span.h"
#include "core/zone.h"

#include <errno.h>
#include <string.h>

__attribute__((visibility("default"))) struct inspect pb_inspect = {
	.magic = { 'p', 'b', 'i', 'n', 's', 'p', 'c', 't' },
	.version = INSPECT_VERSION,
	.size = sizeof(struct inspect),
	.release = PB_VERSION,
};

/* --- what is shown ------------------------------------------------------------------ */

/* A place in an array; what makes it valid is written into it last. */
static uint32_t claim(_Atomic uint32_t *nr, uint32_t most)
{
	/* Relaxed: only that each gets another place. */
	uint32_t place = atomic_fetch_add_explicit(nr, 1, memory_order_relaxed);

	CHECK(place < most);
	return place;
}

void inspect_show(const char *name, const void *address, size_t size)
{
	struct inspect_object *object =
		&pb_inspect.objects[claim(&pb_inspect.nr_objects, INSPECT_OBJECTS_MAX)];
	size_t len = strlen(name);

	CHECK(len < INSPECT_NAME_BYTES);
	memcpy(object->name, name, len + 1);
	object->address = (uintptr_t)address;
	/* Release: for the reader outside, for whom an object without size is none yet. */
	atomic_store_explicit(&object->size, size, memory_order_release);
}

void inspect_describe(const struct inspect_item *items, size_t nr_items)
{
	struct inspect_table *table =
		&pb_inspect.tables[claim(&pb_inspect.nr_tables, INSPECT_TABLES_MAX)];

	table->items = (uintptr_t)items;
	/* Release: as in inspect_show(). */
	atomic_store_explicit(&table->nr_items, nr_items, memory_order_release);
}

static const struct inspect_item core_items[] = {
#define TYPE INSPECT_ITEM_TYPE
#define FIELD INSPECT_ITEM_FIELD
#define CONSTANT INSPECT_ITEM_CONSTANT
#include "core/inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
};

void inspect_core(void)
{
	inspect_describe(core_items, sizeof(core_items) / sizeof(core_items[0]));
	inspect_show("zone", &zone, sizeof(zone));
	inspect_show("waker", &work_waker, sizeof(work_waker));
	inspect_show("spans", span_at(0), SPANS_MAX * sizeof(struct span));
	pcp_inspect();
}

/* --- requests ------------------------------------------------------------------------ */

static int (*request_handler)(struct inspect_request *request);

void inspect_set_handler(int (*handler)(struct inspect_request *request))
{
	request_handler = handler;
}

COLD void inspect_answer(void)
{
	struct inspect_request *request = &pb_inspect.request;
	int saved = errno;
	uint32_t number;

	/* Acquire: the asker wrote what is asked before it. */
	if (atomic_exchange_explicit(&request->pending, 0, memory_order_acquire) == 0)
		return;
	number = request->number;
	/* Relaxed: tells the asker to go on waiting, no more. */
	atomic_store_explicit(&request->taken, number, memory_order_relaxed);
	request->result = 0;
	request->err = request_handler == NULL ? -ENOSYS : request_handler(request);
	/* Release: the asker reads this first, and then the result. */
	atomic_store_explicit(&request->answered, number, memory_order_release);
	errno = saved;
}

void inspect_fork_child(void)
{
	/* Relaxed: there is one thread. */
	atomic_store_explicit(&pb_inspect.request.pending, 0, memory_order_relaxed);
}
