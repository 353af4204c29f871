/* How many objects reach an age: the estimate against populations whose answer is known. */
#include "shim/survival.h"

#include "shim/births.h"
#include "tests/shim/support.h"

#define MIB ((uint64_t)1 << 20)
#define NOW (1024 * MIB)

/* One more that has died at an age, or lives and is so old. */
static void add(struct survival *s, uint64_t age, bool dies)
{
	static uintptr_t object;

	object += 16;
	(void)survival_birth(s, object, dies ? 0 : NOW - age);
	EXPECT(!dies || survival_end(s, object, age, true), "not known");
}

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
	unsigned horizon = survival_age(128 * MIB);

	for (unsigned i = 0; i < 20; i++)
		add(&dead, i * 5 * MIB, true);
	e = survival_estimate(&dead, NOW, horizon);
	EXPECT(e.percent == 0 && e.nr_deaths == 20, "%u %%, %u deaths", e.percent, e.nr_deaths);
	/* Young ones that live change nothing about that. */
	for (unsigned i = 20; i < LIVES_MAX; i++)
		add(&dead, MIB, false);
	e = survival_estimate(&dead, NOW, horizon);
	EXPECT(e.percent == 0, "%u %%", e.percent);
	for (unsigned i = 0; i < 20; i++)
		add(&none, i * 12 * MIB, false);
	e = survival_estimate(&none, NOW, horizon);
	EXPECT(e.percent == 100 && e.nr_deaths == 0 && e.nr_old == 9, "%u %%, %u old",
	       e.percent, e.nr_old);
	/* What dies later than the horizon has reached it. */
	add(&none, 300 * MIB, true);
	e = survival_estimate(&none, NOW, horizon);
	EXPECT(e.percent == 100 && e.nr_old == 10, "%u %%, %u old", e.percent, e.nr_old);
}

/* Half die young, of the others some are not old yet: still a half. */
Test(survival, what_is_young_does_not_count_as_dead, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;

	for (unsigned i = 0; i < LIVES_MAX; i++)
		add(&s, i % 2 == 0 ? MIB : (i % 4 == 1 ? 20 : 200) * MIB, i % 2 == 0);
	e = survival_estimate(&s, NOW, survival_age(128 * MIB));
	EXPECT(e.percent == 50 && e.nr_old == LIVES_MAX / 4, "%u %%, %u old", e.percent,
	       e.nr_old);
}

/* What was left alive says as much as what lives at that age, and stays at it. */
Test(survival, what_was_left_alive_is_not_dead, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;

	for (uintptr_t i = 1; i <= LIVES_MAX; i++) {
		(void)survival_birth(&s, i, 0);
		EXPECT(survival_end(&s, i, (i % 4 == 0 ? 200 : 20) * MIB, i % 2 == 1), "%zu",
		       (size_t)i);
		EXPECT(!survival_end(&s, i, 300 * MIB, true), "%zu has ended", (size_t)i);
	}
	EXPECT(s.nr_left == LIVES_MAX / 2 && s.nr_living == 0, "%u, %u", s.nr_left, s.nr_living);
	/* A half dies at 20 MiB, and a quarter was left then. */
	e = survival_estimate(&s, NOW, survival_age(128 * MIB));
	EXPECT(e.nr_old == LIVES_MAX / 4 && e.nr_deaths == LIVES_MAX / 2 && e.percent == 33,
	       "%u old, %u died, %u %%", e.nr_old, e.nr_deaths, e.percent);
	for (uintptr_t i = 1; i <= LIVES_MAX; i++)
		EXPECT(survival_birth(&s, 1000 + i, NOW) == 0, "it was watched no more");
	EXPECT(s.nr_left == 0 && s.nr_dead == 0 && s.nr_living == LIVES_MAX, "%u, %u, %u",
	       s.nr_left, s.nr_dead, s.nr_living);
}

/* A new record takes that of the one born longest ago, however that ended. */
Test(survival, what_was_long_ago_is_forgotten, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	unsigned horizon = survival_age(128 * MIB), forgotten = 0;

	for (uintptr_t i = 1; i <= LIVES_MAX; i++) {
		EXPECT(survival_birth(&s, i, i) == 0, "%zu is forgotten", (size_t)i);
		EXPECT(i % 4 == 0 || survival_end(&s, i, i + 1, true), "%zu", (size_t)i);
	}
	EXPECT(s.nr_living == LIVES_MAX / 4 && s.nr_dead == LIVES_MAX - s.nr_living, "%u, %u",
	       s.nr_living, s.nr_dead);
	EXPECT(!survival_end(&s, 1, 5, true), "a second death");
	for (uintptr_t i = 1; i <= LIVES_MAX; i++) {
		uintptr_t was = survival_birth(&s, 1000 + i, NOW);

		EXPECT(was == (i % 4 == 0 ? i : 0), "%zu for %zu", (size_t)was, (size_t)i);
		forgotten += was != 0;
	}
	EXPECT(forgotten == LIVES_MAX / 4 && s.nr_living == LIVES_MAX && s.nr_dead == 0,
	       "%u, %u, %u", forgotten, s.nr_living, s.nr_dead);
	EXPECT(survival_drop(&s, 1001) && !survival_drop(&s, 1001), "dropped once");
	EXPECT(s.nr_living == LIVES_MAX - 1 && s.nr_dead == 0, "%u, %u", s.nr_living,
	       s.nr_dead);
	EXPECT(survival_birth(&s, 7, NOW) == 0, "what was dropped is not watched");
	EXPECT(survival_estimate(&s, 2 * NOW, horizon).nr_old == LIVES_MAX, "all are old");
}

/* One in ten stays for good, through many peaks: what stays does not add up. */
Test(survival, few_survivors_stay_few, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;

	for (uintptr_t i = 1; i <= 1000; i++) {
		(void)survival_birth(&s, i, i * 10 * MIB);
		if (i > 10 && (i - 10) % 10 != 0)
			(void)survival_end(&s, i - 10, i * 10 * MIB, true);
	}
	e = survival_estimate(&s, 10000 * MIB, survival_age(150 * MIB));
	EXPECT(e.percent <= 15 && e.nr_deaths >= 16, "%u %%, %u deaths", e.percent, e.nr_deaths);
}

/* At the top of a peak: what lives has been there since the trough at most, and what little is
 * known of the peaks before says that all of it will go. */
Test(survival, a_peak_is_not_old, .timeout = TIME_BOUND_S)
{
	struct survival s = { .percent = 0 };
	struct survival_estimate e;

	for (unsigned i = 1; i <= 5; i++)
		add(&s, i * 50 * MIB, true);
	for (unsigned i = 1; i <= 25; i++)
		add(&s, i * 10 * MIB, false);
	e = survival_estimate(&s, NOW, survival_age(280 * MIB) + 1);
	EXPECT(e.percent == 0 && e.nr_deaths == 5 && e.nr_old == 0, "%u %%, %u deaths, %u old",
	       e.percent, e.nr_deaths, e.nr_old);
}

/* --- records ---------------------------------------------------------------------------- */

/* The site that the object's record has, which goes and comes back; 0: there is none. */
static uintptr_t site_known_of(uintptr_t object)
{
	struct birth birth = births_forget(object);

	EXPECT(birth.object == 0 || births_add(birth), "no room where a record was");
	return birth.site;
}

/* In step with an array, at random, full now and then. */
Test(survival, records_against_an_array, .timeout = TIME_BOUND_S)
{
	static uint64_t site_of[3 * BIRTHS_MAX / 2];
	struct rng rng = {seed_begin("survival/records_against_an_array", nr_ops_of(200000))};
	uint64_t nr_ops = nr_ops_of(200000);
	size_t range = sizeof(site_of) / sizeof(site_of[0]);
	unsigned nr = 0, seen = 0;

	shim_free(shim_malloc(1));
	for (uint64_t op = 1; op <= nr_ops; op++) {
		size_t k = rng_below(&rng, range);
		uintptr_t object = 0x10000 + k * 16;

		if (site_of[k] == 0) {
			bool added = births_add((struct birth){ object, op });

			EXPECT(added == (nr < BIRTHS_MAX), "%u records", nr);
			site_of[k] = added ? op : 0;
			nr += added;
			continue;
		}
		EXPECT(site_known_of(object) == site_of[k], "the site of %zu", k);
		if (rng_below(&rng, 3) != 0)
			continue;
		EXPECT(births_end((void *)object, 0).site == site_of[k], "the record of %zu", k);
		site_of[k] = 0;
		nr--;
		EXPECT(site_known_of(object) == 0, "%zu is still there", k);
	}
	for (size_t k = 0; k < range; k++) {
		struct birth birth = births_forget(0x10000 + k * 16);

		EXPECT((birth.object != 0) == (site_of[k] != 0) && birth.site == site_of[k],
		       "the record of %zu", k);
		seen += birth.object != 0;
	}
	EXPECT(seen == nr, "%u of %u", seen, nr);
}
