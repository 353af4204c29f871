/*
 * uptime [DAYS]: a service over many simulated days; what is left resident at night?
 *
 * After the accounts that users give of long-lived services (see node#56641, redis#9619,
 * ClickHouse#39614): blocks with three kinds of lives, requests (a tick or a few), sessions
 * (up to half a day) and cached items (days), under a load that rises and falls with the
 * day. What a request allocates drifts in size from day to day, so that the holes left by
 * one day rarely fit the next.
 *
 * Time is simulated: a day has 240 ticks, and at each tick what has come to its end is
 * freed. The program ends at night with the night's blocks still in use: about a sixth of
 * the day's. Stresses: fragmentation over time; resident size against live bytes.
 */
#include "workloads/support.h"

enum {
	TICKS = 240,    /* of a day */
	HORIZON = 720,  /* no life is longer, in ticks */
	REQUESTS = 300, /* at a tick, when the load is highest */
	PAGE_BYTES = 4096,
};

/* What ends at the same tick, as a list through the blocks. */
struct item {
	struct item *next;
	size_t size_bytes;
};

static struct item *ends[HORIZON + 1];

static void item_new(size_t size_bytes, size_t tick)
{
	struct item *item = malloc(size_bytes);

	if (!item)
		fail("out of memory");
	item->size_bytes = size_bytes;
	for (size_t at = PAGE_BYTES; at < size_bytes; at += PAGE_BYTES)
		((unsigned char *)item)[at] = 1;
	((unsigned char *)item)[size_bytes - 1] = (unsigned char)size_bytes;
	item->next = ends[tick % (HORIZON + 1)];
	ends[tick % (HORIZON + 1)] = item;
}

static void items_end(size_t tick)
{
	struct item *item = ends[tick % (HORIZON + 1)];

	ends[tick % (HORIZON + 1)] = NULL;
	while (item) {
		struct item *next = item->next;

		if (((unsigned char *)item)[item->size_bytes - 1] !=
		    (unsigned char)item->size_bytes)
			fail("a block in use was changed");
		free(item);
		item = next;
	}
}

/* The load in thousandths: a triangle over the day, from 100 at midnight to 1,000 at noon. */
static size_t load_at(size_t tick)
{
	size_t of_day = tick % TICKS;
	size_t to_midnight = of_day < TICKS / 2 ? of_day : TICKS - of_day;

	return 100 + 900 * to_midnight / (TICKS / 2);
}

static void tick_work(struct random *random, size_t tick)
{
	size_t day = tick / TICKS;
	size_t nr_requests = REQUESTS * load_at(tick) / 1000;

	for (size_t i = 0; i < nr_requests; i++) {
		/* A request: a few blocks, whose sizes drift by a seventh from day to day. */
		for (size_t j = 0; j < 8; j++)
			item_new(sizeof(struct item) + 1 +
					 random_log_uniform(random, 4, 11) * (7 + day % 7) / 7,
				 tick + random_between(random, 1, 4));
		if (i % 4 == 0) /* opens a session */
			item_new(random_between(random, 200, 3000),
				 tick + random_between(random, 10, TICKS / 2));
		if (i % 32 == 0) /* is cached */
			item_new(random_log_uniform(random, 8, 15),
				 tick + random_between(random, TICKS, HORIZON));
		if (i % 256 == 0) /* a large reply */
			item_new(random_log_uniform(random, 17, 21),
				 tick + random_between(random, 1, 4));
	}
	items_end(tick);
}

int main(int argc, char **argv)
{
	size_t nr_ticks = (size_t)argument_or(argc, argv, 1, 12) * TICKS;
	struct random random = random_seed(1);

	for (size_t tick = 0; tick < nr_ticks; tick++)
		tick_work(&random, tick);
	return work_done();
}
