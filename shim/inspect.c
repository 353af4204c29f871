/* The shim's part of what core/inspect.h shows, and what can be asked for from outside. */
#include "shim/inspect.h"

#include "shim/heap.h"
#include "shim/sample.h"
#include "shim/shim.h"
#include "shim/slab.h"

#include <errno.h>

static const struct inspect_item items[] = {
#define TYPE INSPECT_ITEM_TYPE
#define FIELD INSPECT_ITEM_FIELD
#define CONSTANT INSPECT_ITEM_CONSTANT
#include "shim/inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
};

static int (*set_option)(char *text, size_t nr_bytes);

/* When an asker's patience ends; 0: it has none. */
static uint64_t deadline_of(const struct inspect_request *request)
{
	return request->patience_ns == 0 ? 0 : os_now_ns() + request->patience_ns;
}

static int offline(struct inspect_request *request)
{
	int err;

	request->result = shim_offline((size_t)request->argument, deadline_of(request), &err);
	return err;
}

static int answer(struct inspect_request *request)
{
	switch (request->kind) {
	case INSPECT_TRIM:
		request->result = request->argument == 0 && request->patience_ns == 0
					  ? shim_trim()
					  : shim_reclaim(request->argument == 0
								 ? SIZE_MAX
								 : (size_t)request->argument,
							 deadline_of(request));
		return 0;
	case INSPECT_OFFLINE:
		return offline(request);
	case INSPECT_ONLINE:
		request->result = shim_online((size_t)request->argument);
		return 0;
	case INSPECT_SET:
		if (set_option == NULL)
			return -ENOSYS;
		request->text[sizeof(request->text) - 1] = '\0';
		return set_option(request->text, sizeof(request->text));
	default:
		return -ENOSYS;
	}
}

void inspect_shim(const struct shim_config *config)
{
	set_option = config->set_option;
	inspect_describe(items, sizeof(items) / sizeof(items[0]));
	inspect_show("class_info", class_info, sizeof(class_info));
	inspect_show("arena_table", &arena_table, sizeof(arena_table));
	heap_inspect();
	sample_inspect();
	inspect_set_handler(answer);
}
