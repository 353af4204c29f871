/*
 * What a trace asks of the page allocator, apart from any allocator: pages.c is compiled for
 * simulate.c with this before it (-include), so that its calls of core are written down here
 * instead of being made.  Runs are numbered by slots, which are used again.
 */
#ifndef PB_WORKLOADS_STREAM_H
#define PB_WORKLOADS_STREAM_H

#include "core/core.h"

struct stream_request {
	uint32_t gap;  /* events of the trace since the request before */
	uint32_t slot; /* of the run */
	uint32_t nr_pages;
	uint16_t align_order;
	uint8_t type;
	bool is_free;
	bool cached; /* by a pcp */
};

pfn_t stream_pcp_alloc(struct pcp *pcp, unsigned order, enum migratetype mt, bool *zeroed);
void stream_pcp_free(struct pcp *pcp, pfn_t pfn, unsigned order);
pfn_t stream_zone_alloc(size_t nr_pages, unsigned align_order, enum migratetype mt,
			bool *zeroed);
void stream_zone_free(pfn_t pfn, size_t nr_pages);

#ifdef STREAM_RECORDS
#define pcp_init(pcp) ((void)(pcp))
#define pcp_alloc stream_pcp_alloc
#define pcp_free stream_pcp_free
#define zone_alloc stream_zone_alloc
#define zone_free stream_zone_free
#define work_tick() ((void)0)
#endif

#endif
