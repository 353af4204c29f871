/*
 * A model of isolation against page caches, for spin: 3 threads, 2 blocks of 2 pages.
 *
 * Each thread does for ever what it likes: allocates, frees, isolates and undoes in the
 * fast and in the hard way, tries to open what is somebody else's.  The state is finite,
 * so that all interleavings of all such programs are covered, however long.
 *
 * A step between two semicolons is one that nobody can see the middle of: what is under the
 * zone lock, or one access to a shared word.  Steps and the functions they stand for:
 *
 *   zone_lock, zone_unlock     the same of core/zone.h
 *   pcp_lock, pcp_unlock       the same of core/pcp.c
 *   put                        put() of core/zone.c, in zone_free() and pcp.c: flush()
 *   take                       take() of core/zone.c, in zone_alloc_bulk_locked()
 *   flush                      flush() of core/pcp.c with keep = 0
 *   drain_all                  pcp_drain_all()
 *   disable, enable            pcp_disable(), pcp_enable()
 *   adjust_high                adjust_high() of core/pcp.c
 *   pcp_free                   pcp_free(); its pauses are PCP_FREE_TYPE_READ, PCP_FREE_PUSH
 *   pcp_alloc                  pcp_alloc() and refill(); the pause is PCP_REFILL
 *   isolate                    isolate_range(): mark_batch() of one block a batch, unmark()
 *   undo                       isolate_undo(): owns_batch(), unmark()
 *   fast, hard                 contig.c: try_window() without and with CONTIG_HARD, up to the taking
 *
 * What is checked, by assertions:
 *   counts      free and isolated free pages are what a walk finds, at each unlocking (R4)
 *   conserved   no page is lost or invented (at each unlocking)
 *   drained     after isolate and drain_all no cache has or gets a page of the block (R5)
 *   disabled    between disable and enable no cache has or gets any page (R5)
 *   owned       what a thread has isolated stays so until it undoes it (R9)
 *   closed      nothing is taken from an isolated block
 * and by spin itself, that the threads never all wait.
 *
 * Variants with a historic mistake, which must fail: -DBUG_... as listed by tests/model/run.
 */
#define THREADS 3
#define BLOCKS 2
#ifndef PAGES
#define PAGES 2
#endif
#define NOBODY THREADS

typedef counts {
	byte on[BLOCKS]
};

/* Under the zone lock; isolated is read without it. */
bool isolated[BLOCKS];
byte owner[BLOCKS];
byte nr_free[BLOCKS];
byte free_pages, isolated_free_pages;

/* Each under the lock of its pcp. */
bool pcp_locked[THREADS];
bool high[THREADS];
counts cached[THREADS];

byte nr_disabled;

/* What the program holds, and what is on its way. */
counts held[THREADS];
byte moving;

/* What has been promised: a block is isolated and drained, caches are disabled. */
bool drained[BLOCKS];
byte disabled;

#define is_cached(b) (cached[0].on[b] + cached[1].on[b] + cached[2].on[b])
#define is_held(b) (held[0].on[b] + held[1].on[b] + held[2].on[b])
#define all_of(b) (nr_free[b] + is_cached(b) + is_held(b))

/*
 * Nobody waits for anything while holding the zone lock, and what it protects is looked at
 * without it only in the one word `isolated`, written once in a section: so a section is
 * one step.
 */
#define zone_lock atomic {
#define zone_unlock                                                                            \
	assert(free_pages == (isolated[0] -> 0 : nr_free[0]) +                                 \
				     (isolated[1] -> 0 : nr_free[1]));                         \
	assert(isolated_free_pages == (isolated[0] -> nr_free[0] : 0) +                        \
					      (isolated[1] -> nr_free[1] : 0));                \
	assert(all_of(0) + all_of(1) + moving == BLOCKS * PAGES)                               \
	}
#define pcp_lock(p) atomic { !pcp_locked[p] -> pcp_locked[p] = true }
#define pcp_unlock(p) pcp_locked[p] = false

/* counted: what the page is taken to be, by the block or by something older. */
inline put(b, n, counted)
{
	d_step {
		nr_free[b] = nr_free[b] + n;
		if
		:: counted -> isolated_free_pages = isolated_free_pages + n
		:: else -> free_pages = free_pages + n
		fi
	}
}

/* --- page caches ----------------------------------------------------------------------- */

inline push(p, b)
{
	d_step {
		assert(!drained[b] && disabled == 0);
		cached[p].on[b]++
	}
}

/* Under the pcp's lock. */
inline flush(p)
{
	if
	:: cached[p].on[0] + cached[p].on[1] > 0 ->
		zone_lock
		d_step {
#ifdef BUG_TYPE_CACHED_AT_PUSH
			/* Only runs of open blocks are pushed, and so they are taken for such. */
			nr_free[0] = nr_free[0] + cached[p].on[0];
			nr_free[1] = nr_free[1] + cached[p].on[1];
			free_pages = free_pages + cached[p].on[0] + cached[p].on[1];
#else
			nr_free[0] = nr_free[0] + cached[p].on[0];
			nr_free[1] = nr_free[1] + cached[p].on[1];
			if
			:: isolated[0] -> isolated_free_pages = isolated_free_pages + cached[p].on[0]
			:: else -> free_pages = free_pages + cached[p].on[0]
			fi;
			if
			:: isolated[1] -> isolated_free_pages = isolated_free_pages + cached[p].on[1]
			:: else -> free_pages = free_pages + cached[p].on[1]
			fi;
#endif
			cached[p].on[0] = 0;
			cached[p].on[1] = 0
		};
		zone_unlock
	:: else
	fi
}

inline drain_all()
{
	q = 0;
	do
	:: q < THREADS ->
#ifdef BUG_DRAIN_SKIPS_EMPTY
		if
		:: cached[q].on[0] + cached[q].on[1] == 0 -> skip
		:: else ->
			pcp_lock(q);
			flush(q);
			pcp_unlock(q)
		fi;
#else
		pcp_lock(q);
		flush(q);
		pcp_unlock(q);
#endif
		q++
	:: else -> break
	od;
	q = 0
}

/* Under the pcp's lock. */
inline adjust_high(p)
{
#ifdef BUG_ENABLE_WITHOUT_LOOKING
	high[p] = want_high;
#else
	high[p] = (nr_disabled == 0);
#endif
}

inline adjust_all(with_flush)
{
	q = 0;
	do
	:: q < THREADS ->
		pcp_lock(q);
		adjust_high(q);
		if
		:: with_flush -> flush(q)
		:: else
		fi;
		pcp_unlock(q);
		q++
	:: else -> break
	od;
	q = 0
}

inline disable()
{
	nr_disabled++;
	want_high = false;
	adjust_all(true);
	d_step {
		disabled++;
		assert(is_cached(0) + is_cached(1) == 0)
	}
}

inline enable()
{
	atomic {
		disabled--;
		nr_disabled--;
		last = (nr_disabled == 0)
	};
	if
	:: last ->
		want_high = true;
		adjust_all(false)
	:: else
	fi;
	last = false;
	want_high = false
}

/* --- the program's calls ----------------------------------------------------------------- */

inline zone_free(b)
{
#ifdef BUG_TYPE_BEFORE_LOCK
	was_isolated = isolated[b];
	zone_lock
	moving--;
	put(b, 1, was_isolated);
	zone_unlock;
	was_isolated = false
#else
	zone_lock
	moving--;
	put(b, 1, isolated[b]);
	zone_unlock
#endif
}

inline pcp_free(b)
{
	d_step { held[me].on[b]--; moving++ };
#ifdef BUG_ISOLATION_READ_BEFORE_PCP_LOCK
	was_isolated = isolated[b];
	pcp_lock(me);
	cache = !was_isolated && high[me];
	was_isolated = false;
#else
	/* The type read here decides the chain only. */
	pcp_lock(me);
	cache = !isolated[b];
	cache = cache && high[me];
#endif
	if
	:: cache ->
		cache = false;
		atomic { moving--; push(me, b) };
		pcp_unlock(me)
	:: else ->
		pcp_unlock(me);
		zone_free(b)
	fi
}

/* Takes one for the caller and, when the cache has room, one more of the same block. */
inline take(b)
{
	d_step {
		assert(!isolated[b]);
		nr_free[b]--;
		free_pages--;
		held[me].on[b]++;
		if
		:: nr_free[b] > 0 && high[me] ->
			nr_free[b]--;
			free_pages--;
			moving++;
			extra = b
		:: else -> extra = BLOCKS
		fi
	}
}

inline pcp_alloc()
{
	pcp_lock(me);
	if
	:: cached[me].on[0] > 0 -> d_step { cached[me].on[0]--; held[me].on[0]++ }
	:: cached[me].on[1] > 0 -> d_step { cached[me].on[1]--; held[me].on[1]++ }
	:: cached[me].on[0] + cached[me].on[1] == 0 ->
		zone_lock
		extra = BLOCKS;
		if
		:: !isolated[0] && nr_free[0] > 0 -> take(0)
		:: !isolated[1] && nr_free[1] > 0 -> take(1)
		:: else
		fi;
		zone_unlock;
		if
		:: extra < BLOCKS -> atomic { moving--; push(me, extra); extra = BLOCKS }
		:: else
		fi
	fi;
	pcp_unlock(me)
}

/* --- isolation ---------------------------------------------------------------------------- */

/* Under the zone lock. */
inline mark(b)
{
	d_step {
		isolated[b] = true;
		owner[b] = me;
		free_pages = free_pages - nr_free[b];
		isolated_free_pages = isolated_free_pages + nr_free[b]
	}
}

inline unmark(b)
{
	d_step {
		isolated[b] = false;
		owner[b] = NOBODY;
		free_pages = free_pages + nr_free[b];
		isolated_free_pages = isolated_free_pages - nr_free[b]
	}
}

/* Blocks first to last, each a batch of its own; all or nothing.  Sets got. */
inline isolate(first, last_block)
{
	b = first;
	got = true;
	do
	:: b <= last_block && got ->
		zone_lock
		if
		:: isolated[b] -> got = false
		:: else -> mark(b); b++
		fi;
		zone_unlock
	:: else -> break
	od;
	do
	:: !got && b > first ->
		b--;
		zone_lock
		unmark(b);
		zone_unlock
	:: else -> break
	od;
	b = 0
}

inline undo(first, last_block)
{
	zone_lock
#ifdef BUG_UNDO_BY_ANYBODY
	got = isolated[first] && isolated[last_block];
#else
	got = isolated[first] && isolated[last_block] && owner[first] == me && owner[last_block] == me;
#endif
	zone_unlock;
	b = first;
	do
	:: got && b <= last_block ->
		zone_lock
		if
#ifdef BUG_UNDO_BY_ANYBODY
		:: isolated[b] -> unmark(b)
#else
		:: isolated[b] && owner[b] == me -> unmark(b)
#endif
		:: else
		fi;
		zone_unlock;
		b++
	:: else -> break
	od;
	b = 0
}

inline promise(first, last_block)
{
	d_step {
		drained[first] = true;
		drained[last_block] = true;
		assert(is_cached(first) == 0 && is_cached(last_block) == 0)
	}
}

inline give_back(first, last_block)
{
	d_step {
		assert(isolated[first] && owner[first] == me);
		assert(isolated[last_block] && owner[last_block] == me);
		drained[first] = false;
		drained[last_block] = false
	};
	undo(first, last_block);
	assert(got);
	got = false
}

inline fast(first, last_block)
{
	isolate(first, last_block);
	if
	:: got ->
		got = false;
		drain_all();
		promise(first, last_block);
		give_back(first, last_block)
	:: else
	fi
}

inline hard(first, last_block)
{
	disable();
	isolate(first, last_block);
	if
	:: got ->
		got = false;
		promise(first, last_block);
		give_back(first, last_block)
	:: else
	fi;
	enable()
}

/* The token of somebody who has isolated nothing opens nothing. */
inline undo_of_others(which)
{
	undo(which, which);
	assert(!got);
	got = false
}

/* --- the threads ----------------------------------------------------------------------------- */

proctype thread(byte me)
{
	byte q, b, extra = BLOCKS;
	bool got, last, want_high, cache, was_isolated;

	do
	:: me >= THREADS - CHURNERS -> pcp_alloc()
	:: me >= THREADS - CHURNERS && held[me].on[0] > 0 -> pcp_free(0)
	:: me >= THREADS - CHURNERS && held[me].on[1] > 0 -> pcp_free(1)
	:: me < ISOLATORS -> fast(0, 0)
	:: me < ISOLATORS -> hard(0, 0)
	:: me < ISOLATORS -> fast(0, 1)
	:: me < ISOLATORS -> undo_of_others(0)
	od
}

init
{
	atomic {
		high[0] = true;
		high[1] = true;
		high[2] = true;
		owner[0] = NOBODY;
		owner[1] = NOBODY;
		nr_free[0] = PAGES;
		nr_free[1] = PAGES;
		free_pages = BLOCKS * PAGES;
		run thread(0);
		run thread(1);
		run thread(2)
	}
}
