/*
 * Survival: how many of a site's objects reach an age, from those that were watched.
 *
 * Ages are in bytes on the allocation clock, in steps of which four make a doubling.  Deaths
 * and the ages at which objects ceased to be watched (censored) are counted by these steps, and
 * halved now and then, so that what was long ago counts less.  The estimate is the product
 * limit (Kaplan and Meier 1958): of those that reach a step, the part that does not die in it.
 * What still lives is at risk up to its age, so young objects say nothing about old age.
 */
#ifndef PB_SHIM_SURVIVAL_H
#define PB_SHIM_SURVIVAL_H

#include "core/util.h"

#include <stdint.h>

#define NR_AGES 72u
/* Up to 64 KiB is the first step. */
#define AGE_FIRST_SHIFT 16u
#define AGES_A_DOUBLING 4u

/* Survival to the horizon, in percent, that makes a site short or long lived; and of all
 * together, that lets long ones stand out. */
#define SHORT_BELOW 25u
#define LONG_FROM 50u
#define CONTRAST_BELOW 75u
/* Objects without which nothing is said. */
#define EVIDENCE_MIN 4u

/* Counts are in parts of an object, so that a few objects are halved and not dropped. */
#define SURVIVAL_ONE 32u

struct survival {
	uint16_t deaths[NR_AGES], censored[NR_AGES];
	uint8_t percent; /* as estimated last */
};

struct survival_estimate {
	uint32_t percent;   /* of what is born, what reaches the horizon */
	uint32_t nr_deaths; /* before the horizon */
	uint32_t nr_old;    /* objects that reached the horizon */
};

/* The step of an age. */
unsigned survival_age(uint64_t nr_bytes);
void survival_death(struct survival *s, uint64_t age_bytes);
/* The object lives, but is watched no longer. */
void survival_censor(struct survival *s, uint64_t age_bytes);
void survival_halve(struct survival *s);
/* living: objects that are watched now, by the steps of their ages. */
struct survival_estimate survival_estimate(const struct survival *s,
					   const uint8_t living[NR_AGES], unsigned horizon);

#endif
