/* pageblock lifetimes PID: which places in the code are kept apart, and what that brings. */
#include "tools/symbols.h"
#include "tools/view.h"

#include <stdio.h>
#include <stdlib.h>

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
	uint64_t address, bytes, error;
	unsigned place, nr_classes;
	bool is_wrapper;
};

struct place_sum {
	uint64_t allocated, survival, nr_looks, nr_sites;
	bool given;
};

struct lifetimes {
	struct sites_layout at;
	uint64_t clock, window, nr_collisions, nr_replaced, apart_bytes, nr_merges, nr_splits;
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
			.survival = get(p, l->at.place_survival),
			.nr_looks = get(p, l->at.place_nr_looks),
			.nr_sites = get(p, l->at.place_nr_sites),
			.given = get(p, l->at.place_given) != 0,
		};
	}
}

static void take_sites(struct lifetimes *l, const char *copy)
{
	for (size_t i = 0; i < l->at.nr_sites; i++) {
		const char *s = copy + l->at.sites_table.offset + i * l->at.sizeof_site;
		uint64_t place = get(s, l->at.site_place);

		if (get(s, l->at.site_site) == 0 || place >= l->at.nr_places)
			continue;
		l->sites[l->nr_sites++] = (struct site_view){
			.address = get(s, l->at.site_site),
			.bytes = get(s, l->at.site_nr_bytes),
			.error = get(s, l->at.site_error),
			.place = (unsigned)place,
			.nr_classes = count_bits(s + l->at.site_classes.offset,
						 l->at.site_classes.size),
			.is_wrapper = get(s, l->at.site_is_wrapper) != 0,
		};
	}
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
	l->nr_merges = get(copy, l->at.sites_nr_merges);
	l->nr_splits = get(copy, l->at.sites_nr_splits);
	take_places(l, copy);
	take_sites(l, copy);
	free(copy);
	return 0;
}

static const char *lifetime_of(const struct lifetimes *l, const struct place_sum *p)
{
	if (p->nr_looks < l->at.sites_looks_to_judge)
		return "unknown";
	if (p->survival < l->at.sites_short_below)
		return "short";
	return p->survival >= l->at.sites_long_from ? "long" : "unknown";
}

/* How sure: by how often it was looked at. */
static const char *confidence_of(const struct lifetimes *l, const struct place_sum *p)
{
	if (p->nr_looks < l->at.sites_looks_to_judge)
		return "none";
	return p->nr_looks < 4 * l->at.sites_looks_to_judge ? "low" : "high";
}

static void text(const struct view *v, struct lifetimes *l, struct symbols *symbols)
{
	char a[24], b[24], c[24];

	printf("%s (%d): %s allocated since the start, %zu sites known, %llu forgotten, "
	       "%llu collisions, %llu merges, %llu splits\n"
	       "keeping apart costs about %s\n\n",
	       v->reader.name, (int)v->reader.pid, human_bytes(a, l->clock), l->nr_sites,
	       (unsigned long long)l->nr_replaced, (unsigned long long)l->nr_collisions,
	       (unsigned long long)l->nr_merges, (unsigned long long)l->nr_splits,
	       human_bytes(b, l->apart_bytes));
	printf("%5s  %-8s %-10s %9s %11s %11s %11s  %s\n", "place", "lifetime", "confidence",
	       "survival", "allocated", "slabs", "live", "full");
	for (size_t i = 0; i < l->at.nr_places; i++) {
		const struct place_sum *p = &l->places[i];
		const struct place_view *now = &v->s.places[i];

		if (!p->given && now->slabs == 0)
			continue;
		printf("%5zu  %-8s %-10s %7llu %% %11s %11s %11s  %3.0f %%\n", i,
		       lifetime_of(l, p), confidence_of(l, p), (unsigned long long)p->survival,
		       human_bytes(a, p->allocated), human_bytes(b, now->slabs),
		       human_bytes(c, now->live),
		       now->slabs == 0 ? 0.0 : 100.0 * (double)now->live / (double)now->slabs);
	}
	printf("\n%5s %7s %8s  %s\n", "place", "growth", "classes", "site");
	for (size_t i = 0; i < l->nr_sites && i < SITES_SHOWN; i++) {
		const struct site_view *s = &l->sites[i];

		if (s->is_wrapper)
			printf("%5s ", "-");
		else
			printf("%5u ", s->place);
		printf("%5.1f %% %8u  %s%s\n",
		       l->window == 0 ? 0.0
				      : 100.0 * (double)(s->bytes - s->error) / (double)l->window,
		       s->nr_classes, symbols_name(symbols, s->address),
		       s->is_wrapper ? " (a wrapper, looked through)" : "");
	}
}

static void json(const struct view *v, struct lifetimes *l, struct symbols *symbols)
{
	view_json_begin(v);
	json_number("clock_bytes", l->clock);
	json_number("collisions", l->nr_collisions);
	json_number("forgotten", l->nr_replaced);
	json_number("merges", l->nr_merges);
	json_number("splits", l->nr_splits);
	json_number("apart_bytes", l->apart_bytes);
	json_array("places");
	for (size_t i = 0; i < l->at.nr_places; i++) {
		const struct place_sum *p = &l->places[i];

		if (!p->given && v->s.places[i].slabs == 0)
			continue;
		json_object(NULL);
		json_number("place", i);
		json_string("lifetime", lifetime_of(l, p));
		json_string("confidence", confidence_of(l, p));
		json_number("survival_percent", p->survival);
		json_number("looks", p->nr_looks);
		json_number("sites", p->nr_sites);
		json_number("allocated_bytes", p->allocated);
		json_number("slab_bytes", v->s.places[i].slabs);
		json_number("live_bytes", v->s.places[i].live);
		json_end();
	}
	json_end();
	json_array("sites");
	for (size_t i = 0; i < l->nr_sites; i++) {
		json_object(NULL);
		json_string("site", symbols_name(symbols, l->sites[i].address));
		json_number("address", l->sites[i].address);
		json_number("grown_bytes", l->sites[i].bytes);
		json_number("grown_bytes_error", l->sites[i].error);
		json_number("classes", l->sites[i].nr_classes);
		json_number("place", l->sites[i].place);
		json_bool("wrapper", l->sites[i].is_wrapper);
		json_end();
	}
	json_end();
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
