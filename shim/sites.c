/* Sites and their places; see sites.h. */
#include "shim/sites.h"

#include "shim/limits.h"
#include "shim/slabs.h"
#include "shim/slow.h"

#include <errno.h>
#include <string.h>

#define NR_SETS 64u
#define NR_WAYS 4u
#define NR_WRAPPERS 8u
/* How far up the stack the return address of a wrapper's caller is looked for, in words. */
#define WRAPPER_FRAME_MAX 32u
/* Classes that must have come through one address before it is thought a wrapper. */
#define WRAPPER_CLASSES 6u
/* Wrappers within wrappers. */
#define WRAPPER_DEPTH 2u
/* A look at all sites each time the heap has grown by 1 / this, and at least LOOK_BYTES_MIN. */
#define LOOK_FRACTION 32u
#define LOOK_BYTES_MIN ((uint64_t)1 << 20)
/* A site that grows by less than 1 / this of all growth is not worth a place. */
#define SHARE_FRACTION 64u
/* What one more class in one more place of one thread costs: about one batch and a page. */
#define APART_BYTES ((uint64_t)16384)
/* And how much all of it may be, as a part of what is in use: 2 %. */
#define APART_FRACTION 50u
/* Survival, in percent of what was allocated, that makes a place short or long lived. */
#define SHORT_BELOW 10u
#define LONG_FROM 60u
#define LOOKS_TO_JUDGE 4u

/* Refills of a site after which it is known whether several call, and how many of them all
 * but the first caller must have. */
#define CALLER_SAMPLES 128u
#define CALLER_OTHERS 4u

struct site {
	uintptr_t site;
	uint64_t nr_bytes; /* growth, halved now and then; with what it took over (Space-Saving) */
	uint64_t error;    /* the part that may be another's */
	uint64_t classes[2];
	uint8_t place;
	bool is_wrapper, never_wrapper;
	int8_t up; /* -1: not looked for */
	uint8_t nr_samples;
	uintptr_t first_caller;
	uint8_t nr_others;
};

struct wrapper {
	_Atomic uintptr_t site; /* 0: none; published last */
	_Atomic uint32_t up;    /* words from the caller's stack to the return address */
};

struct place {
	uint64_t allocated;      /* by refills */
	uint64_t allocated_then; /* at the last look */
	uint64_t live_then;
	uint32_t survival; /* percent, smoothed */
	uint32_t nr_looks;
	uint16_t nr_sites;
	bool given;
};

_Atomic uint8_t sites_place[SITES_KEYS];

static bool on; /* written before there are threads */
static size_t from_bytes;
static struct wrapper wrappers[NR_WRAPPERS];

/* Under its lock. */
static struct sites {
	struct lock lock;
	struct site table[NR_SETS * NR_WAYS]; /* a set is NR_WAYS in a row */
	struct place places[NR_PLACES];
	uint64_t clock;     /* bytes refilled since the start: the allocation clock */
	uint64_t next_look; /* on the clock */
	uint64_t window;    /* what the sites' nr_bytes are a part of */
	uint64_t nr_collisions, nr_replaced;
	uint64_t apart_bytes; /* what keeping apart costs, as estimated */
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

void sites_init(size_t from)
{
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

static unsigned key_place(uintptr_t site)
{
	return atomic_load_explicit(&sites_place[sites_key(site)], memory_order_relaxed);
}

/* --- wrappers --------------------------------------------------------------------------- */

static const struct wrapper *wrapper_of(uintptr_t site)
{
	for (unsigned i = 0; i < NR_WRAPPERS; i++) {
		/* Acquire: pairs with the release in wrapper_add(), publishes up. */
		uintptr_t is = atomic_load_explicit(&wrappers[i].site, memory_order_acquire);

		if (is == site)
			return &wrappers[i];
		if (is == 0)
			break;
	}
	return NULL;
}

/* The site behind wrappers: their caller's. */
static void look_through(struct sites_caller *caller)
{
	while (caller->depth < WRAPPER_DEPTH && key_place(caller->site) == PLACE_WRAPPED) {
		const struct wrapper *w = wrapper_of(caller->site);

		if (w == NULL)
			break;
		/* Relaxed: published with site. */
		caller->site = caller->stack[atomic_load_explicit(&w->up, memory_order_relaxed)];
		caller->depth++;
	}
}

/* Whether the bytes before an address are a call of the function that holds `inside`, or,
 * unless strictly, of anything. */
static bool follows_call(uintptr_t at, uintptr_t inside, bool strictly)
{
	const unsigned char *p = (const unsigned char *)at;

	if (at < PAGE_BYTES || at >> ADDRESS_BITS != 0 || !os_readable(p - 8) ||
	    !os_readable(p - 1))
		return false;
	if (p[-5] == 0xe8) { /* call rel32 */
		int32_t rel;
		uintptr_t target;

		memcpy(&rel, p - 4, sizeof(rel));
		target = at + (uintptr_t)(intptr_t)rel;
		if (target < inside && inside - target < 65536)
			return true;
		return !strictly && os_readable((const void *)target);
	}
	if (strictly)
		return false;
	return (p[-6] == 0xff && p[-5] == 0x15) ||       /* call *rel32(%rip) */
	       (p[-2] == 0xff && (p[-1] & 0xf8) == 0xd0) || /* call *%reg */
	       (p[-3] == 0xff && (p[-2] & 0x38) == 0x10);   /* call *disp8(%reg) */
}

/* Where the return address of the caller of the function that holds the site stands, in
 * words from its stack at the call; -1: not found. */
static int find_up(uintptr_t site, const uintptr_t *stack)
{
	for (unsigned strictly = 2; strictly-- > 0;) {
		for (unsigned i = 0; i < WRAPPER_FRAME_MAX; i++) {
			if (stack[i] != site && follows_call(stack[i], site, strictly))
				return (int)i;
		}
	}
	return -1;
}

static bool wrapper_add(uintptr_t site, int up)
{
	for (unsigned i = 0; i < NR_WRAPPERS; i++) {
		if (atomic_load_explicit(&wrappers[i].site, memory_order_relaxed) != 0)
			continue;
		atomic_store_explicit(&wrappers[i].up, (uint32_t)up, memory_order_relaxed);
		/* Release: pairs with the acquire in wrapper_of(). */
		atomic_store_explicit(&wrappers[i].site, site, memory_order_release);
		return true;
	}
	return false;
}

/* --- the table of sites ------------------------------------------------------------------- */

static struct site *set_of(uintptr_t site)
{
	return &sites.table[((site * 0x9E3779B97F4A7C15u) >> 58) * NR_WAYS];
}

/* The site's entry, which takes the place of the set's smallest when it is new. */
static struct site *site_entry(uintptr_t site)
{
	struct site *set = set_of(site), *least = &set[0];

	for (unsigned i = 0; i < NR_WAYS; i++) {
		if (set[i].site == site)
			return &set[i];
		if (set[i].nr_bytes < least->nr_bytes)
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
	if (key_place(site) != PLACE_ANY)
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
	if (place != PLACE_ANY)
		sites.places[place].nr_sites++;
	set_key(s->site, place);
}

/* --- looking at all of it ------------------------------------------------------------------ */

/* The place's bytes that the program holds or that are cached for it. */
static void measure(uint64_t live[NR_PLACES])
{
	memset(live, 0, NR_PLACES * sizeof(live[0]));
	sites.apart_bytes = 0;
	for (struct heap *h = heap_first(); h != NULL; h = h->next_all) {
		if (h->nr_slabs == 0)
			continue;
		lock_acquire(&h->lock, LOCK_HEAP);
		for (unsigned cls = 0; cls < NR_CLASSES; cls++) {
			const struct class_info *ci = &class_info[cls];
			uint64_t nr = slabs_count(&h->classes[cls]);

			live[h->place] +=
				(nr * ci->nr_objects - h->classes[cls].nr_free) * ci->bytes;
			if (h->place != PLACE_ANY && nr != 0)
				sites.apart_bytes += APART_BYTES;
		}
		lock_release(&h->lock, LOCK_HEAP);
	}
}

static enum sites_lifetime lifetime_of(const struct place *p)
{
	if (p->nr_looks < LOOKS_TO_JUDGE)
		return SITES_UNKNOWN;
	if (p->survival < SHORT_BELOW)
		return SITES_SHORT;
	return p->survival >= LONG_FROM ? SITES_LONG : SITES_UNKNOWN;
}

static void learn(struct place *p, uint64_t live)
{
	uint64_t allocated = p->allocated - p->allocated_then;
	uint64_t grown = live > p->live_then ? live - p->live_then : 0;
	uint32_t percent;

	if (allocated < LOOK_BYTES_MIN / 4) {
		if (live < p->live_then)
			p->live_then = live;
		return;
	}
	percent = grown >= allocated ? 100 : (uint32_t)(grown * 100 / allocated);
	p->survival = p->nr_looks == 0 ? percent : (p->survival * 3 + percent) / 4;
	p->nr_looks++;
	p->allocated_then = p->allocated;
	p->live_then = live;
}

static unsigned free_place(void)
{
	for (unsigned place = 1; place < PLACE_WRAPPED; place++) {
		if (!sites.places[place].given)
			return place;
	}
	return PLACE_ANY;
}

/* Frees a place: the sites of one join those of another that live alike. */
static unsigned merge(void)
{
	unsigned least[2] = { PLACE_ANY, PLACE_ANY };

	for (unsigned want = SITES_SHORT; want <= SITES_LONG; want++) {
		least[0] = least[1] = PLACE_ANY;
		for (unsigned i = 1; i < PLACE_WRAPPED; i++) {
			if (!sites.places[i].given || lifetime_of(&sites.places[i]) != want)
				continue;
			if (least[0] == PLACE_ANY || sites.places[i].live_then < sites.places[least[0]].live_then) {
				least[1] = least[0];
				least[0] = i;
			} else if (least[1] == PLACE_ANY) {
				least[1] = i;
			}
		}
		if (least[1] != PLACE_ANY)
			break;
	}
	if (least[1] == PLACE_ANY)
		return PLACE_ANY;
	for (unsigned i = 0; i < NR_SETS * NR_WAYS; i++) {
		struct site *s = &sites.table[i];

		if (s->site != 0 && s->place == least[0])
			site_move(s, least[1]);
	}
	sites.nr_merges++;
	sites.places[least[0]] = (struct place){ .given = false };
	return least[0];
}

/* Places whose sites are all forgotten are free again. */
static void reclaim_places(void)
{
	for (unsigned i = 1; i < PLACE_WRAPPED; i++) {
		if (sites.places[i].given && sites.places[i].nr_sites == 0)
			sites.places[i] = (struct place){ .given = false };
	}
}

static bool give_place(struct site *s, uint64_t used, uint32_t nr_threads)
{
	uint64_t cost = nr_classes(s) * APART_BYTES * nr_threads;
	unsigned place;

	if (sites.apart_bytes + cost > used / APART_FRACTION)
		return false;
	place = free_place();
	if (place == PLACE_ANY)
		place = merge();
	if (place == PLACE_ANY)
		return false;
	sites.places[place] = (struct place){ .given = true };
	sites.apart_bytes += cost;
	site_move(s, place);
	return true;
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
	from = caller->stack[s->up];
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

/* A place with several sites that neither stay nor go: the largest goes its own way. */
static void split(uint64_t used, uint32_t nr_threads)
{
	for (unsigned i = 1; i < PLACE_WRAPPED; i++) {
		struct site *largest = NULL;

		if (sites.places[i].nr_sites < 2 || sites.places[i].nr_looks < 2 * LOOKS_TO_JUDGE ||
		    lifetime_of(&sites.places[i]) != SITES_UNKNOWN || free_place() == PLACE_ANY)
			continue;
		for (unsigned k = 0; k < NR_SETS * NR_WAYS; k++) {
			struct site *s = &sites.table[k];

			if (s->site != 0 && s->place == i &&
			    (largest == NULL || s->nr_bytes > largest->nr_bytes))
				largest = s;
		}
		if (largest != NULL && give_place(largest, used, nr_threads))
			sites.nr_splits++;
		sites.places[i].nr_looks = 0;
	}
}

/* Whether the site grows so much that it is worth a place. */
static bool is_heavy(const struct site *s)
{
	return s->site != 0 && !s->is_wrapper &&
	       s->nr_bytes - s->error >= sites.window / SHARE_FRACTION;
}

/*
 * Places for the heavy sites that have none, the heaviest last: while the others have theirs
 * it is nearly alone where it is.
 */
static void give_places(uint64_t used, uint32_t nr_threads)
{
	struct site *heaviest = NULL;

	for (unsigned i = 0; i < NR_SETS * NR_WAYS; i++) {
		struct site *s = &sites.table[i];

		if (is_heavy(s) && (heaviest == NULL || s->nr_bytes > heaviest->nr_bytes))
			heaviest = s;
	}
	for (unsigned i = 0; heaviest != NULL && i <= NR_SETS * NR_WAYS; i++) {
		struct site *s = i == NR_SETS * NR_WAYS ? heaviest
							: &sites.table[i];

		if (s->place != PLACE_ANY || !is_heavy(s) || may_be_wrapper(s) ||
		    (s == heaviest && i < NR_SETS * NR_WAYS))
			continue;
		(void)give_place(s, used, nr_threads);
	}
}

static void look(void)
{
	uint64_t live[NR_PLACES], used = 0;
	uint32_t nr_threads = limits_threads();

	measure(live);
	for (unsigned i = 0; i < NR_PLACES; i++) {
		used += live[i];
		learn(&sites.places[i], live[i]);
	}
	sites.next_look = sites.clock + (used / LOOK_FRACTION > LOOK_BYTES_MIN
					     ? used / LOOK_FRACTION
					     : LOOK_BYTES_MIN);
	if (used < from_bytes)
		return;
	reclaim_places();
	give_places(used, nr_threads);
	split(used, nr_threads);
	if (sites.window < used)
		return;
	/* What was long ago counts half. */
	for (unsigned i = 0; i < NR_SETS * NR_WAYS; i++) {
		sites.table[i].nr_bytes /= 2;
		sites.table[i].error /= 2;
	}
	sites.window /= 2;
}

COLD void sites_note(const struct sites_caller *caller, unsigned cls, size_t nr_bytes)
{
	struct site *s;

	/* Somebody else is at it: one refill of many is not missed. */
	if (!lock_try(&sites.lock, LOCK_SITES))
		return;
	s = site_entry(caller->site);
	s->nr_bytes += nr_bytes;
	s->classes[cls / 64] |= (uint64_t)1 << cls % 64;
	watch_callers(s, caller);
	sites.places[s->place].allocated += nr_bytes;
	sites.clock += nr_bytes;
	sites.window += nr_bytes;
	if (unlikely(sites.clock >= sites.next_look))
		look();
	lock_release(&sites.lock, LOCK_SITES);
}

/* --- allocation ----------------------------------------------------------------------------- */

void *sites_malloc(size_t size, struct sites_caller caller)
{
	unsigned place = key_place(caller.site);

	if (unlikely(place == PLACE_WRAPPED)) {
		look_through(&caller);
		place = key_place(caller.site);
		if (unlikely(place == PLACE_WRAPPED))
			place = PLACE_ANY;
	}
	return slow_malloc_at(size, place, &caller);
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
	for (unsigned i = 0; i < NR_SETS * NR_WAYS; i++) {
		const struct site *s = &sites.table[i];

		out->nr_sites += s->site != 0;
		out->nr_wrappers += s->is_wrapper;
	}
	for (unsigned i = 0; i < NR_PLACES; i++) {
		out->nr_places += sites.places[i].given;
		out->place[i] = (struct sites_place_view){
			.allocated_bytes = sites.places[i].allocated,
			.live_bytes = sites.places[i].live_then,
			.nr_sites = sites.places[i].nr_sites,
			.survival_percent = sites.places[i].survival,
			.nr_looks = sites.places[i].nr_looks,
			.lifetime = lifetime_of(&sites.places[i]),
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
