/* Reading the samples of a process; see samples.h. */
#include "tools/samples.h"

#include <stdlib.h>
#include <time.h>

#define TRIES 5
/* More of anything than the library has room for. */
#define NR_MAX ((uint64_t)1 << 24)

double square_root(double x)
{
	double root = x > 1 ? x : 1;

	if (x <= 0)
		return 0;
	for (int i = 0; i < 200 && (root * root > x * 1.000001 || root * root < x * 0.999999);
	     i++)
		root = (root + x / root) / 2;
	return root;
}

double samples_error(const struct tally *t)
{
	double w = (double)t->weight;

	if (t->nr == 0)
		return 0;
	/* Of nr weights, each there with the chance bytes / weight. */
	return square_root(w * w / (double)t->nr * (1 - (double)t->bytes / w));
}

static struct tally tally_at(const char *site, struct place nr, struct place bytes,
			     struct place weight)
{
	return (struct tally){ get(site, nr), get(site, bytes), get(site, weight) };
}

static int take_sites(struct samples_view *v, struct reader *r, const char *copy, uint64_t peak)
{
	const struct layout *at = &r->at;

	for (size_t i = 1; i < v->nr_sites; i++) {
		const char *site = copy + i * at->sizeof_shim_site;
		struct site_view *s = &v->sites[i];

		s->live = tally_at(site, at->shim_site_nr_live, at->shim_site_bytes_live,
				   at->shim_site_weight_live);
		s->allocated =
			tally_at(site, at->shim_site_nr_allocated,
				 at->shim_site_bytes_allocated, at->shim_site_weight_allocated);
		s->peak = s->live;
		/* Only what changed since the latest peak was written down. */
		if (get(site, at->shim_site_peak) == peak)
			s->peak = tally_at(site, at->shim_site_nr_peak,
					   at->shim_site_bytes_peak, at->shim_site_weight_peak);
		s->stack = (uint32_t)get(site, at->shim_site_stack);
		s->first_frame = (uint32_t)get(site, at->shim_site_first_frame);
		s->nr_frames = (uint32_t)get(site, at->shim_site_nr_frames);
		if (s->stack == 0 || s->stack > i ||
		    (uint64_t)s->first_frame + s->nr_frames > v->nr_frames ||
		    s->live.nr > s->allocated.nr)
			return reader_garbled(r, "a site of samples");
	}
	return 0;
}

static int take_records(struct samples_view *v, struct reader *r, const char *copy, uint64_t nr)
{
	const struct layout *at = &r->at;

	for (size_t i = 1; i <= nr; i++) {
		const char *record = copy + i * at->sizeof_sample_record;
		struct record_view *view = &v->records[v->nr_records];

		view->address = get(record, at->sample_record_address);
		if (view->address == 0)
			continue;
		view->size = get(record, at->sample_record_size);
		view->weight = get(record, at->sample_record_weight);
		view->born_ns = get(record, at->sample_record_born_ns);
		view->site = (uint32_t)get(record, at->sample_record_site);
		if (view->site == 0 || view->site >= v->nr_sites)
			return reader_garbled(r, "a sample");
		v->nr_records++;
	}
	return 0;
}

static void *read_array(struct reader *r, uint64_t from, uint64_t nr, uint64_t thing_bytes)
{
	void *copy = calloc(nr + 1, thing_bytes);

	if (copy != NULL && nr > 0 && !reader_read(r, from, copy, nr * thing_bytes)) {
		free(copy);
		return NULL;
	}
	return copy;
}

static uint64_t now_ns(void)
{
	struct timespec t = { 0, 0 };

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Fills in v from a copy of struct samples; 0 or an exit status after a complaint. */
static int read_all(struct samples_view *v, struct reader *r, const char *head)
{
	const struct layout *at = &r->at;
	uint64_t nr_records = get(head, at->samples_nr_records);
	uint64_t nr_sites = get(head, at->samples_nr_sites) + 1;
	char *sites, *records;
	int status;

	v->nr_frames = get(head, at->samples_nr_frames);
	if (nr_records > NR_MAX || nr_sites > NR_MAX || v->nr_frames > NR_MAX)
		return reader_garbled(r, "the number of samples");
	sites = read_array(r, get(head, at->samples_sites), nr_sites, at->sizeof_shim_site);
	records = read_array(r, get(head, at->samples_records), nr_records + 1,
			     at->sizeof_sample_record);
	v->frames = read_array(r, get(head, at->samples_frames), v->nr_frames, 8);
	v->sites = calloc(nr_sites, sizeof(*v->sites));
	v->records = calloc(nr_records + 1, sizeof(*v->records));
	if (sites == NULL || records == NULL || v->frames == NULL || v->sites == NULL ||
	    v->records == NULL) {
		status = reader_why(r);
	} else {
		v->nr_sites = nr_sites;
		status = take_sites(v, r, sites, get(head, at->samples_peak));
		if (status == 0)
			status = take_records(v, r, records, nr_records);
	}
	free(sites);
	free(records);
	return status;
}

static bool same_moment(const char *a, const char *b, const struct layout *at)
{
	return get(a, at->samples_nr_taken) == get(b, at->samples_nr_taken) &&
	       get(a, at->samples_nr_live) == get(b, at->samples_nr_live) &&
	       get(a, at->samples_weight) == get(b, at->samples_weight);
}

/*
 * Sites and frames are only ever added, and each counter is a word: what is read while the
 * process goes on is off by what happened meanwhile.  Still, the same moment is better.
 */
int samples_read(struct samples_view *v, struct reader *r)
{
	const struct layout *at = &r->at;
	uint64_t nr_bytes, address = reader_object(r, "samples", &nr_bytes);
	char before[1024], after[1024];

	memset(v, 0, sizeof(*v));
	if (address == 0 || nr_bytes > sizeof(before) || nr_bytes < at->sizeof_samples)
		return reader_garbled(r, "no samples");
	for (int i = 0; i < TRIES; i++) {
		int status;

		samples_free(v);
		if (reader_read_locked(r, address + at->samples_lock.offset, address, before,
				       nr_bytes) == READ_FAILED)
			return reader_why(r);
		v->rate = get(before, at->samples_rate);
		if (v->rate == 0) {
			complain(r->verb,
				 "%s (%d) does not sample its allocations; start it with "
				 "PAGEBLOCK_CONF=prof:true",
				 r->name, (int)r->pid);
			return EXIT_REFUSED;
		}
		status = read_all(v, r, before);
		if (status != 0)
			return status;
		if (!reader_read(r, address, after, nr_bytes))
			return reader_why(r);
		if (same_moment(before, after, at))
			break;
	}
	v->on = get(before, at->samples_on) != 0;
	v->nr_taken = get(before, at->samples_nr_taken);
	v->nr_dropped = get(before, at->samples_nr_dropped);
	v->started_ns = get(before, at->samples_started_ns);
	v->weight_live = get(before, at->samples_weight);
	v->weight_peak = get(before, at->samples_peak_weight);
	v->now_ns = now_ns();
	return 0;
}

void samples_free(struct samples_view *v)
{
	free(v->sites);
	free(v->records);
	free(v->frames);
	memset(v, 0, sizeof(*v));
}

static int by_weight(const void *a, const void *b)
{
	const struct stack_share *x = a, *y = b;

	return (x->weight < y->weight) - (x->weight > y->weight);
}

size_t stack_shares_sort(struct stack_share *shares, size_t nr)
{
	size_t left = 0;

	for (size_t i = 0; i < nr; i++) {
		if (shares[i].weight > 0)
			shares[left++] = shares[i];
	}
	qsort(shares, left, sizeof(*shares), by_weight);
	return left;
}
