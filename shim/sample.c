/* Samples; see sample.h. */
#include "shim/sample.h"

#include "shim/divert.h"
#include "shim/slab.h"

#include <errno.h>
#include <string.h>

#define RECORDS_MAX ((size_t)1 << 21)
#define SITES_MAX ((size_t)1 << 17)
#define FRAMES_MAX ((size_t)1 << 23)
#define RECORD_HEADS ((size_t)1 << 16)
#define SITE_HEADS ((size_t)1 << 14)
#define COMMIT_BYTES ((size_t)256 << 10)
/* How long a fork waits for stacks that are being taken. */
#define FORK_PATIENCE_NS 100000000u
/* Never reached by counting down. */
#define NEVER (INT64_MAX / 2)

struct samples samples;

static unsigned (*unwind)(void **frames, unsigned max);
/* What keeps a sample from being taken while one is: in the thread, and around a fork. */
static __thread bool taking;
static _Atomic uint32_t nr_unwinding;
static _Atomic bool forking;

static void samples_lock(void)
{
	lock_acquire(&samples.lock, LOCK_SAMPLES);
}

static void samples_unlock(void)
{
	lock_release(&samples.lock, LOCK_SAMPLES);
}

/* --- chance ------------------------------------------------------------------------- */

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA'14). */
static uint64_t random_bits(void)
{
	static _Atomic uint64_t state;
	/* Relaxed: only that nobody gets another's number. */
	uint64_t z =
		atomic_fetch_add_explicit(&state, 0x9e3779b97f4a7c15u, memory_order_relaxed) +
		samples.started_ns;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* The natural logarithm of x > 0, by the series of atanh; libm is another library. */
static double logarithm(double x)
{
	uint64_t bits;
	double m, s, power, sum = 0;
	int exponent;

	memcpy(&bits, &x, sizeof(bits));
	exponent = (int)(bits >> 52) - 1023;
	bits = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1023 << 52;
	memcpy(&m, &bits, sizeof(m));
	s = (m - 1) / (m + 1);
	power = s;
	for (int k = 1; k < 30; k += 2, power *= s * s)
		sum += power / k;
	return 2 * sum + exponent * 0.69314718055994530942;
}

/* 1 - exp(-x) for x >= 0: the chance that an object of x times the rate is sampled. */
static double chance(double x)
{
	double power = 1, sum = 0, small = x;
	int halvings = 0;

	if (x > 40)
		return 1;
	for (; small > 0.5; small /= 2)
		halvings++;
	for (int k = 1; k < 16; k++) {
		power *= small / k;
		sum += k % 2 != 0 ? power : -power;
	}
	/* 1 - (1 - c)^2 */
	while (halvings-- > 0)
		sum = sum * (2 - sum);
	return sum;
}

static uint64_t weight_of(size_t size)
{
	double w = (double)size / chance((double)size / (double)samples.rate);

	return w < 1e18 ? (uint64_t)(w + 0.5) : (uint64_t)1e18;
}

void sample_arm(struct heap *h)
{
	/* Relaxed: whoever switches it on asks each heap's thread to come here again. */
	if (!atomic_load_explicit(&samples.on, memory_order_relaxed)) {
		h->sample_left = NEVER;
		return;
	}
	/* 0 < u <= 1 */
	double u = (double)((random_bits() >> 11) + 1) / 9007199254740992.0;

	h->sample_left = (int64_t)(-logarithm(u) * (double)samples.rate);
}

bool sample_is_due(struct heap *h)
{
	sample_arm(h);
	return atomic_load_explicit(&samples.on, memory_order_relaxed);
}

/* --- memory -------------------------------------------------------------------------- */

/* Room for `used + more` things of an array whose part before `used` is committed. */
static bool room(void *array, size_t used, size_t more, size_t max, size_t thing_bytes)
{
	size_t have = round_up(used * thing_bytes, COMMIT_BYTES);
	size_t want = round_up((used + more) * thing_bytes, COMMIT_BYTES);

	return used + more <= max &&
	       (want == have || os_commit_small((char *)array + have, want - have) == 0);
}

static size_t round_bytes(size_t nr, size_t thing_bytes)
{
	return round_up(nr * thing_bytes, COMMIT_BYTES);
}

/* One reservation for all arrays; the hash tables at once, the others as they grow. */
static bool reserve(void)
{
	size_t heads = round_bytes(RECORD_HEADS + SITE_HEADS, sizeof(uint32_t));
	size_t records = round_bytes(RECORDS_MAX, sizeof(struct sample_record));
	size_t sites = round_bytes(SITES_MAX, sizeof(struct shim_site));
	size_t frames = round_bytes(FRAMES_MAX, sizeof(uint64_t));
	char *at = os_reserve(heads + records + sites + frames, PAGE_BYTES);

	if (at == NULL)
		return false;
	if (os_commit_small(at, heads) != 0) {
		os_unreserve(at, heads + records + sites + frames);
		return false;
	}
	samples.record_heads = (uint32_t *)(void *)at;
	samples.site_heads = samples.record_heads + RECORD_HEADS;
	samples.records = (struct sample_record *)(void *)(at += heads);
	samples.sites = (struct shim_site *)(void *)(at += records);
	samples.frames = (uint64_t *)(void *)(at += sites);
	/* Number 0 is none. */
	return room(samples.records, 0, 1, RECORDS_MAX, sizeof(struct sample_record)) &&
	       room(samples.sites, 0, 1, SITES_MAX, sizeof(struct shim_site));
}

/* --- sites ---------------------------------------------------------------------------- */

/* Sizes that are told apart: the classes, and eight steps for each doubling above. */
static uint32_t size_step(size_t size)
{
	if (size <= MEDIUM_MAX)
		return class_of(size);
	return log2_floor(size - 1) * 8u + (uint32_t)((size - 1) >> (log2_floor(size - 1) - 3));
}

static uint64_t hash_of(void *const *frames, unsigned nr)
{
	uint64_t h = nr;

	for (unsigned i = 0; i < nr; i++) {
		h = (h ^ (uintptr_t)frames[i]) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h;
}

static bool has_stack(const struct shim_site *site, uint64_t hash, void *const *frames,
		      unsigned nr)
{
	return site->hash == hash && site->nr_frames == nr &&
	       memcmp(samples.frames + site->first_frame, frames, nr * sizeof(*frames)) == 0;
}

/* A new site; stack: one with the same stack, 0 when there is none yet.  0: no room. */
static uint32_t site_new_locked(uint32_t stack, uint64_t hash, void *const *frames, unsigned nr)
{
	uint32_t i = samples.nr_sites + 1;

	if (!room(samples.sites, i, 1, SITES_MAX, sizeof(struct shim_site)))
		return 0;
	if (stack != 0) {
		samples.sites[i] =
			(struct shim_site){ .stack = stack,
					    .first_frame = samples.sites[stack].first_frame };
	} else if (room(samples.frames, samples.nr_frames, nr, FRAMES_MAX, sizeof(uint64_t))) {
		memcpy(samples.frames + samples.nr_frames, frames, nr * sizeof(*frames));
		samples.sites[i] =
			(struct shim_site){ .stack = i, .first_frame = samples.nr_frames };
		samples.nr_frames += nr;
	} else {
		return 0;
	}
	samples.sites[i].hash = hash;
	samples.sites[i].nr_frames = nr;
	samples.nr_sites = i;
	return i;
}

/* The site of a stack and a size; 0: there is no room for one more. */
static uint32_t site_locked(void *const *frames, unsigned nr, size_t size)
{
	uint64_t hash = hash_of(frames, nr);
	uint32_t *head = &samples.site_heads[hash % SITE_HEADS], step = size_step(size);
	uint32_t stack = 0, i;

	for (i = *head; i != 0; i = samples.sites[i].next) {
		if (!has_stack(&samples.sites[i], hash, frames, nr))
			continue;
		if (samples.sites[i].size_step == step)
			return i;
		stack = samples.sites[i].stack;
	}
	i = site_new_locked(stack, hash, frames, nr);
	if (i != 0) {
		samples.sites[i].size_step = step;
		samples.sites[i].next = *head;
		*head = i;
	}
	return i;
}

/*
 * Before a site's live counters change: since the latest peak they stood still, so what
 * they are now is what they were then.  A peak thus costs nothing when it is reached.
 */
static void note_peak_locked(struct shim_site *site)
{
	if (site->peak == samples.peak)
		return;
	site->peak = samples.peak;
	site->nr_peak = site->nr_live;
	site->bytes_peak = site->bytes_live;
	site->weight_peak = site->weight_live;
}

static void count_live_locked(const struct sample_record *r, int sign)
{
	struct shim_site *site = &samples.sites[r->site];
	uint64_t n = (uint64_t)(int64_t)sign;

	note_peak_locked(site);
	site->nr_live += n;
	site->bytes_live += n * r->size;
	site->weight_live += n * r->weight;
	samples.weight += n * r->weight;
	/* Relaxed: see sample_any(). */
	atomic_fetch_add_explicit(&samples.nr_live, n, memory_order_relaxed);
	if (samples.weight > samples.peak_weight) {
		samples.peak_weight = samples.weight;
		samples.peak_ns = os_now_ns();
		samples.peak++;
	}
}

/* --- records ----------------------------------------------------------------------------- */

static uint32_t *record_head(uint64_t address)
{
	return &samples.record_heads[(address >> 4) * 0x9e3779b97f4a7c15u >> 48];
}
STATIC_ASSERT(RECORD_HEADS == (size_t)1 << (64 - 48), "the hash fills the table");

static uint32_t record_place_locked(void)
{
	uint32_t i = samples.free_record;

	if (i != 0) {
		samples.free_record = samples.records[i].next;
		return i;
	}
	if (!room(samples.records, samples.nr_records + 1, 1, RECORDS_MAX,
		  sizeof(struct sample_record)))
		return 0;
	return ++samples.nr_records;
}

static bool record(const void *p, size_t size, void *const *frames, unsigned nr)
{
	uint32_t *head = record_head((uintptr_t)p), i, site;

	samples_lock();
	site = site_locked(frames, nr, size);
	i = site == 0 ? 0 : record_place_locked();
	if (i == 0) {
		samples.nr_dropped++;
		samples_unlock();
		return false;
	}

	struct sample_record r = { .address = (uintptr_t)p,
				   .size = size,
				   .weight = weight_of(size),
				   .born_ns = os_now_ns(),
				   .site = site,
				   .next = *head };

	samples.records[i] = r;
	*head = i;
	samples.nr_taken++;
	samples.sites[site].nr_allocated++;
	samples.sites[site].bytes_allocated += size;
	samples.sites[site].weight_allocated += r.weight;
	count_live_locked(&r, 1);
	samples_unlock();
	return true;
}

static bool forget(const void *p)
{
	uint32_t *link = record_head((uintptr_t)p);
	bool found = false;

	samples_lock();
	while (*link != 0 && !found) {
		uint32_t i = *link;
		struct sample_record *r = &samples.records[i];

		if (r->address != (uintptr_t)p) {
			link = &r->next;
			continue;
		}
		count_live_locked(r, -1);
		*link = r->next;
		r->address = 0;
		r->next = samples.free_record;
		samples.free_record = i;
		found = true;
	}
	samples_unlock();
	return found;
}

/* --- the slab of a sampled object --------------------------------------------------------- */

static uint32_t mask_of(const void *p)
{
	return (uint32_t)1 << ((uintptr_t)p * 0x9e3779b97f4a7c15u >> 59);
}

/* The slab's heap, locked.  A slab with a live object changes hands but does not go. */
static struct heap *lock_heap_of(struct slab *s)
{
	for (;;) {
		struct heap *h = slab_heap(s);

		lock_acquire(&h->lock, LOCK_HEAP);
		if (slab_heap(s) == h)
			return h;
		lock_release(&h->lock, LOCK_HEAP);
	}
}

static void mark(struct slab *s, const void *p)
{
	struct heap *h = lock_heap_of(s);
	struct slab_samples *of = slab_samples(s);
	/* Relaxed, here and below: who asks for p's bit got p after this. */
	uint32_t was = of->nr == 0 ? 0 : atomic_load_explicit(&of->mask, memory_order_relaxed);

	atomic_store_explicit(&of->mask, was | mask_of(p), memory_order_relaxed);
	of->nr++;
	slab_set_flags(s, slab_flags(s) | SLAB_SAMPLED);
	lock_release(&h->lock, LOCK_HEAP);
}

static void unmark(struct slab *s)
{
	struct heap *h = lock_heap_of(s);

	if (--slab_samples(s)->nr == 0)
		slab_set_flags(s, slab_flags(s) & ~SLAB_SAMPLED);
	lock_release(&h->lock, LOCK_HEAP);
}

void sample_forget(struct slab *s, const void *p)
{
	uint32_t mask = atomic_load_explicit(&slab_samples(s)->mask, memory_order_relaxed);

	if ((mask & mask_of(p)) != 0 && forget(p))
		unmark(s);
}

void sample_forget_run(const void *p)
{
	(void)forget(p);
}

/* --- taking a sample ------------------------------------------------------------------------
 */

/* The caller's stack, or none while a fork waits for the unwinder to be at rest. */
static unsigned take_stack(void **frames)
{
	unsigned nr = 0;

	/* Both seq_cst, as in sample_fork_wait(): one of the two sees the other. */
	atomic_fetch_add_explicit(&nr_unwinding, 1, memory_order_seq_cst);
	if (!atomic_load_explicit(&forking, memory_order_seq_cst) && unwind != NULL)
		nr = unwind(frames, SHIM_SITE_FRAMES);
	/* Release pairs with the load in sample_fork_wait(): the unwinder is done. */
	atomic_fetch_sub_explicit(&nr_unwinding, 1, memory_order_release);
	return nr;
}

COLD void sample_take(void *p, size_t size)
{
	void *frames[SHIM_SITE_FRAMES];
	int saved_errno = errno;

	/* What the unwinder allocates is nobody's. */
	if (taking)
		return;
	taking = true;

	struct slab *s = slab_of(p);
	unsigned nr = take_stack(frames);

	if (record(p, size, frames, nr) && slab_heap(s) != NULL)
		mark(s, p);
	taking = false;
	errno = saved_errno;
}

/* --- switching it
 * ----------------------------------------------------------------------------- */

int shim_sample_setup(size_t rate, unsigned (*unwinder)(void **frames, unsigned max))
{
	int err = 0;

	shim_init();
	samples_lock();
	if (samples.rate != 0) {
		err = -EALREADY;
	} else if (!reserve()) {
		err = -ENOMEM;
	} else {
		samples.rate = rate;
		samples.started_ns = os_now_ns();
		unwind = unwinder;
	}
	samples_unlock();
	return err;
}

int shim_sample_switch(bool on)
{
	if (samples.rate == 0)
		return -EINVAL;
	/* Relaxed: the lock of each heap publishes it to the heap's thread. */
	if (atomic_exchange_explicit(&samples.on, on, memory_order_relaxed) == on)
		return 0;
	heap_divert_all(DIVERT_SAMPLE);
	return 0;
}

bool shim_sample_is_on(void)
{
	return atomic_load_explicit(&samples.on, memory_order_relaxed);
}

/* --- looking at them ------------------------------------------------------------------------
 */

void shim_sample_read(struct shim_samples *out)
{
	samples_lock();
	*out = (struct shim_samples){
		.rate = samples.rate,
		.nr_sites = samples.nr_sites,
		.nr_live = atomic_load_explicit(&samples.nr_live, memory_order_relaxed),
		.nr_taken = samples.nr_taken,
		.nr_dropped = samples.nr_dropped,
		.weight_live = samples.weight,
		.weight_peak = samples.peak_weight,
	};
	samples_unlock();
}

bool shim_sample_site(uint32_t i, struct shim_site *out, const uint64_t **frames)
{
	samples_lock();
	if (i == 0 || i > samples.nr_sites) {
		samples_unlock();
		return false;
	}
	*out = samples.sites[i];
	if (out->peak != samples.peak) {
		out->nr_peak = out->nr_live;
		out->bytes_peak = out->bytes_live;
		out->weight_peak = out->weight_live;
	}
	samples_unlock();
	*frames = samples.frames + out->first_frame;
	return true;
}

AT_START void sample_inspect(void)
{
	inspect_show("samples", &samples, sizeof(samples));
}

/* --- fork
 * ---------------------------------------------------------------------------------------- */

/*
 * A stack being taken may hold locks of the unwinder or of the dynamic linker, which the
 * child would find taken for ever.  Whoever holds them may wait for this very thread (from
 * a callback of dl_iterate_phdr, say), so the wait has an end; then the child takes no
 * stacks.
 */
void sample_fork_wait(void)
{
	uint64_t until = os_now_ns() + FORK_PATIENCE_NS;

	/* Seq_cst, both: pairs with take_stack(). */
	atomic_store_explicit(&forking, true, memory_order_seq_cst);
	while (atomic_load_explicit(&nr_unwinding, memory_order_seq_cst) != 0 &&
	       os_now_ns() < until)
		os_yield();
}

void sample_fork_prepare(void)
{
	samples_lock();
}

void sample_fork_parent(void)
{
	samples_unlock();
	atomic_store_explicit(&forking, false, memory_order_relaxed);
}

void sample_fork_child(void)
{
	lock_reset(&samples.lock);
	if (atomic_load_explicit(&nr_unwinding, memory_order_relaxed) != 0)
		unwind = NULL;
	atomic_store_explicit(&nr_unwinding, 0, memory_order_relaxed);
	atomic_store_explicit(&forking, false, memory_order_relaxed);
}
