/*
 * What the profiler of a process has sampled (shim/sample.h), read from outside, with the
 * stacks' names; and what the verbs that show it have in common.
 */
#ifndef PB_TOOLS_SAMPLES_H
#define PB_TOOLS_SAMPLES_H

#include "tools/reader.h"
#include "tools/symbols.h"

/* Sampled objects: how many, their bytes, and the bytes that they stand for. */
struct tally {
	uint64_t nr, bytes, weight;
};

/* One size class of one stack. */
struct site_view {
	struct tally live, allocated, peak;
	uint32_t stack; /* the first site with the same stack */
	uint32_t first_frame, nr_frames;
};

struct record_view {
	uint64_t address, size, weight, born_ns;
	uint32_t site;
};

struct samples_view {
	bool on; /* whether more are being taken */
	uint64_t rate, nr_taken, nr_dropped, started_ns, now_ns;
	uint64_t weight_live, weight_peak;
	struct site_view *sites; /* sites[0] is none */
	size_t nr_sites;         /* with it */
	struct record_view *records;
	size_t nr_records;
	uint64_t *frames;
	size_t nr_frames;
};

/* 0, or an exit status after a complaint; EXIT_REFUSED: the process takes no samples. */
int samples_read(struct samples_view *v, struct reader *r);
void samples_free(struct samples_view *v);

/* The standard error of what a tally stands for, in bytes. */
double samples_error(const struct tally *t);
double square_root(double x);

/* A share of something, for each stack that has one. */
struct stack_share {
	uint32_t stack; /* a site that has it */
	double weight;  /* what it is sorted, and a flame graph drawn, by; bytes */
	double variance;
	uint64_t nr;    /* samples */
	struct tally live, allocated;
	double nr_blocks, live_bytes; /* blame: of the blocks that it holds */
	uint64_t oldest_ns, newest_ns; /* leaks: births */
};
/* Sorts the largest to the front and drops those without weight; how many are left. */
size_t stack_shares_sort(struct stack_share *shares, size_t nr);

/* --- output ------------------------------------------------------------------------------ */

/* What a list of shares is written as. */
enum share_form { FORM_TEXT, FORM_JSON, FORM_COLLAPSED, FORM_SVG };

/* Outermost first, separated by semicolons, and the weight in bytes: one stack a line. */
void shares_as_collapsed(const struct samples_view *v, const struct stack_share *shares,
			 size_t nr, struct symbols *symbols);
/* A flame graph; title and unit ("live", "held") are for its head and tooltips. */
void shares_as_svg(const struct samples_view *v, const struct stack_share *shares, size_t nr,
		   struct symbols *symbols, const char *title, const char *unit);
/* The frames of a stack as lines, at most `most`, or as a JSON array "stack". */
void stack_as_text(const struct samples_view *v, uint32_t site, struct symbols *symbols,
		   unsigned most);
void stack_as_json(const struct samples_view *v, uint32_t site, struct symbols *symbols);

#endif
