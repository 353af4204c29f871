/* Sites and their places; see sites.h. */
#include "shim/sites.h"

#include "shim/births.h"
#include "shim/limits.h"
#include "shim/slabs.h"
#include "shim/slow.h"
#include "shim/survival.h"

#include <string.h>

#define NR_SETS 64u
#define NR_WAYS 4u
#define NR_SITES (NR_SETS * NR_WAYS)
/* How far up the stack the return address of a wrapper's caller is looked for, in words. */
#define WRAPPER_FRAME_MAX 32u
/* How far into its function a call is, at most. */
#define FUNCTION_BYTES_MAX 65536u
/* Classes that must have come through one address before it is thought a wrapper. */
#define WRAPPER_CLASSES 6u
/* A look at all sites each time the heap has grown by 1 / this, and at least LOOK_BYTES_MIN. */
#define LOOK_FRACTION 32u
#define LOOK_BYTES_MIN ((uint64_t)1 << 20)
/* Lifetimes are judged each time so much of what is in use at the peak was allocated; or a
 * quarter of what is watched, and DEATHS_MIN, has died. */
#define JUDGE_FRACTION 16u
#define JUDGE_BYTES_MIN ((uint64_t)4 << 20)
#define DEATHS_MIN 16u
/* A site that grows by less than 1 / this of all growth is not worth a place. */
#define SHARE_FRACTION 64u
/* Nor is a site of which the others are less than 1 / this: it leaves room behind that nobody
 * uses. */
#define OTHERS_FRACTION 4u
/* The numbers of companions' objects differ by less than 1 / this. */
#define COMPANIONS_DIFFER 8u
/* And by so many standard deviations more, as they are seen by refills alone. */
#define COMPANIONS_CHANCE 2u
/* Each time so much of what is in use was allocated, it is seen whether the heap grows: whether
 * 1 / GROWS_BY of that has been added to it. */
#define GROWTH_FRACTION 16u
#define GROWS_BY 2u
/* And whether it stands still: less than 1 / STILL_BY has been added. */
#define STILL_BY 8u
/* In use in a place from which on it has blocks of its own: half of the newest is free. */
#define BLOCKS_FROM (8 * PAGEBLOCK_BYTES)
/* What keeping apart may cost, as a part of what is in use: 2 %. */
#define APART_FRACTION 50u
/* What is watched at one time, as a part of what is in use at the peak. */
#define WATCHED_FRACTION 256u
/* A site's objects are watched one in so many bytes of its growth, and more and more seldom. */
#define WATCH_BYTES_MIN ((uint64_t)16 << 10)
#define WATCH_FRACTION 16u

/* Refills of a site after which it is known whether several call, and how many of them all
 * but the first caller must have. */
#define CALLER_SAMPLES 128u
#define CALLER_OTHERS 4u

struct site {
	uintptr_t site;
	uint64_t nr_bytes; /* growth, halved now and then; with what it took over (Space-Saving) */
	uint64_t error;    /* the part that may be another's */
	uint32_t nr_of[NR_CLASSES]; /* objects, as nr_bytes, without what it took over */
	uint64_t since_watched; /* bytes of growth since an object was watched */
	uint64_t classes[2];
	uint8_t place;
	bool is_wrapper, never_wrapper;
	int8_t up; /* -1: not looked for */
	uint8_t nr_samples;
	uint8_t nr_others;
	uint8_t lifetime; /* enum sites_lifetime */
	uintptr_t first_caller;
	struct survival survival;
};

struct place {
	uint64_t allocated; /* by refills */
	uint64_t live;      /* at the last look */
	uint64_t classes[2]; /* of its sites */
	uint16_t nr_sites;
	bool given;
};

_Atomic uint8_t *sites_place;
struct sites_wrapper sites_wrappers[NR_WRAPPERS];

static bool on; /* written before there are threads */
/* By refills that found the lock taken, for the clock.  Relaxed: a sum. */
static _Atomic uint64_t missed_bytes;
static size_t from_bytes;

/* Under its lock. */
static struct sites {
	struct lock lock;
	struct site table[NR_SITES]; /* a set is NR_WAYS in a row */
	struct place places[NR_PLACES];
	uint64_t clock;      /* bytes refilled since the start: the allocation clock */
	uint64_t last_look;  /* on the clock, as the next two */
	uint64_t next_look;
	uint64_t next_judge;
	uint64_t window;     /* what the sites' nr_bytes are a part of */
	uint64_t peak;       /* most that was in use, lately */
	uint64_t grown_from, grown_at; /* in use when growth was looked at last, and the clock then */
	bool grows, still;
	uint64_t nr_collisions, nr_replaced;
	uint64_t apart_bytes; /* what keeping apart costs, as estimated */
	uint64_t nr_born, nr_died; /* watched objects */
	uint32_t nr_watched;
	uint32_t nr_dead;    /* watched ones, since lifetimes were judged */
	uint32_t survival;   /* percent of all growth, as judged last */
	uint32_t nr_merges, nr_splits;
} sites;

static const struct inspect_item items[] = {
#define TYPE INSPECT_ITEM_TYPE
#define FIELD INSPECT_ITEM_FIELD
#define CONSTANT INSPECT_ITEM_CONSTANT
#include "shim/sites_inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
};

bool sites_make_table(void)
{
	if (sites_place == NULL)
		sites_place = os_map_low(SITES_KEYS);
	return sites_place != NULL;
}

void sites_init(size_t from)
{
	ASSERT(sites_place != NULL);
	from_bytes = from;
	sites.next_look = LOOK_BYTES_MIN;
	inspect_describe(items, sizeof(items) / sizeof(items[0]));
	inspect_show("sites", &sites, sizeof(sites));
	on = true;
}

bool sites_are_on(void)
{
	return on;
}

static void set_key(uintptr_t site, unsigned place)
{
	/* Relaxed: whoever reads the old place allocates there once more. */
	atomic_store_explicit(&sites_place[sites_key(site)], (uint8_t)place,
			      memory_order_relaxed);
}

/* --- wrappers --------------------------------------------------------------------------- */

/* What the bytes before an address call: the function's start, CALLS_SOMETHING when they do not
 * say it, 0: they are no call. */
#define CALLS_SOMETHING ((uintptr_t)1)
static uintptr_t called_before(uintptr_t at)
{
	const unsigned char *p = (const unsigned char *)at;

	if (at < PAGE_BYTES || at >> ADDRESS_BITS != 0 || !os_readable(p - 8) ||
	    (at % PAGE_BYTES < 8 && !os_readable(p - 1)))
		return 0;
	if (p[-5] == 0xe8) { /* call rel32 */
		int32_t rel;

		memcpy(&rel, p - 4, sizeof(rel));
		return at + (uintptr_t)(intptr_t)rel;
	}
	return (p[-6] == 0xff && p[-5] == 0x15) ||       /* call *rel32(%rip) */
			       (p[-2] == 0xff && (p[-1] & 0xf8) == 0xd0) || /* call *%reg */
			       (p[-3] == 0xff && (p[-2] & 0x38) == 0x10) /* call *disp8(%reg) */
		       ? CALLS_SOMETHING
		       : 0;
}

/* Whether a function that begins there may hold an address. */
static bool may_hold(uintptr_t function, uintptr_t inside)
{
	return function < inside && inside - function < FUNCTION_BYTES_MAX;
}

/* Whether an address follows a call of the function that holds `inside`, or of anything. */
static bool follows_call(uintptr_t at, uintptr_t inside)
{
	uintptr_t function = called_before(at);

	return function == CALLS_SOMETHING || may_hold(function, inside) ||
	       (function != 0 && os_readable((const void *)function));
}

/* Whether a word of the stack is there: what is on the page that the stack begins on is. */
static bool is_on_stack(const uintptr_t *stack, unsigned up)
{
	return ((uintptr_t)stack ^ (uintptr_t)&stack[up]) < PAGE_BYTES || os_readable(&stack[up]);
}

/*
 * Where the return address of the caller of the function that holds the site stands, in words
 * from its stack at the call; -1: not found.  Of what calls may have left there, it is what called
 * the function that begins next before the site; else the first that follows any call.
 */
static int find_up(uintptr_t site, const uintptr_t *stack)
{
	int found = -1, any = -1;
	uintptr_t last = 0;

	for (unsigned i = 0; i < WRAPPER_FRAME_MAX && is_on_stack(stack, i); i++) {
		uintptr_t function;

		if (stack[i] == site)
			continue;
		function = called_before(stack[i]);
		if (may_hold(function, site) && function != CALLS_SOMETHING && function > last) {
			found = (int)i;
			last = function;
		}
		if (any < 0 && follows_call(stack[i], site))
			any = (int)i;
	}
	return found >= 0 ? found : any;
}

/* False: another one is where this one would be. */
static bool wrapper_add(uintptr_t site, int up)
{
	struct sites_wrapper *w = &sites_wrappers[sites_wrapper_home(site)];
	/* Relaxed: all writers hold the lock. */
	uintptr_t was = atomic_load_explicit(&w->site, memory_order_relaxed);

	/* It is there already when its site was forgotten and has come again. */
	if (was != 0 && was != site)
		return false;
	atomic_store_explicit(&w->up, (uint32_t)up, memory_order_relaxed);
	/* Release: pairs with the acquire in sites_wrapper_at(). */
	atomic_store_explicit(&w->site, site, memory_order_release);
	return true;
}

/* --- the table of sites ------------------------------------------------------------------- */

static struct site *set_of(uintptr_t site)
{
	return &sites.table[((site * 0x9E3779B97F4A7C15u) >> 58) * NR_WAYS];
}

/* The site's entry, or NULL. */
static struct site *site_known(uintptr_t site)
{
	struct site *set = set_of(site);

	for (unsigned i = 0; i < NR_WAYS; i++) {
		if (set[i].site == site)
			return &set[i];
	}
	return NULL;
}

/* A wrapper does not grow, because what it asks for counts for its callers. */
static bool goes_before(const struct site *a, const struct site *b)
{
	return a->is_wrapper != b->is_wrapper ? b->is_wrapper : a->nr_bytes < b->nr_bytes;
}

/* The site's entry, which takes the place of the set's smallest when it is new. */
static struct site *site_entry(uintptr_t site)
{
	struct site *set = set_of(site), *least = &set[0], *known = site_known(site);

	if (likely(known != NULL))
		return known;
	for (unsigned i = 1; i < NR_WAYS; i++) {
		if (goes_before(&set[i], least))
			least = &set[i];
	}
	if (least->site != 0) {
		sites.nr_replaced++;
		if (least->place != PLACE_ANY) {
			sites.places[least->place].nr_sites--;
			set_key(least->site, PLACE_ANY);
		}
	}
	*least = (struct site){ .site = site, .nr_bytes = least->nr_bytes,
				.error = least->nr_bytes, .up = -1 };
	if (sites_place_of(site) != PLACE_ANY)
		sites.nr_collisions++;
	return least;
}

static unsigned nr_classes(const struct site *s)
{
	return (unsigned)(__builtin_popcountll(s->classes[0]) +
			  __builtin_popcountll(s->classes[1]));
}

static void site_move(struct site *s, unsigned place)
{
	if (s->place != PLACE_ANY)
		sites.places[s->place].nr_sites--;
	s->place = (uint8_t)place;
	if (place != PLACE_ANY) {
		sites.places[place].nr_sites++;
		sites.places[place].classes[0] |= s->classes[0];
		sites.places[place].classes[1] |= s->classes[1];
	}
	set_key(s->site, place);
}

/* --- watching ---------------------------------------------------------------------------- */

/* Whether the object that is about to be handed out is to be watched. */
static bool is_watch_due(struct site *s, unsigned cls, size_t nr_bytes)
{
	uint64_t every = (s->nr_bytes - s->error) / WATCH_FRACTION;

	s->since_watched += nr_bytes;
	/* Not the first time: a site that never comes again says nothing. */
	if (s->since_watched < (every > WATCH_BYTES_MIN ? every : WATCH_BYTES_MIN) ||
	    s->is_wrapper || cls >= NR_SMALL_CLASSES || sites.peak < from_bytes ||
	    births_bytes() >= sites.peak / WATCHED_FRACTION)
		return false;
	s->since_watched = 0;
	return true;
}

COLD void *sites_watch(const struct sites_caller *caller, size_t size)
{
	void *p = births_alloc(size);
	struct site *s;

	if (p == NULL)
		return NULL;
	lock_acquire(&sites.lock, LOCK_SITES);
	s = site_known(caller->site);
	if (s != NULL && births_add((struct birth){ (uintptr_t)p, s->site })) {
		uintptr_t forgotten = survival_birth(&s->survival, (uintptr_t)p, sites.clock);

		if (forgotten != 0)
			(void)births_forget(forgotten);
		sites.nr_watched += forgotten == 0;
		sites.nr_born++;
	}
	lock_release(&sites.lock, LOCK_SITES);
	return p;
}

/* The record of an object ends; its site, which may not know it any more, or NULL. */
static struct site *watch_ends(struct birth birth)
{
	sites.nr_watched -= birth.object != 0;
	return birth.object == 0 ? NULL : site_known(birth.site);
}

COLD void sites_died(const void *p, size_t nr_bytes)
{
	struct birth birth;
	struct site *s;

	lock_acquire(&sites.lock, LOCK_SITES);
	birth = births_end(p, nr_bytes);
	s = watch_ends(birth);
	if (s != NULL && survival_end(&s->survival, birth.object, sites.clock, !sites.still)) {
		sites.nr_died++;
		sites.nr_dead++;
		if (sites.nr_dead >= DEATHS_MIN && sites.nr_dead >= sites.nr_watched / 4) {
			sites.next_judge = sites.clock;
			sites.next_look = sites.clock;
		}
	}
	lock_release(&sites.lock, LOCK_SITES);
}

unsigned sites_moves(const void *p)
{
	unsigned place = PLACE_ANY;
	struct birth birth;
	struct site *s;

	lock_acquire(&sites.lock, LOCK_SITES);
	birth = births_forget((uintptr_t)p);
	s = watch_ends(birth);
	if (s != NULL)
		(void)survival_drop(&s->survival, birth.object);
	if (birth.object != 0)
		place = sites_place_of(birth.site);
	lock_release(&sites.lock, LOCK_SITES);
	return place == PLACE_WRAPPED ? PLACE_ANY : place;
}

/* --- lifetimes --------------------------------------------------------------------------- */

/*
 * Short: gone before as much was allocated as was in use at the peak.  Long: still there then,
 * while others (there are some) are not.
 */
static enum sites_lifetime verdict(const struct site *s, struct survival_estimate e,
				   bool stands_out)
{
	if (e.nr_deaths >= EVIDENCE_MIN && e.percent <= SHORT_BELOW)
		return SITES_SHORT;
	if (e.nr_old >= EVIDENCE_MIN && e.percent >= LONG_FROM && stands_out)
		return SITES_LONG;
	/* What is long stays so as long as it is not clearly otherwise, and so on. */
	if (e.nr_deaths < EVIDENCE_MIN && e.nr_old < EVIDENCE_MIN)
		return (enum sites_lifetime)s->lifetime;
	if (s->lifetime == SITES_LONG && 2 * e.percent >= LONG_FROM + SHORT_BELOW && stands_out)
		return SITES_LONG;
	if (s->lifetime == SITES_SHORT && 2 * e.percent < LONG_FROM + SHORT_BELOW)
		return SITES_SHORT;
	return SITES_UNKNOWN;
}

static uint64_t weight_of(const struct site *s)
{
	return s->nr_bytes - s->error;
}

/* Whether the site grows so much that it is worth a place. */
static bool is_heavy(const struct site *s)
{
	return s->site != 0 && !s->is_wrapper &&
	       s->nr_bytes - s->error >= sites.window / SHARE_FRACTION;
}

/*
 * From now on it is seen anew whether the heap grows.  In one that stands still what comes takes
 * the place of what goes in the bins, where nobody counts it, so the clock all but stands still too:
 * what dies then has lived for so long at least.
 */
static void restart_growth(uint64_t used, bool grows, bool still)
{
	sites.grows = grows;
	sites.still = still;
	sites.grown_from = used;
	sites.grown_at = sites.clock;
}

static void judge(uint64_t used)
{
	static struct survival_estimate estimates[NR_SITES];
	/* The end of its step: what was allocated since the last trough and lives is younger. */
	unsigned horizon = survival_age(sites.peak) + 1;
	uint64_t survives = 0, of = 0;

	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];

		if (s->site == 0)
			continue;
		estimates[i] = survival_estimate(&s->survival, sites.clock, horizon);
		survives += weight_of(s) * estimates[i].percent;
		of += weight_of(s);
	}
	sites.survival = of == 0 ? 100 : (uint32_t)(survives / of);
	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];
		uint64_t others = of - weight_of(s);
		uint64_t theirs = survives - weight_of(s) * estimates[i].percent;
		uint8_t was;

		if (s->site == 0)
			continue;
		s->survival.percent = (uint8_t)estimates[i].percent;
		was = s->lifetime;
		s->lifetime = (uint8_t)verdict(s, estimates[i],
					       others >= of / OTHERS_FRACTION &&
						       theirs <= others * CONTRAST_BELOW);
		/* What comes may take the place of what goes from now on. */
		if (s->lifetime == SITES_SHORT && was != SITES_SHORT && is_heavy(s))
			restart_growth(used, false, false);
	}
	sites.nr_dead = 0;
	sites.next_judge = sites.clock + (sites.peak / JUDGE_FRACTION > JUDGE_BYTES_MIN
						  ? sites.peak / JUDGE_FRACTION
						  : JUDGE_BYTES_MIN);
}

/* --- places ------------------------------------------------------------------------------- */

/* What a class in a place of a thread costs: what is in its bin, half a batch in the mean, and
 * half of the page that is begun. */
static uint64_t apart_cost(unsigned cls, unsigned batch)
{
	return ((uint64_t)batch * class_info[cls].bytes + PAGE_BYTES) / 2;
}

/* One more place, which begins with small batches. */
static uint64_t apart_costs(const uint64_t classes[2])
{
	uint64_t cost = 0;

	for (unsigned w = 0; w < 2; w++) {
		for (uint64_t bits = classes[w]; bits != 0; bits &= bits - 1) {
			unsigned cls = w * 64 + (unsigned)__builtin_ctzll(bits);

			cost += apart_cost(cls, limits_first(cls));
		}
	}
	return cost;
}

/* What a heap's slabs have handed out, of which so much is in bins, and what the place costs. */
struct heap_bytes {
	uint64_t live, cached, cost;
};

/* About: without its lock, while its thread changes it. */
RACY static struct heap_bytes bytes_of(struct heap *h)
{
	struct heap_bytes sum = { .cost = HEAP_STRIDE };

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		struct heap_class *hc = &h->classes[cls];
		const struct class_info *ci = &class_info[cls];
		uint64_t nr = (uint64_t)slabs_count(hc) * ci->nr_objects;
		int32_t binned = (int32_t)h->bins[cls].max - h->bins[cls].room;

		if (nr == 0)
			continue;
		sum.live += nr > hc->nr_free ? (nr - hc->nr_free) * ci->bytes : 0;
		sum.cached += binned > 0 ? (uint64_t)binned * ci->bytes : 0;
		sum.cost += apart_cost(cls, hc->batch);
	}
	return sum;
}

/* What each place's bytes are that the program holds or that are cached for it; returns the
 * sum of all, and of what is in bins. */
static uint64_t measure(uint64_t *cached)
{
	uint64_t used = 0;

	*cached = 0;
	sites.apart_bytes = 0;
	for (unsigned i = 0; i < NR_PLACES; i++) {
		sites.places[i].live = 0;
		if (sites.places[i].given && heap_has_own_blocks(i))
			sites.apart_bytes += PAGEBLOCK_BYTES / 2;
	}
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		struct heap_bytes bytes = bytes_of(h);

		used += bytes.live;
		*cached += bytes.cached;
		if (h->place >= NR_PLACES)
			continue;
		sites.places[h->place].live += bytes.live;
		/* What a place leaves behind that was taken back goes by itself. */
		if (h->place != PLACE_ANY && sites.places[h->place].given && bytes.live > 0)
			sites.apart_bytes += bytes.cost;
	}
	return used;
}

/* A place of a site's own, PLACE_ANY: there is none. */
static unsigned free_place(void)
{
	unsigned best = PLACE_ANY;

	for (unsigned i = PLACE_ANY + 1; i < PLACE_WRAPPED; i++) {
		if (!sites.places[i].given &&
		    (best == PLACE_ANY || sites.places[i].live < sites.places[best].live))
			best = i;
	}
	return best;
}

static bool is_own(unsigned place)
{
	return place != PLACE_ANY && place < PLACE_WRAPPED;
}

/* The site goes to the place, if what that costs is within the bound. */
static bool give_place(struct site *s, unsigned place, uint64_t used, uint32_t nr_threads)
{
	struct place *p = &sites.places[place];
	uint64_t more[2] = { s->classes[0] & ~p->classes[0], s->classes[1] & ~p->classes[1] };
	uint64_t cost = (apart_costs(more) + (p->given ? 0 : HEAP_STRIDE)) * nr_threads;

	if (place == PLACE_ANY || sites.apart_bytes + cost > used / APART_FRACTION)
		return false;
	sites.apart_bytes += cost;
	if (!p->given && is_own(place))
		heap_set_left(place, false);
	p->given = true;
	site_move(s, place);
	return true;
}

/*
 * What lives alike is together: short with all others that go, long in one place.  A long one
 * that has a place keeps it until there is that place, and the heap grows.
 */
static void merge_and_split(void)
{
	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];

		if (s->site == 0 || s->is_wrapper)
			continue;
		if (is_own(s->place) && s->lifetime == SITES_SHORT) {
			site_move(s, PLACE_ANY);
			sites.nr_merges++;
		} else if (is_own(s->place) && s->lifetime == SITES_LONG && sites.grows &&
			   sites.places[PLACE_LONG].given) {
			site_move(s, PLACE_LONG);
			sites.nr_merges++;
		} else if (s->place == PLACE_LONG && s->lifetime != SITES_LONG) {
			site_move(s, PLACE_ANY);
			sites.nr_splits++;
		}
	}
}

/* Below that a slab is all that is kept apart. */
static void give_blocks(uint64_t used)
{
	for (unsigned i = PLACE_ANY + 1; i < NR_PLACES; i++) {
		struct place *p = &sites.places[i];
		uint64_t cost = sites.apart_bytes + PAGEBLOCK_BYTES / 2;

		if (!p->given || heap_has_own_blocks(i) || p->live < BLOCKS_FROM ||
		    cost > used / APART_FRACTION)
			continue;
		sites.apart_bytes = cost;
		heap_set_own_blocks(i, true);
	}
}

/* Places without a site are free again. */
static void reclaim_places(void)
{
	for (unsigned i = PLACE_ANY + 1; i < NR_PLACES; i++) {
		struct place *p = &sites.places[i];

		if (!p->given || p->nr_sites > 0)
			continue;
		p->given = false;
		memset(p->classes, 0, sizeof(p->classes));
		/* What the program says has blocks of its own for good. */
		if (!is_own(i))
			continue;
		heap_set_own_blocks(i, false);
		heap_set_left(i, true);
	}
}

static bool may_be_wrapper(const struct site *s)
{
	return !s->never_wrapper && !s->is_wrapper && nr_classes(s) >= WRAPPER_CLASSES;
}

/*
 * A site through which many sizes come is watched: does one function call it, or do several?
 * In the latter case it is a wrapper, and from now on its callers are the sites.
 */
static void watch_callers(struct site *s, const struct sites_caller *caller)
{
	uintptr_t from;

	if (!may_be_wrapper(s))
		return;
	if (s->up < 0) {
		s->up = (int8_t)find_up(caller->site, caller->stack);
		s->never_wrapper = s->up < 0 || caller->depth >= WRAPPER_DEPTH;
		if (s->never_wrapper)
			return;
	}
	from = is_on_stack(caller->stack, (unsigned)s->up) ? caller->stack[s->up] : 0;
	/* Where it stood by chance once it does not stand time and again. */
	if ((s->nr_samples == 0 || from != s->first_caller) &&
	    !follows_call(from, s->site)) {
		s->never_wrapper = true;
		return;
	}
	if (s->nr_samples == 0)
		s->first_caller = from;
	s->nr_samples++;
	if (from != s->first_caller)
		s->nr_others++;
	if (s->nr_samples < CALLER_SAMPLES)
		return;
	if (s->nr_others < CALLER_OTHERS || !wrapper_add(s->site, s->up)) {
		s->never_wrapper = true;
		return;
	}
	s->is_wrapper = true;
	site_move(s, PLACE_WRAPPED);
}

/* The one that needs no place of its own; NULL: there is what is known to be short lived where
 * it would stay. */
static struct site *heaviest(void)
{
	struct site *found = NULL;

	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];

		if (!is_heavy(s))
			continue;
		if (s->lifetime == SITES_SHORT)
			return NULL;
		if (found == NULL || s->nr_bytes > found->nr_bytes)
			found = s;
	}
	return found;
}

/* The class of most of a site's objects, and how many: NULL when it is not half of them all. */
static const uint32_t *most_of(const struct site *s)
{
	const uint32_t *most = s->nr_of;
	uint64_t all = 0;

	for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
		all += s->nr_of[cls];
		if (s->nr_of[cls] > *most)
			most = &s->nr_of[cls];
	}
	return all == 0 || *most < all / 2 ? NULL : most;
}

/* Whether b asks for as many objects as a of the class of most of a's. */
static bool is_asked_with(const struct site *a, const struct site *b)
{
	const uint32_t *most = most_of(a);
	uint64_t of_a, of_b, more, differ;
	unsigned cls;

	if (most == NULL)
		return false;
	cls = (unsigned)(most - a->nr_of);
	of_a = *most;
	of_b = b->nr_of[cls];
	if (of_b == 0)
		return false;
	more = of_a > of_b ? of_a : of_b;
	differ = more - (of_a > of_b ? of_b : of_a);
	if (differ <= more / COMPANIONS_DIFFER)
		return true;
	/* Each is the sum of batches, and which site a refill is for is chance: the difference of
	 * two such numbers has a variance of as many batches as both, squared. */
	differ -= more / COMPANIONS_DIFFER;
	return differ * differ <=
	       COMPANIONS_CHANCE * COMPANIONS_CHANCE * limits_batch(cls) * (of_a + of_b);
}

/*
 * Whether two sites ask for as many objects as each other of a class that most objects of one of
 * them are of: then these are thought to be parts of one thing, which are used together, and to
 * lie side by side is worth more to the program than to lie apart.
 */
static bool are_companions(const struct site *a, const struct site *b)
{
	return is_asked_with(a, b) || is_asked_with(b, a);
}

/* The place of a site's companions, or one of its own; PLACE_ANY: there is none. */
static unsigned place_for(const struct site *s)
{
	for (unsigned i = 0; i < NR_SITES; i++) {
		const struct site *o = &sites.table[i];

		if (o->site != 0 && o->lifetime == SITES_UNKNOWN && is_own(o->place) &&
		    are_companions(o, s))
			return o->place;
	}
	return free_place();
}

/* Whether a companion of the site is where all others are, and is to stay there. */
static bool stays_with(const struct site *s, const struct site *stays)
{
	for (unsigned i = 0; i < NR_SITES; i++) {
		const struct site *o = &sites.table[i];

		if (o != s && o->place == PLACE_ANY && is_heavy(o) &&
		    (o == stays || o->lifetime == SITES_SHORT) && are_companions(o, s))
			return true;
	}
	return false;
}

/* The next site to get a place of its own: the lightest of those that are heavy. */
static struct site *next_to_part(const struct site *stays)
{
	struct site *found = NULL;

	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];

		if (s != stays && s->place == PLACE_ANY && s->lifetime == SITES_UNKNOWN &&
		    is_heavy(s) && !may_be_wrapper(s) && !stays_with(s, stays) &&
		    (found == NULL || s->nr_bytes < found->nr_bytes))
			found = s;
	}
	return found;
}

/*
 * First what is long lived leaves what is not.  Then heavy sites of which nothing is known get
 * places of their own; but for the heaviest, which is nearly alone where it is as soon as the
 * others have left, and goes on using what they leave.
 */
static void give_places(uint64_t used, uint32_t nr_threads)
{
	const struct site *stays = heaviest();
	struct site *s;

	for (unsigned i = 0; i < NR_SITES; i++) {
		s = &sites.table[i];
		if (s->site != 0 && s->lifetime == SITES_LONG && s->place == PLACE_ANY &&
		    !may_be_wrapper(s))
			(void)give_place(s, PLACE_LONG, used, nr_threads);
	}
	while ((s = next_to_part(stays)) != NULL &&
	       give_place(s, place_for(s), used, nr_threads))
		;
}

static void halve(void)
{
	for (unsigned i = 0; i < NR_SITES; i++) {
		struct site *s = &sites.table[i];

		/* No page of the table is touched for nothing. */
		if (s->site == 0)
			continue;
		s->nr_bytes /= 2;
		for (unsigned cls = 0; cls < NR_CLASSES; cls++)
			s->nr_of[cls] /= 2;
		s->error /= 2;
	}
	sites.window /= 2;
}

/*
 * A site that goes to another place leaves room behind as its old objects die.  In a heap that
 * grows others use it up; in one that does not nobody would, and nothing is gained: what comes
 * takes the place of what goes.
 */
static void note_growth(uint64_t used)
{
	uint64_t allocated = sites.clock - sites.grown_at;
	bool grows = used >= sites.grown_from + allocated / GROWS_BY;

	/* So far; that it began to is believed after a while. */
	if (grows && allocated < used / GROWTH_FRACTION)
		return;
	restart_growth(used, grows, used < sites.grown_from + allocated / STILL_BY);
}

static void look(void)
{
	uint64_t cached, used = measure(&cached);
	uint64_t held = used > cached ? used - cached : 0;
	/* Forgotten when eight times as much was allocated. */
	uint64_t forgotten = (sites.clock - sites.last_look) / 8;

	sites.peak = sites.peak > forgotten ? sites.peak - forgotten : 0;
	sites.peak = sites.peak > used ? sites.peak : used;
	note_growth(held);
	sites.last_look = sites.clock;
	sites.next_look = sites.clock + (used / LOOK_FRACTION > LOOK_BYTES_MIN
						 ? used / LOOK_FRACTION
						 : LOOK_BYTES_MIN);
	if (sites.peak < from_bytes)
		return;
	if (sites.clock >= sites.next_judge)
		judge(held);
	merge_and_split();
	reclaim_places();
	if (used >= from_bytes) {
		if (sites.grows)
			give_places(used, limits_threads());
		give_blocks(used);
	}
	/* What was long ago counts half. */
	if (sites.window >= sites.peak)
		halve();
}

COLD void sites_note(struct sites_caller *caller, unsigned cls, size_t nr_bytes)
{
	struct site *s;

	/* Somebody else is at it: one refill of many is missed by the clock alone. */
	if (!lock_try(&sites.lock, LOCK_SITES)) {
		atomic_fetch_add_explicit(&missed_bytes, nr_bytes, memory_order_relaxed);
		return;
	}
	if (unlikely(atomic_load_explicit(&missed_bytes, memory_order_relaxed) != 0))
		sites.clock +=
			atomic_exchange_explicit(&missed_bytes, 0, memory_order_relaxed);
	s = site_entry(caller->site);
	s->nr_bytes += nr_bytes;
	s->nr_of[cls] += (uint32_t)(nr_bytes / class_info[cls].bytes);
	s->classes[cls / 64] |= (uint64_t)1 << cls % 64;
	watch_callers(s, caller);
	sites.places[s->place].allocated += nr_bytes;
	sites.clock += nr_bytes;
	sites.window += nr_bytes;
	caller->watch = is_watch_due(s, cls, nr_bytes);
	if (unlikely(sites.clock >= sites.next_look))
		look();
	lock_release(&sites.lock, LOCK_SITES);
}

/* --- allocation ----------------------------------------------------------------------------- */

void *sites_malloc(size_t size, struct sites_caller *caller)
{
	return slow_malloc_at(size, sites_look_through(caller), caller);
}

/* --- views and fork --------------------------------------------------------------------------- */

void sites_stats_read(struct sites_stats *out)
{
	memset(out, 0, sizeof(*out));
	lock_acquire(&sites.lock, LOCK_SITES);
	out->clock_bytes = sites.clock;
	out->nr_collisions = sites.nr_collisions;
	out->nr_replaced = sites.nr_replaced;
	out->nr_merges = sites.nr_merges;
	out->nr_splits = sites.nr_splits;
	out->nr_born = sites.nr_born;
	out->nr_died = sites.nr_died;
	out->nr_watched = sites.nr_watched;
	out->peak_bytes = sites.peak;
	out->apart_bytes = sites.apart_bytes;
	for (unsigned i = 0; i < NR_SITES; i++) {
		const struct site *s = &sites.table[i];

		out->nr_sites += s->site != 0;
		out->nr_wrappers += s->is_wrapper;
		out->nr_short += s->site != 0 && s->lifetime == SITES_SHORT;
		out->nr_long += s->site != 0 && s->lifetime == SITES_LONG;
	}
	for (unsigned i = 0; i < NR_PLACES; i++) {
		out->nr_places += sites.places[i].given;
		out->place[i] = (struct sites_place_view){
			.allocated_bytes = sites.places[i].allocated,
			.live_bytes = sites.places[i].live,
			.nr_sites = sites.places[i].nr_sites,
		};
	}
	lock_release(&sites.lock, LOCK_SITES);
}

void sites_fork_prepare(void)
{
	lock_acquire(&sites.lock, LOCK_SITES);
}

void sites_fork_parent(void)
{
	lock_release(&sites.lock, LOCK_SITES);
}

void sites_fork_child(void)
{
	lock_reset(&sites.lock);
}
