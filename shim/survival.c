/* How many of a site's objects reach an age; see survival.h. */
#include "shim/survival.h"

unsigned survival_age(uint64_t nr_bytes)
{
	unsigned step, k;

	if (nr_bytes >> AGE_FIRST_SHIFT == 0)
		return 0;
	k = log2_floor(nr_bytes);
	/* The doubling, and the two bits below its first one. */
	step = 1 + (k - AGE_FIRST_SHIFT) * AGES_A_DOUBLING +
	       (unsigned)(nr_bytes >> (k - 2) & (AGES_A_DOUBLING - 1));
	return step < NR_AGES ? step : NR_AGES - 1;
}

static void count(uint16_t *n)
{
	*n = (uint16_t)(*n > UINT16_MAX - SURVIVAL_ONE ? UINT16_MAX : *n + SURVIVAL_ONE);
}

void survival_death(struct survival *s, uint64_t age_bytes)
{
	count(&s->deaths[survival_age(age_bytes)]);
}

void survival_censor(struct survival *s, uint64_t age_bytes)
{
	count(&s->censored[survival_age(age_bytes)]);
}

void survival_halve(struct survival *s)
{
	for (unsigned i = 0; i < NR_AGES; i++) {
		s->deaths[i] /= 2;
		s->censored[i] /= 2;
	}
}

static uint32_t all_at(const struct survival *s, const uint8_t living[NR_AGES], unsigned age)
{
	return (uint32_t)s->deaths[age] + s->censored[age] + living[age] * SURVIVAL_ONE;
}

struct survival_estimate survival_estimate(const struct survival *s,
					   const uint8_t living[NR_AGES], unsigned horizon)
{
	struct survival_estimate e = { .percent = 100 };
	uint32_t at_risk = 0;
	uint64_t left = (uint64_t)100 << 20;

	for (unsigned i = 0; i < NR_AGES; i++) {
		uint32_t here = all_at(s, living, i);

		at_risk += here;
		e.nr_old += i >= horizon ? here : 0;
	}
	for (unsigned i = 0; i < horizon && at_risk > 0; i++) {
		/* What was last seen within the step is not known to have lived through it. */
		at_risk -= all_at(s, living, i) - s->deaths[i];
		if (at_risk > 0)
			left = left * (at_risk - s->deaths[i]) / at_risk;
		e.nr_deaths += s->deaths[i];
		at_risk -= s->deaths[i];
	}
	e.percent = (uint32_t)(left >> 20);
	e.nr_deaths /= SURVIVAL_ONE;
	e.nr_old /= SURVIVAL_ONE;
	return e;
}
