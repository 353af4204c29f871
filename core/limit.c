/*
 * Limits on the memory of all spans: pages that are handed out and free ones that may be
 * resident.  The metadata beside it, less than 1 %, is not counted.
 *
 * Above the soft limit nothing waits for its decay, and the layer above is told so that it
 * gives up what it caches.  Past the hard limit a request fails, once that and purging have
 * not helped.  Both are one comparison where pages leave the zone.
 *
 * Not guaranteed: that what is above the soft limit can be given back.
 */
#include "core/work.h"
#include "core/zone.h"

static uint64_t to_pages(size_t nr_bytes)
{
	return nr_bytes == 0 ? UINT64_MAX : nr_bytes / PAGE_BYTES;
}

void limit_set_locked(const struct core_config *config)
{
	zone.config.soft_limit_bytes = config->soft_limit_bytes;
	zone.config.hard_limit_bytes = config->hard_limit_bytes;
	zone.soft_pages = to_pages(config->soft_limit_bytes);
	zone.hard_pages = to_pages(config->hard_limit_bytes);
}

void limit_soft_hit_locked(void)
{
	zone.soft_hits++;
	purge_soon();
	if (zone.config.pressed != NULL)
		zone.config.pressed();
}

bool limit_make_room(size_t nr_pages)
{
	bool fits;

	zone_lock();
	fits = limit_fits_locked(nr_pages);
	zone_unlock();
	if (fits)
		return true;
	pcp_drain_all();
	(void)purge_all();
	zone_lock();
	fits = limit_fits_locked(nr_pages);
	zone.hard_hits += !fits;
	zone_unlock();
	return fits;
}
