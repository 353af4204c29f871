/*
 * Survival: how many of a site's objects reach an age, from those that were watched.
 *
 * Of the objects that were born last it is known whether they live, or at what age they died.
 * A new one takes the record of the one born longest ago, dead or alive: so what was long ago
 * is forgotten, and nothing is for how it ended.  Ages are in bytes on the allocation clock, in
 * steps of which four make a doubling.  The estimate is the product limit (Kaplan and Meier
 * 1958): of those that reach a step, the part that does not die in it.  What lives is at risk up
 * to its age, so young objects say nothing about old age.
 */
#ifndef PB_SHIM_SURVIVAL_H
#define PB_SHIM_SURVIVAL_H

#include "core/util.h"

#include <stdbool.h>
#include <stdint.h>

#define NR_AGES 72u
/* Up to 64 KiB is the first step. */
#define AGE_FIRST_SHIFT 16u
#define AGES_A_DOUBLING 4u

/* Survival to the horizon, in percent, that makes a site short or long lived; and of all
 * others together, that lets long ones stand out. */
#define SHORT_BELOW 25u
#define LONG_FROM 50u
#define CONTRAST_BELOW 75u
/* Objects without which nothing is said. */
#define EVIDENCE_MIN 4u

#define LIVES_MAX 64u

/* An object that was watched. */
struct life {
	uintptr_t object; /* 0: it has died, or was dropped; LIFE_LEFT: or was left alive */
	uint64_t at;      /* birth on the clock; age at the end */
};
#define LIFE_LEFT UINTPTR_MAX

struct survival {
	struct life lives[LIVES_MAX]; /* a ring */
	uint8_t nr, next;
	uint8_t nr_living, nr_dead, nr_left;
	uint8_t percent; /* as estimated last */
};

struct survival_estimate {
	uint32_t percent;   /* of what is born, what reaches the horizon */
	uint32_t nr_deaths; /* before the horizon */
	uint32_t nr_old;    /* objects that reached the horizon */
};

/* The step of an age. */
unsigned survival_age(uint64_t nr_bytes);
/* An object is born; the living one that is watched no longer, or 0. */
uintptr_t survival_birth(struct survival *s, uintptr_t object, uint64_t now);
/* The object dies; or, not: it has lived until now, and is watched no longer.  False: it is not
 * known here. */
bool survival_end(struct survival *s, uintptr_t object, uint64_t now, bool dies);
/* The object is as if it had never been. */
bool survival_drop(struct survival *s, uintptr_t object);
struct survival_estimate survival_estimate(const struct survival *s, uint64_t now,
					   unsigned horizon);

#endif
