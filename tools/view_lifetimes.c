/* pageblock lifetimes PID: which places in the code are kept apart, and what that brings. */
#include "tools/symbols.h"
#include "tools/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACES_MAX 64u
#define SITES_MAX 4096u
#define SITES_SHOWN 20u

/* Where things are in sites.c's structures, in the library that is looked into. */
struct sites_layout {
#define TYPE(type) uint32_t sizeof_##type;
#define FIELD(type, field) struct place type##_##field;
#define CONSTANT(name, value) uint64_t name;
#include "shim/sites_inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
};

struct site_view {
	uint64_t address, bytes, error, lifetime, survival, nr_deaths, nr_watched;
	unsigned place, nr_classes;
	bool is_wrapper;
};

struct place_sum {
	uint64_t allocated, nr_sites;
	unsigned nr_short, nr_long, nr_unknown; /* its sites */
	bool given;
};

struct lifetimes {
	struct sites_layout at;
	uint64_t clock, window, peak, survival, nr_collisions, nr_replaced, apart_bytes;
	uint64_t nr_born, nr_died, nr_watched, nr_merges, nr_splits;
	struct place_sum places[PLACES_MAX];
	struct site_view sites[SITES_MAX];
	size_t nr_sites;
};

static bool find(const struct reader *r, const char *name, enum inspect_kind kind,
		 struct inspect_item *item)
{
	return reader_find(r, name, item) && item->kind == kind;
}

/* False: the library has no sites, or others than are known here. */
static bool find_layout(const struct reader *r, struct sites_layout *at)
{
	struct inspect_item item;

#define TYPE(type)                                                                             \
	if (!find(r, #type, INSPECT_TYPE, &item))                                              \
		return false;                                                                  \
	at->sizeof_##type = item.size;
#define FIELD(type, field)                                                                     \
	if (!find(r, #type "." #field, INSPECT_FIELD, &item))                                  \
		return false;                                                                  \
	at->type##_##field = (struct place){ (uint32_t)item.value, item.size };
#define CONSTANT(name, number)                                                                 \
	if (!find(r, #name, INSPECT_CONSTANT, &item))                                          \
		return false;                                                                  \
	at->name = item.value;
#include "shim/sites_inspect.def"
#undef TYPE
#undef FIELD
#undef CONSTANT
	return at->nr_places <= PLACES_MAX && at->nr_sites <= SITES_MAX;
}

static int by_bytes(const void *a, const void *b)
{
	const struct site_view *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static unsigned count_bits(const char *bytes, size_t nr)
{
	unsigned n = 0;

	for (size_t i = 0; i < nr; i++)
		n += (unsigned)__builtin_popcount((unsigned char)bytes[i]);
	return n;
}

static void take_places(struct lifetimes *l, const char *copy)
{
	for (size_t i = 0; i < l->at.nr_places; i++) {
		const char *p = copy + l->at.sites_places.offset + i * l->at.sizeof_place;

		l->places[i] = (struct place_sum){
			.allocated = get(p, l->at.place_allocated),
			.nr_sites = get(p, l->at.place_nr_sites),
			.given = get(p, l->at.place_given) != 0,
		};
	}
}

static void take_site(struct lifetimes *l, const char *s)
{
	uint64_t place = get(s, l->at.site_place);
	struct site_view *site = &l->sites[l->nr_sites];

	if (get(s, l->at.site_site) == 0 || place >= l->at.nr_places)
		return;
	*site = (struct site_view){
		.address = get(s, l->at.site_site),
		.bytes = get(s, l->at.site_nr_bytes),
		.error = get(s, l->at.site_error),
		.lifetime = get(s, l->at.site_lifetime),
		.survival = get(s + l->at.site_survival.offset, l->at.survival_percent),
		.nr_deaths = get(s + l->at.site_survival.offset, l->at.survival_nr_dead),
		.nr_watched = get(s + l->at.site_survival.offset, l->at.survival_nr_living),
		.place = (unsigned)place,
		.nr_classes = count_bits(s + l->at.site_classes.offset, l->at.site_classes.size),
		.is_wrapper = get(s, l->at.site_is_wrapper) != 0,
	};
	l->nr_sites++;
	if (site->is_wrapper)
		return;
	l->places[place].nr_short += site->lifetime == l->at.sites_lifetime_short;
	l->places[place].nr_long += site->lifetime == l->at.sites_lifetime_long;
	l->places[place].nr_unknown += site->lifetime != l->at.sites_lifetime_short &&
				       site->lifetime != l->at.sites_lifetime_long;
}

static void take_sites(struct lifetimes *l, const char *copy)
{
	for (size_t i = 0; i < l->at.nr_sites; i++)
		take_site(l, copy + l->at.sites_table.offset + i * l->at.sizeof_site);
	qsort(l->sites, l->nr_sites, sizeof(l->sites[0]), by_bytes);
}

/* 0, or an exit status after a complaint. */
static int take(struct lifetimes *l, struct reader *r)
{
	uint64_t nr_bytes, address = reader_object(r, "sites", &nr_bytes);
	char *copy;

	if (address == 0) {
		complain(r->verb, "process %d runs with lifetime:off", (int)r->pid);
		return EXIT_REFUSED;
	}
	if (!find_layout(r, &l->at) || l->at.sizeof_sites != nr_bytes ||
	    l->at.sites_table.size < l->at.nr_sites * l->at.sizeof_site ||
	    l->at.sites_places.size < l->at.nr_places * l->at.sizeof_place)
		return reader_garbled(r, "sites of another form");
	copy = malloc(nr_bytes);
	/* A table that does not come to rest is shown as it was last seen. */
	if (copy == NULL || reader_read_locked(r, address + l->at.sites_lock.offset, address,
					       copy, nr_bytes) == READ_FAILED) {
		free(copy);
		return reader_why(r);
	}
	l->clock = get(copy, l->at.sites_clock);
	l->window = get(copy, l->at.sites_window);
	l->nr_collisions = get(copy, l->at.sites_nr_collisions);
	l->nr_replaced = get(copy, l->at.sites_nr_replaced);
	l->apart_bytes = get(copy, l->at.sites_apart_bytes);
	l->peak = get(copy, l->at.sites_peak);
	l->survival = get(copy, l->at.sites_survival);
	l->nr_born = get(copy, l->at.sites_nr_born);
	l->nr_died = get(copy, l->at.sites_nr_died);
	l->nr_watched = get(copy, l->at.sites_nr_watched);
	l->nr_merges = get(copy, l->at.sites_nr_merges);
	l->nr_splits = get(copy, l->at.sites_nr_splits);
	take_places(l, copy);
	take_sites(l, copy);
	free(copy);
	return 0;
}

static const char *lifetime_of(const struct lifetimes *l, const struct site_view *s)
{
	return s->lifetime == l->at.sites_lifetime_short  ? "short"
	       : s->lifetime == l->at.sites_lifetime_long ? "long"
							  : "unknown";
}

/* Of a place: what its sites are, if they are alike. */
static const char *lifetime_of_place(const struct place_sum *p)
{
	if (p->nr_short + p->nr_long + p->nr_unknown == 0)
		return "none";
	if (p->nr_short + p->nr_unknown == 0)
		return "long";
	if (p->nr_long + p->nr_unknown == 0)
		return "short";
	return p->nr_short + p->nr_long == 0 ? "unknown" : "mixed";
}

/* How sure: by how many objects were seen to die, or live. */
static const char *confidence_of(const struct lifetimes *l, const struct site_view *s)
{
	uint64_t seen = s->nr_deaths + s->nr_watched;

	if (lifetime_of(l, s)[0] == 'u' || seen < l->at.sites_evidence_min)
		return "none";
	return seen < 4 * l->at.sites_evidence_min ? "low" : "high";
}

/* Slabs with nothing in them go; what is half full is what separation did not bring. */
static double fullness(const struct place_view *now)
{
	return now->slabs == 0 ? 0.0 : 100.0 * (double)now->live / (double)now->slabs;
}

static double share(const struct lifetimes *l, const struct site_view *s)
{
	return l->window == 0 ? 0.0 : 100.0 * (double)(s->bytes - s->error) / (double)l->window;
}

static void text_places(const struct view *v, const struct lifetimes *l)
{
	char a[24], b[24], c[24];

	printf("%5s  %-8s %5s %11s %11s %11s  %s\n", "place", "lifetime", "sites", "allocated",
	       "slabs", "live", "full");
	for (size_t i = 0; i < l->at.nr_places; i++) {
		const struct place_sum *p = &l->places[i];
		const struct place_view *now = &v->s.places[i];

		if (!p->given && now->slabs == 0)
			continue;
		printf("%5zu  %-8s %5u %11s %11s %11s  %3.0f %%\n", i, lifetime_of_place(p),
		       p->nr_short + p->nr_long + p->nr_unknown, human_bytes(a, p->allocated),
		       human_bytes(b, now->slabs), human_bytes(c, now->live), fullness(now));
	}
}

static void text_sites(const struct lifetimes *l, struct symbols *symbols)
{
	printf("\n%5s  %-8s %-10s %9s %7s %7s %7s %7s  %s\n", "place", "lifetime", "confidence",
	       "survival", "died", "watched", "growth", "classes", "site");
	for (size_t i = 0; i < l->nr_sites && i < SITES_SHOWN; i++) {
		const struct site_view *s = &l->sites[i];

		if (s->is_wrapper) {
			printf("%5s  %-60s %s (a wrapper, looked through)\n", "-", "",
			       symbols_name(symbols, s->address));
			continue;
		}
		printf("%5u  %-8s %-10s %7llu %% %7llu %7llu %5.1f %% %7u  %s\n", s->place,
		       lifetime_of(l, s), confidence_of(l, s), (unsigned long long)s->survival,
		       (unsigned long long)s->nr_deaths, (unsigned long long)s->nr_watched,
		       share(l, s), s->nr_classes, symbols_name(symbols, s->address));
	}
}

static void text(const struct view *v, struct lifetimes *l, struct symbols *symbols)
{
	char a[24], b[24], c[24];

	printf("%s (%d): %s allocated since the start, at most %s in use lately\n"
	       "%zu sites known, %llu forgotten, %llu collisions; %llu objects watched so far, "
	       "%llu of them died, %llu are watched now\n"
	       "%llu %% of what is allocated lives until as much was allocated as was in use; "
	       "%llu merges, %llu splits\n"
	       "keeping apart costs about %s\n\n",
	       v->reader.name, (int)v->reader.pid, human_bytes(a, l->clock),
	       human_bytes(c, l->peak), l->nr_sites, (unsigned long long)l->nr_replaced,
	       (unsigned long long)l->nr_collisions, (unsigned long long)l->nr_born,
	       (unsigned long long)l->nr_died, (unsigned long long)l->nr_watched,
	       (unsigned long long)l->survival, (unsigned long long)l->nr_merges,
	       (unsigned long long)l->nr_splits, human_bytes(b, l->apart_bytes));
	text_places(v, l);
	text_sites(l, symbols);
}

static void json_places(const struct view *v, const struct lifetimes *l)
{
	json_array("places");
	for (size_t i = 0; i < l->at.nr_places; i++) {
		const struct place_sum *p = &l->places[i];

		if (!p->given && v->s.places[i].slabs == 0)
			continue;
		json_object(NULL);
		json_number("place", i);
		json_string("lifetime", lifetime_of_place(p));
		json_number("sites", p->nr_sites);
		json_number("allocated_bytes", p->allocated);
		json_number("slab_bytes", v->s.places[i].slabs);
		json_number("live_bytes", v->s.places[i].live);
		json_end();
	}
	json_end();
}

static void json_sites(const struct lifetimes *l, struct symbols *symbols)
{
	json_array("sites");
	for (size_t i = 0; i < l->nr_sites; i++) {
		const struct site_view *s = &l->sites[i];

		json_object(NULL);
		json_string("site", symbols_name(symbols, s->address));
		json_number("address", s->address);
		json_number("grown_bytes", s->bytes);
		json_number("grown_bytes_error", s->error);
		json_number("classes", s->nr_classes);
		json_number("place", s->place);
		json_bool("wrapper", s->is_wrapper);
		json_string("lifetime", lifetime_of(l, s));
		json_string("confidence", confidence_of(l, s));
		json_number("survival_percent", s->survival);
		json_number("died", s->nr_deaths);
		json_number("watched", s->nr_watched);
		json_end();
	}
	json_end();
}

static void json(const struct view *v, struct lifetimes *l, struct symbols *symbols)
{
	view_json_begin(v);
	json_number("clock_bytes", l->clock);
	json_number("peak_bytes", l->peak);
	json_number("survival_percent", l->survival);
	json_number("collisions", l->nr_collisions);
	json_number("forgotten", l->nr_replaced);
	json_number("watched_so_far", l->nr_born);
	json_number("watched_died", l->nr_died);
	json_number("watched_now", l->nr_watched);
	json_number("merges", l->nr_merges);
	json_number("splits", l->nr_splits);
	json_number("apart_bytes", l->apart_bytes);
	json_places(v, l);
	json_sites(l, symbols);
	json_end();
}

int verb_lifetimes(const struct verb *verb, int argc, char **argv)
{
	static struct lifetimes l;
	struct view v;
	struct symbols *symbols;
	int status = view_begin(&v, verb, argc, argv, 0);

	if (status != 0)
		return status;
	status = take(&l, &v.reader);
	symbols = status == 0 ? symbols_open(v.reader.pid) : NULL;
	if (symbols != NULL) {
		uint64_t addresses[SITES_MAX];

		for (size_t i = 0; i < l.nr_sites; i++)
			addresses[i] = l.sites[i].address;
		symbols_prepare(symbols, addresses, v.json ? l.nr_sites : l.nr_sites < SITES_SHOWN
									      ? l.nr_sites
									      : SITES_SHOWN);
		(v.json ? json : text)(&v, &l, symbols);
		symbols_close(symbols);
	} else if (status == 0) {
		complain(verb, "out of memory");
		status = 1;
	}
	if (status == 0)
		return view_end(&v);
	(void)view_end(&v);
	return status;
}
