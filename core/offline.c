/*
 * Taking blocks out of use, and back.
 *
 * An offline block is an isolated one that is wholly free, given back to the system and
 * owned by ISOLATE_OFFLINE; it is counted as offline and as nothing else.  Blocks that are
 * wholly free go first, resident ones before clean ones, then the emptiest others,
 * isolated, vacated by the layer above and waited for.  A block goes back as a whole,
 * and by the purge's own way, so that a purge that runs meanwhile does not meet it (R11).
 *
 * Invariants: core_check().  Not guaranteed: that the span does not grow instead.
 * Offline blocks bound nothing, they only are not used.
 */
#include "core/index.h"
#include "core/isolate.h"
#include "core/span.h"
#include "core/zone.h"

#include <errno.h>

/* Blocks that are waited for at a time. */
#define WAIT_BLOCKS 64u
#define SCAN_BLOCKS 64u

/* The types in the order in which their blocks are asked to vacate. */
static const enum migratetype by_ease[] = {MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE,
					   MIGRATE_UNMOVABLE};
#define NR_BY_EASE (sizeof(by_ease) / sizeof(by_ease[0]))

/* --- giving isolated blocks back ---------------------------------------------------------- */

/* Makes an isolated block offline if it is ready, else opens it. */
static bool settle_locked(struct pageblock *block)
{
	if (!pageblock_whole(block) || block->nr_dirty != 0) {
		isolate_unmark_locked(block);
		return false;
	}
	isolate_rename_locked(block, ISOLATE_OFFLINE);
	zone.isolated_free_pages -= PAGEBLOCK_PAGES;
	zone.offline_pages += PAGEBLOCK_PAGES;
	return true;
}

/* Gives blocks back that are wholly free and isolated by the caller; how many went. */
static size_t give_back(struct pageblock **blocks, unsigned nr)
{
	size_t done = 0;

	ASSERT(nr <= PURGE_BATCH_BLOCKS);
	PAUSE(OFFLINE_MARKED);
	purge_isolated(blocks, nr);
	PAUSE(OFFLINE_PURGED);
	zone_lock();
	for (unsigned i = 0; i < nr; i++)
		done += settle_locked(blocks[i]);
	zone_unlock();
	return done;
}

/* --- blocks that are free ----------------------------------------------------------------- */

static struct pageblock *any_whole(void)
{
	for (unsigned dirty = 2; dirty-- > 0;)
		for (unsigned i = 0; i < NR_BY_EASE; i++) {
			struct pageblock *block = index_whole(by_ease[i], dirty != 0);

			if (block != NULL)
				return block;
		}
	return NULL;
}

static size_t offline_whole(size_t nr_blocks, uint32_t owner)
{
	size_t done = 0;

	while (done < nr_blocks) {
		struct pageblock *blocks[PURGE_BATCH_BLOCKS];
		struct pageblock *block;
		unsigned nr = 0;
		size_t went;

		zone_lock();
		while (nr < PURGE_BATCH_BLOCKS && nr < nr_blocks - done &&
		       (block = any_whole()) != NULL) {
			isolate_mark_locked(block, owner);
			blocks[nr++] = block;
		}
		zone_unlock();
		went = give_back(blocks, nr);
		done += went;
		/* No more, or the system refuses. */
		if (nr == 0 || went < nr)
			break;
	}
	return done;
}

/* --- blocks that are in use --------------------------------------------------------------- */

/* Blocks that are isolated and waited for. */
struct waiting {
	uint32_t owner;
	unsigned nr;
	struct pageblock *blocks[WAIT_BLOCKS];
};

static void end_vacate(const struct pageblock *block)
{
	if (zone.config.vacate_end != NULL)
		zone.config.vacate_end(block->pfn, PAGEBLOCK_PAGES);
}

/* Isolates one more, the emptiest of its type; NULL: there is none. */
static struct pageblock *wait_for_one(struct waiting *waiting)
{
	struct pageblock *block = NULL;

	zone_lock();
	for (unsigned i = 0; i < NR_BY_EASE + NR_KINDS - 1 && block == NULL; i++) {
		block = index_emptiest(i < NR_BY_EASE
					       ? by_ease[i]
					       : index_group(MIGRATE_UNMOVABLE,
							     (unsigned)(i - NR_BY_EASE) + 1),
				       0);
		if (block != NULL && !isolate_possible_locked(block))
			block = NULL;
	}
	if (block != NULL) {
		isolate_mark_locked(block, waiting->owner);
		waiting->blocks[waiting->nr++] = block;
	}
	zone_unlock();
	return block;
}

/* Takes one that has become free out of those waited for; NULL: none has. */
static struct pageblock *one_vacated(struct waiting *waiting)
{
	struct pageblock *block = NULL;

	zone_lock();
	for (unsigned i = 0; i < waiting->nr && block == NULL; i++) {
		if (!pageblock_whole(waiting->blocks[i]))
			continue;
		block = waiting->blocks[i];
		waiting->blocks[i] = waiting->blocks[--waiting->nr];
	}
	zone_unlock();
	return block;
}

/* Opens those that are still waited for. */
static void give_up(struct waiting *waiting)
{
	zone_lock();
	for (unsigned i = 0; i < waiting->nr; i++)
		isolate_unmark_locked(waiting->blocks[i]);
	zone_unlock();
	while (waiting->nr > 0)
		end_vacate(waiting->blocks[--waiting->nr]);
}

static size_t offline_used(size_t nr_blocks, uint32_t owner, uint64_t deadline_ns)
{
	struct waiting waiting = {.owner = owner};
	struct pageblock *block;
	unsigned naps = 0;
	size_t done = 0;

	while (done < nr_blocks) {
		while (waiting.nr < WAIT_BLOCKS && waiting.nr < nr_blocks - done) {
			block = wait_for_one(&waiting);
			if (block == NULL)
				break;
			if (zone.config.vacate != NULL)
				(void)zone.config.vacate(block->pfn, PAGEBLOCK_PAGES,
							 deadline_ns);
		}
		while ((block = one_vacated(&waiting)) != NULL) {
			done += give_back(&block, 1);
			end_vacate(block);
			naps = 0;
		}
		if (os_now_ns() >= deadline_ns)
			break;
		os_nap(naps++);
	}
	give_up(&waiting);
	return done;
}

/* --- the interface ------------------------------------------------------------------------ */

size_t offline_pages(size_t nr_pages, uint64_t deadline_ns, int *err)
{
	size_t nr_blocks = nr_pages / PAGEBLOCK_PAGES;
	size_t done = 0;
	int status = 0;

	if (nr_pages == 0 || nr_pages % PAGEBLOCK_PAGES != 0)
		status = -EINVAL;
	else if (deadline_ns != 0 && os_now_ns() >= deadline_ns)
		status = -ETIMEDOUT;
	if (status == 0) {
		uint32_t owner = isolate_owner_core();

		done = offline_whole(nr_blocks, owner);
		if (done < nr_blocks) {
			pcp_drain_all();
			done += offline_whole(nr_blocks - done, owner);
		}
		if (done < nr_blocks && deadline_ns != 0) {
			pcp_disable();
			done += offline_used(nr_blocks - done, owner, deadline_ns);
			pcp_enable();
		}
		if (done < nr_blocks)
			status = deadline_ns != 0 ? -ETIMEDOUT : -EBUSY;
	}
	if (err != NULL)
		*err = status;
	return done * PAGEBLOCK_PAGES;
}

/* Opens up to nr offline blocks among SCAN_BLOCKS from this one on; how many. */
static size_t online_some(struct span *span, size_t from, size_t nr)
{
	size_t end = span_committed(span);
	size_t done = 0;

	if (end > from + SCAN_BLOCKS)
		end = from + SCAN_BLOCKS;
	zone_lock();
	for (size_t i = from; i < end && done < nr; i++) {
		struct pageblock *block = &span->blocks[i];

		if (block->owner != ISOLATE_OFFLINE)
			continue;
		zone.offline_pages -= PAGEBLOCK_PAGES;
		zone.isolated_free_pages += PAGEBLOCK_PAGES;
		isolate_unmark_locked(block);
		done++;
	}
	zone_unlock();
	return done;
}

size_t online_pages(size_t nr_pages)
{
	size_t nr_blocks = nr_pages / PAGEBLOCK_PAGES;
	unsigned nr_spans = span_count();
	size_t done = 0;

	for (unsigned i = 0; i < nr_spans; i++) {
		struct span *span = span_at(i);

		for (size_t k = 0; k < span_committed(span) && done < nr_blocks; k += SCAN_BLOCKS)
			done += online_some(span, k, nr_blocks - done);
	}
	return done * PAGEBLOCK_PAGES;
}
