/* How many objects reach an age: the estimate against populations whose answer is known. */
#include "shim/survival.h"

#include "shim/births.h"
#include "tests/shim/support.h"

#define MIB ((uint64_t)1 << 20)
static const uint8_t nobody[NR_AGES];

Test(survival, ages_are_in_order, .timeout = TIME_BOUND_S)
{
	unsigned last = 0;

	for (uint64_t age = 0; age < 300 * MIB; age += 4096) {
		unsigned step = survival_age(age);

		EXPECT(step == last || step == last + 1, "%llu: %u after %u",
		       (unsigned long long)age, step, last);
		last = step;
	}
	EXPECT(survival_age(128 * MIB) == survival_age(64 * MIB) + AGES_A_DOUBLING, "a doubling");
	EXPECT(survival_age(UINT64_MAX) == NR_AGES - 1, "%u", survival_age(UINT64_MAX));
}

Test(survival, all_die_or_none, .timeout = TIME_BOUND_S)
{
	struct survival dead = { .percent = 0 }, none = { .percent = 0 };
	struct survival_estimate e;
	uint8_t living[NR_AGES] = { 0 };

	for (unsigned i = 0; i < 20; i++)
		survival_death(&dead, i * 5 * MIB);
	e = survival_estimate(&dead, nobody, survival_age(128 * MIB));
	EXPECT(e.percent == 0 && e.nr_deaths == 20, "%u %%, %u deaths", e.percent, e.nr_deaths);
	/* Young ones that live change nothing about that. */
	living[survival_age(MIB)] = 30;
	e = survival_estimate(&dead, living, survival_age(128 * MIB));
	EXPECT(e.percent == 0, "%u %%", e.percent);
	for (unsigned i = 0; i < 20; i++)
		living[survival_age(i * 12 * MIB)]++;
	e = survival_estimate(&none, living, survival_age(128 * MIB));
	EXPECT(e.percent == 100 && e.nr_deaths == 0 && e.nr_old >= 9, "%u %%, %u old", e.percent,
	       e.nr_old);
	/* What dies later than the horizon has reached it. */
	survival_death(&none, 300 * MIB);
	e = survival_estimate(&none, nobody, survival_age(128 * MIB));
	EXPECT(e.percent == 100 && e.nr_old == 1, "%u %%", e.percent);
}

/* Half die young, of the others some are not watched to the end: still a half. */
Test(survival, what_is_censored_does_not_count_as_dead, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;

	for (unsigned i = 0; i < 50; i++) {
		survival_death(&s, MIB);
		if (i % 2 == 0)
			survival_censor(&s, 20 * MIB);
		else
			survival_censor(&s, 200 * MIB);
	}
	e = survival_estimate(&s, nobody, survival_age(128 * MIB));
	EXPECT(e.percent == 50, "%u %%", e.percent);
	survival_halve(&s);
	e = survival_estimate(&s, nobody, survival_age(128 * MIB));
	EXPECT(e.percent >= 48 && e.percent <= 52, "%u %% after halving", e.percent);
	for (unsigned i = 0; i < 8; i++)
		survival_halve(&s);
	e = survival_estimate(&s, nobody, survival_age(128 * MIB));
	EXPECT(e.nr_deaths == 0 && e.nr_old == 0, "%u deaths are remembered", e.nr_deaths);
}

/* At the top of a peak: what lives has been there since the trough at most, and what little is
 * known of the peaks before says that all of it will go. */
Test(survival, a_peak_is_not_old, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;
	uint8_t living[NR_AGES] = { 0 };

	for (unsigned i = 1; i <= 5; i++)
		survival_death(&s, i * 50 * MIB);
	for (unsigned i = 1; i <= 25; i++)
		living[survival_age(i * 10 * MIB)]++;
	e = survival_estimate(&s, living, survival_age(280 * MIB) + 1);
	EXPECT(e.percent == 0 && e.nr_deaths == 5 && e.nr_old == 0, "%u %%, %u deaths, %u old",
	       e.percent, e.nr_deaths, e.nr_old);
}

/* --- records ---------------------------------------------------------------------------- */

/* In step with an array, at random, full now and then. */
Test(survival, records_against_an_array, .timeout = TIME_BOUND_S)
{
	static uint64_t born[3 * BIRTHS_MAX / 2];
	struct rng rng = {seed_begin("survival/records_against_an_array", nr_ops_of(200000))};
	uint64_t nr_ops = nr_ops_of(200000);
	size_t range = sizeof(born) / sizeof(born[0]);
	unsigned nr = 0, seen = 0;

	shim_free(shim_malloc(1));
	for (uint64_t op = 1; op <= nr_ops; op++) {
		size_t k = rng_below(&rng, range);
		uintptr_t object = 0x10000 + k * 16;

		if (born[k] == 0) {
			bool added = births_add((struct birth){ object, 1 + k % 7, op });

			EXPECT(added == (nr < BIRTHS_MAX), "%u records", nr);
			born[k] = added ? op : 0;
			nr += added;
			continue;
		}
		EXPECT(births_of(object).site == 1 + k % 7, "the site of %zu", k);
		if (rng_below(&rng, 3) != 0)
			continue;
		EXPECT(births_end((void *)object, 0).born == born[k], "the birth of %zu", k);
		born[k] = 0;
		nr--;
		EXPECT(births_of(object).site == 0, "%zu is still there", k);
	}
	for (size_t k = 0; k < range; k++) {
		struct birth birth = births_forget(0x10000 + k * 16);

		EXPECT((birth.object != 0) == (born[k] != 0) && birth.born == born[k],
		       "the record of %zu", k);
		seen += birth.object != 0;
	}
	EXPECT(seen == nr, "%u of %u", seen, nr);
}
