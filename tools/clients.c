/*
 * What is in each block: slabs and page runs, from the blocks' client areas.  Pages of a
 * client area that were never written are left alone, so that nothing becomes resident.
 */
#include "tools/look.h"

#include <stdlib.h>

/* A client area at most: what a block's metadata may take. */
#define CLIENT_BYTES_MAX ((uint64_t)1 << 20)

struct client_walk {
	struct reader *r;
	struct snapshot *s;
	char *copy;
	bool *present;
	size_t nr_pages;      /* of a client area */
	uint64_t slabs_end;   /* what is read of it */
	uint64_t run_left;    /* pages of a run that go on in the next block */
};

/* Reads what is there; the rest is zero.  False: it cannot be read. */
static bool read_client(struct client_walk *w, uint64_t client)
{
	memset(w->copy, 0, w->slabs_end);
	if (!look_present(w->r, client, w->nr_pages, w->present))
		return reader_read(w->r, client, w->copy, w->slabs_end);
	for (uint64_t at = 0; at < w->slabs_end; at += PAGE_SIZE_BYTES) {
		uint64_t n = w->slabs_end - at < PAGE_SIZE_BYTES ? w->slabs_end - at
								 : PAGE_SIZE_BYTES;

		if (w->present[at / PAGE_SIZE_BYTES] &&
		    !reader_read(w->r, client + at, w->copy + at, n))
			return false;
	}
	return true;
}

static bool is_taken(const struct block_view *b, unsigned page)
{
	return (b->free[page / 64] >> page % 64 & 1) == 0;
}

static void add_runs(struct client_walk *w, struct block_view *b)
{
	const struct layout *at = &w->r->at;
	const char *words = w->copy + at->block_client_run.offset;
	unsigned page = 0;

	if (w->run_left > 0) {
		uint64_t here = w->run_left < BLOCK_PAGES ? w->run_left : BLOCK_PAGES;

		b->run_pages = (uint16_t)here;
		w->run_left -= here;
		page = (unsigned)here;
	}
	while (page < BLOCK_PAGES) {
		uint64_t word, nr;

		memcpy(&word, words + page * 8, 8);
		nr = word & (at->run_freed - 1);
		if ((word & at->run_live) == 0 || nr == 0 || !is_taken(b, page)) {
			page++;
			continue;
		}
		w->s->nr_large++;
		b->nr_runs++;
		if (nr > BLOCK_PAGES - page) {
			w->run_left = nr - (BLOCK_PAGES - page);
			nr = BLOCK_PAGES - page;
		}
		b->run_pages = (uint16_t)(b->run_pages + nr);
		page += (unsigned)nr;
	}
}

/* The pages of a granule of a slab that were given back. */
static void add_holes(struct client_walk *w, struct block_view *b, unsigned granule,
		      const char *slab)
{
	const unsigned nr_pages = BLOCK_PAGES / BLOCK_GRANULES;
	uint64_t holes = get(slab, w->r->at.slab_purged) & (((uint64_t)1 << nr_pages) - 1);
	unsigned page = granule * nr_pages, nr = (unsigned)__builtin_popcountll(holes);

	b->holes[page / 64] |= holes << page % 64;
	b->nr_holes = (uint16_t)(b->nr_holes + nr);
	w->s->holes += nr;
}

static void add_slabs(struct client_walk *w, struct block_view *b)
{
	const struct layout *at = &w->r->at;

	for (unsigned i = 0; i < BLOCK_GRANULES; i++) {
		const char *slab =
			w->copy + at->block_client_slabs.offset + i * at->sizeof_slab;
		uint64_t cls = get(slab, at->slab_cls), nr = get(slab, at->slab_nr_objects);
		uint64_t nr_free = get(slab, at->slab_nr_free);
		const struct class_view *c = &w->s->classes[cls];

		if (get(slab, at->slab_heap) == 0 || get(slab, at->slab_head_delta) != 0 ||
		    cls >= w->s->nr_classes || nr != c->nr_objects || nr_free > nr ||
		    i + (c->slab_bytes >> at->granule_shift) > BLOCK_GRANULES ||
		    !is_taken(b, i * (BLOCK_PAGES / BLOCK_GRANULES)))
			continue;
		b->slab_pages = (uint16_t)(b->slab_pages + c->slab_bytes / PAGE_SIZE_BYTES);
		for (unsigned k = 0; k < c->slab_bytes >> at->granule_shift; k++)
			add_holes(w, b, i + k, slab + k * at->sizeof_slab);
		b->nr_live += (uint32_t)(nr - nr_free);
		b->live_bytes += (uint32_t)((nr - nr_free) * c->bytes);
	}
}

static int walk_span_clients(struct client_walk *w, const char *span, size_t first)
{
	struct layout *at = &w->r->at;
	uint64_t client = get(span, at->span_client);
	uint64_t nr = get(span, at->span_nr_committed);

	w->run_left = 0;
	for (uint64_t i = 0; i < nr && first + i < w->s->nr_blocks; i++) {
		struct block_view *b = &w->s->blocks[first + i];

		/* The spans were read again: the blocks are the same as far as they go. */
		if (b->address != (get(span, at->span_start) + i * BLOCK_PAGES)
					  << at->page_shift)
			break;
		if (b->nr_free + b->nr_purging == BLOCK_PAGES) {
			w->run_left = 0;
			continue;
		}
		if (!read_client(w, client + i * at->block_client_bytes))
			return reader_why(w->r);
		add_runs(w, b);
		add_slabs(w, b);
		w->s->nr_mixed += b->slab_pages > 0 && b->run_pages > 0;
	}
	return 0;
}

int look_at_clients(struct snapshot *s, struct reader *r)
{
	struct layout *at = &r->at;
	struct client_walk w = { .r = r, .s = s };
	uint64_t nr_bytes, spans = reader_object(r, "spans", &nr_bytes);
	size_t first = 0;
	char *copy;
	int status = 0;

	w.slabs_end = at->block_client_slabs.offset + at->block_client_slabs.size;
	w.nr_pages = (w.slabs_end + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
	if (w.slabs_end > CLIENT_BYTES_MAX ||
	    at->block_client_run.offset + at->block_client_run.size > w.slabs_end ||
	    at->block_client_slabs.size < BLOCK_GRANULES * at->sizeof_slab ||
	    at->block_client_run.size < BLOCK_PAGES * 8)
		return reader_garbled(r, "blocks without a client area");
	w.copy = malloc(w.slabs_end);
	w.present = malloc(w.nr_pages * sizeof(bool));
	copy = malloc(nr_bytes);
	if (w.copy == NULL || w.present == NULL || copy == NULL ||
	    !reader_read(r, spans, copy, nr_bytes))
		status = reader_why(r);
	for (unsigned i = 0; i < s->nr_spans && status == 0; i++) {
		uint64_t nr = get(copy + i * at->sizeof_span, at->span_nr_committed);

		status = walk_span_clients(&w, copy + i * at->sizeof_span, first);
		first += nr;
	}
	free(copy);
	free(w.present);
	free(w.copy);
	return status;
}
