/*
 * Free dirty pages in blocks that are in use.
 *
 * They are not given back when they become free: they are what is handed out next, and it
 * would cost a call for each run and break huge pages.  It pays where much of a block has
 * been free for long.  So blocks are looked at twice: one that has WASTE_PAGES free dirty
 * pages or more both times (WASTE_HUGE_PAGES where that breaks a huge page), and as many free
 * pages as the first time, is cold, and its free runs are given back.  Passes go on while
 * there are such blocks that have changed in between; then nothing happens until a few
 * megabytes more are free.
 *
 * Not guaranteed: that a block in which pages come and go between two looks is noticed,
 * nor that less than WASTE_PAGES of a block ever goes back, but for purge_all().
 */
#include "core/span.h"
#include "core/work.h"
#include "core/zone.h"

/* 64 KiB. */
#define WASTE_PAGES 16u
/* Three 32nds of a block. */
#define WASTE_HUGE_PAGES 48u
/* This much more, 4 MiB, begins passes anew. */
#define MORE_PAGES ((uint64_t)1024)
/* Looked at in one slice, and in one critical section. */
#define SLICE_BLOCKS ((size_t)512)
#define SCAN_BLOCKS ((size_t)128)
/* From one pass to the next: half the decay. */
#define PASS_NS_MIN ((uint64_t)50 * 1000 * 1000)

/* Where the pass is; touched by waste_run() alone, of which there is one at a time. */
static struct {
	unsigned span;
	size_t block;
	bool again; /* something has changed since the last pass */
} pass;

static uint64_t waste_run(uint64_t now_ns);

static struct work waste_work = {.run = waste_run};

void waste_init(void)
{
	zone.waste_mark = MORE_PAGES;
	work_add(&waste_work);
}

static uint64_t pass_ns(void)
{
	return zone.config.decay_ns / 2 > PASS_NS_MIN ? zone.config.decay_ns / 2 : PASS_NS_MIN;
}

/* There is enough that it may pay. */
void waste_armed_locked(void)
{
	zone.waste_mark = UINT64_MAX;
	work_due(&waste_work, os_now_ns() + pass_ns());
}

/* Whether the block is cold by now; and remembers what it is like. */
static bool look_locked(struct pageblock *block)
{
	uint8_t nr_seen = (uint8_t)(block->nr_free / 2);
	bool same = block->nr_seen == nr_seen;

	if (pageblock_whole(block) || block->nr_purging > 0 ||
	    (pageblock_all_resident(block) ? block->nr_free < WASTE_HUGE_PAGES
					   : block->nr_dirty < WASTE_PAGES))
		return false;
	block->nr_seen = nr_seen;
	pass.again |= !same;
	return same;
}

/* The next blocks of the pass; how many were looked at, 0: that was all of them. */
static size_t look(struct pageblock **cold, unsigned *nr_cold)
{
	struct span *span;
	size_t nr_looked = 0, committed;

	if (pass.span == span_count())
		return 0;
	span = span_at(pass.span);
	committed = span_committed(span);
	zone_lock();
	while (pass.block < committed && nr_looked < SCAN_BLOCKS &&
	       *nr_cold < PURGE_BATCH_BLOCKS) {
		struct pageblock *block = &span->blocks[pass.block++];

		nr_looked++;
		if (look_locked(block))
			cold[(*nr_cold)++] = block;
	}
	zone_unlock();
	if (pass.block == committed) {
		pass.span++;
		pass.block = 0;
		nr_looked++;
	}
	return nr_looked;
}

/* The pass is over; when the next is. */
static uint64_t pass_ends(uint64_t now_ns)
{
	bool again = pass.again;

	pass.span = 0;
	pass.again = false;
	if (again)
		return now_ns + pass_ns();
	zone_lock();
	zone.waste_mark = zone.dirty_free_pages + MORE_PAGES;
	thp_soon_locked();
	zone_unlock();
	return WORK_NEVER;
}

static COLD uint64_t waste_run(uint64_t now_ns)
{
	struct pageblock *cold[PURGE_BATCH_BLOCKS];
	unsigned nr_cold = 0;
	size_t nr_looked = 0, nr = 1;

	while (nr > 0 && nr_looked < SLICE_BLOCKS && nr_cold < PURGE_BATCH_BLOCKS) {
		nr = look(cold, &nr_cold);
		nr_looked += nr;
	}
	if (nr_cold > 0)
		(void)purge_blocks(cold, nr_cold);
	return nr > 0 ? now_ns : pass_ends(now_ns);
}
