/* Samples: chance and weights, exact frees, peaks, switching, threads. */
#include "shim/sample.h"

#include "shim/slabs.h"
#include "tests/shim/support.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* The stack that the unwinder finds: one frame, as the test says. */
static __thread uintptr_t frame = 1;

static unsigned fake_unwind(void **frames, unsigned max)
{
	/* As unwinders do: what it allocates must not be sampled. */
	shim_free(shim_malloc(100000));
	EXPECT(max >= 2, "room for %u frames", max);
	memcpy(&frames[0], &frame, sizeof(frame));
	frames[1] = NULL;
	return 2;
}

static void start(size_t rate)
{
	EXPECT(shim_sample_setup(rate, fake_unwind) == 0, "setup");
	EXPECT(shim_sample_setup(rate, fake_unwind) == -EALREADY, "setup again");
	EXPECT(shim_sample_switch(true) == 0, "on");
}

/* What all sites of a stack have. */
static struct shim_site of_frame(uintptr_t of)
{
	struct shim_site site, sum = { .nr_live = 0 };
	const uint64_t *frames;

	for (uint32_t i = 1; shim_sample_site(i, &site, &frames); i++) {
		if (frames[0] != of)
			continue;
		EXPECT(site.nr_frames == 2, "%u frames", site.nr_frames);
		sum.nr_live += site.nr_live;
		sum.bytes_live += site.bytes_live;
		sum.weight_live += site.weight_live;
		sum.nr_allocated += site.nr_allocated;
		sum.weight_allocated += site.weight_allocated;
		sum.nr_peak += site.nr_peak;
		sum.weight_peak += site.weight_peak;
	}
	return sum;
}

/* Sums of weights are right within five standard errors, for each size alone. */
Test(sample, weights_are_unbiased, .timeout = TIME_BOUND_S)
{
	static const size_t sizes[] = { 16, 100, 1000, 2048, 5000, 30000, 100000, 1000000 };
	const size_t rate = 8192;

	start(rate);
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		size_t nr = 40000000 / SLOWNESS / sizes[k] + 20;
		double truth = (double)(nr * sizes[k]), difference, most;
		struct shim_site sum;

		frame = 1000 + k;
		for (size_t i = 0; i < nr; i++)
			shim_free(shim_malloc(sizes[k]));
		sum = of_frame(frame);
		difference = (double)sum.weight_allocated - truth;
		/* The variance is at most that of whole steps of the rate. */
		most = 25 * truth * (double)(rate + sizes[k]);
		EXPECT(difference * difference < most, "size %zu: %.0f for %.0f", sizes[k],
		       (double)sum.weight_allocated, truth);
		EXPECT(sum.nr_allocated > 0, "size %zu: never", sizes[k]);
		EXPECT(sum.nr_live == 0 && sum.weight_live == 0, "size %zu: %u stay", sizes[k],
		       (unsigned)sum.nr_live);
	}
	shim_check();
}

/* Of objects that are all sampled every one is seen coming and going. */
Test(sample, frees_are_exact, .timeout = TIME_BOUND_S)
{
	void *p[300];
	struct shim_site sum;

	start(16);
	frame = 7;
	for (size_t i = 0; i < 300; i++)
		p[i] = shim_malloc(700 + i * 200);
	EXPECT(of_frame(7).nr_live == 300, "%u of 300", (unsigned)of_frame(7).nr_live);
	/* In place: the same sample; elsewhere, or a run: another one. */
	frame = 8;
	p[0] = shim_realloc(p[0], 701);
	EXPECT(of_frame(8).nr_live == 0, "a new sample in place");
	p[1] = shim_realloc(p[1], 5000);
	p[299] = shim_realloc(p[299], 1 << 20);
	sum = of_frame(8);
	EXPECT(sum.nr_live == 2 && sum.bytes_live == 5000 + (1 << 20), "%u, %u bytes",
	       (unsigned)sum.nr_live, (unsigned)sum.bytes_live);
	EXPECT(of_frame(7).nr_live == 298, "%u of 298", (unsigned)of_frame(7).nr_live);
	p[2] = shim_realloc(p[2], 0);
	for (size_t i = 0; i < 300; i++)
		shim_free(p[i]);
	EXPECT(of_frame(7).nr_live + of_frame(8).nr_live == 0, "some stay");
	/* Which was when the run had grown. */
	EXPECT(of_frame(7).nr_peak == 298, "%u at the peak", (unsigned)of_frame(7).nr_peak);
	EXPECT(of_frame(8).nr_peak == 2, "%u at the peak", (unsigned)of_frame(8).nr_peak);
	shim_check();
}

/* The peak is the state of one moment, whatever came before and after. */
Test(sample, peak, .timeout = TIME_BOUND_S)
{
	void *a[50], *b[50];

	start(16);
	for (unsigned round = 1; round <= 3; round++) {
		frame = 21;
		for (size_t i = 0; i < round * 10; i++)
			a[i] = shim_malloc(10000);
		frame = 22;
		for (size_t i = 0; i < 50 - round * 10; i++)
			b[i] = shim_malloc(1000);
		for (size_t i = 0; i < 50 - round * 10; i++)
			shim_free(b[i]);
		for (size_t i = 0; i < round * 10; i++)
			shim_free(a[i]);
		EXPECT(of_frame(21).nr_peak == round * 10, "round %u: %u", round,
		       (unsigned)of_frame(21).nr_peak);
		EXPECT(of_frame(22).nr_peak == 50 - round * 10, "round %u: %u", round,
		       (unsigned)of_frame(22).nr_peak);
	}
	/* Less than before is no peak. */
	frame = 23;
	shim_free(shim_malloc(1000));
	EXPECT(of_frame(23).nr_peak == 0 && of_frame(21).nr_peak == 30, "a peak that is none");
}

Test(sample, switching, .timeout = TIME_BOUND_S)
{
	struct heap *h;
	void *p;

	EXPECT(shim_sample_switch(true) == -EINVAL, "on without a setup");
	start(16);
	frame = 31;
	p = shim_malloc(1000);
	h = heap_current;
	EXPECT(h->counted, "mallocs are not counted");
	EXPECT(shim_sample_switch(false) == 0, "off");
	frame = 32;
	for (int i = 0; i < 1000; i++)
		shim_free(shim_malloc(1000));
	EXPECT(!h->counted, "mallocs are counted");
	EXPECT(of_frame(32).nr_allocated == 0, "%u samples while off",
	       (unsigned)of_frame(32).nr_allocated);
	EXPECT(of_frame(31).nr_live == 1, "forgotten");
	shim_free(p);
	EXPECT(of_frame(31).nr_live == 0, "not seen while off");
	EXPECT(slab_flags(slab_of(p)) == 0, "a slab stays cold");
	EXPECT(shim_sample_switch(true) == 0, "on again");
	frame = 33;
	for (int i = 0; i < 10; i++)
		shim_free(shim_malloc(1000));
	/* The first may be the one that brings the news. */
	EXPECT(of_frame(33).nr_allocated >= 9, "%u samples",
	       (unsigned)of_frame(33).nr_allocated);
}

/* --- threads -------------------------------------------------------------------------- */

#define NR_THREADS 4
#define NR_SLOTS 400

static _Atomic(void *) slots[NR_SLOTS];
static atomic_bool over;

static void *churn(void *arg)
{
	uint64_t state = (uintptr_t)arg;

	frame = 40 + (uintptr_t)arg;
	for (unsigned i = 0; i < 60000 / SLOWNESS; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;

		size_t size = 700 + (state >> 40) % (i % 40 == 0 ? 100000 : 3000);
		void *p = atomic_exchange(&slots[(state >> 33) % NR_SLOTS],
					  (state >> 20) % 2 == 0 ? shim_malloc(size) : NULL);

		if ((state >> 21) % 4 == 0)
			p = shim_realloc(p, size + 1);
		shim_free(p);
	}
	return NULL;
}

static void *toggle(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		(void)shim_sample_switch(false);
		(void)shim_sample_switch(true);
	}
	return NULL;
}

/* Frees by others, threads that end, heaps adopted, and switching all the while. */
Test(sample, threads, .timeout = TIME_BOUND_S)
{
	struct shim_samples all;
	pthread_t threads[NR_THREADS], toggler;

	start(16);
	for (unsigned round = 0; round < 2; round++) {
		atomic_store(&over, false);
		if (round == 1)
			EXPECT(pthread_create(&toggler, NULL, toggle, NULL) == 0, "thread");
		for (uintptr_t i = 0; i < NR_THREADS; i++)
			EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0,
			       "thread");
		for (unsigned i = 0; i < NR_THREADS; i++)
			pthread_join(threads[i], NULL);
		atomic_store(&over, true);
		if (round == 1)
			pthread_join(toggler, NULL);
		for (unsigned i = 0; i < NR_SLOTS; i++)
			shim_free(atomic_exchange(&slots[i], NULL));
		for (uintptr_t i = 1; i <= NR_THREADS; i++)
			EXPECT(of_frame(40 + i).nr_live == 0, "round %u: %u objects stay",
			       round, (unsigned)of_frame(40 + i).nr_live);
		shim_sample_read(&all);
		EXPECT(all.nr_taken > 1000, "round %u: %u samples", round,
		       (unsigned)all.nr_taken);
		shim_check();
	}
}
