/*
 * Compaction: moving handles' objects together, so that whole pageblocks become free.
 *
 * To vacate a range that core has isolated, all objects in it are moved out: isolated, 32 at
 * a time, migrated one by one, put back where there is no room for them (the kernel's
 * isolate, migrate, put back).  A pinned object is marked, and whoever unpins it moves it.
 *
 * To make free blocks, two scanners run towards each other, as in the kernel: the migrate
 * scanner from the highest block downwards, looking for blocks that hold nothing but handles,
 * empty slabs and nearly empty ones; the free scanner from the lowest block upwards, counting
 * the room for what the migrate scanner has found.  Where there is room the block is taken by
 * contig_alloc_range(), which isolates it, has it vacated and takes all of it in one critical
 * section: nobody else gets what was just made free (capture).  When the scanners meet it is
 * over.
 */
#ifndef PB_SHIM_COMPACT_H
#define PB_SHIM_COMPACT_H

#include "core/core.h"

/* One migration at a time, and none during a fork. */
void compact_lock(void);
void compact_unlock(void);

/* Moves what can be moved out of an isolated range; how many objects went. */
size_t compact_vacate(pfn_t pfn, size_t nr_pages);
/* The last pin of a wanted object is gone. */
void compact_unpinned(uint64_t handle);

/* A pageblock made free and taken, as contig_alloc() gives it; 0: none is to be had. */
pfn_t compact_capture(void);

void compact_fork_child(void);

#endif
