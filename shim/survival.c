/* How many of a site's objects reach an age; see survival.h. */
#include "shim/survival.h"

#include <stddef.h>

/* The age of a record that says nothing. */
#define NEVER UINT64_MAX

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

uintptr_t survival_birth(struct survival *s, uintptr_t object, uint64_t now)
{
	struct life *life = &s->lives[s->next], was = *life;

	*life = (struct life){ object, now };
	s->next = (uint8_t)((s->next + 1) % LIVES_MAX);
	s->nr_living++;
	if (s->nr < LIVES_MAX) {
		s->nr++;
		return 0;
	}
	if (was.object == LIFE_LEFT)
		s->nr_left--;
	else if (was.object != 0)
		s->nr_living--;
	else if (was.at != NEVER)
		s->nr_dead--;
	return was.object == LIFE_LEFT ? 0 : was.object;
}

/* The record of a living object, which lives no more as far as this is concerned; NULL: none. */
static struct life *take(struct survival *s, uintptr_t object)
{
	for (unsigned i = 0; i < s->nr; i++) {
		if (s->lives[i].object == object) {
			s->nr_living--;
			return &s->lives[i];
		}
	}
	return NULL;
}

bool survival_end(struct survival *s, uintptr_t object, uint64_t now, bool dies)
{
	struct life *life = take(s, object);

	if (life == NULL)
		return false;
	*life = (struct life){ dies ? 0 : LIFE_LEFT, now - life->at };
	s->nr_dead += dies;
	s->nr_left += !dies;
	return true;
}

bool survival_drop(struct survival *s, uintptr_t object)
{
	struct life *life = take(s, object);

	if (life != NULL)
		*life = (struct life){ 0, NEVER };
	return life != NULL;
}

struct survival_estimate survival_estimate(const struct survival *s, uint64_t now,
					   unsigned horizon)
{
	struct survival_estimate e = { .percent = 100 };
	uint8_t deaths[NR_AGES] = { 0 }, living[NR_AGES] = { 0 };
	uint64_t left = (uint64_t)100 << 20;
	uint32_t at_risk = s->nr_living + (uint32_t)s->nr_dead + s->nr_left;

	for (unsigned i = 0; i < s->nr; i++) {
		const struct life *life = &s->lives[i];

		if (life->object == LIFE_LEFT)
			living[survival_age(life->at)]++;
		else if (life->object != 0)
			living[survival_age(now - life->at)]++;
		else if (life->at != NEVER)
			deaths[survival_age(life->at)]++;
	}
	for (unsigned i = 0; i < horizon && at_risk > 0; i++) {
		/* What lives and is of this age is not known to live through it. */
		at_risk -= living[i];
		if (at_risk > 0)
			left = left * (at_risk - deaths[i]) / at_risk;
		at_risk -= deaths[i];
		e.nr_deaths += deaths[i];
	}
	e.percent = (uint32_t)(left >> 20);
	e.nr_old = at_risk;
	return e;
}
