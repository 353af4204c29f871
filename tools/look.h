/* The parts of a look into a process that snapshot.c puts together. */
#ifndef PB_TOOLS_LOOK_H
#define PB_TOOLS_LOOK_H

#include "tools/snapshot.h"

/* Classes, heaps, page caches: heaps.c. 0 or an exit status. */
int look_at_heaps(struct snapshot *s, struct reader *r, bool chains);
/* What is in each block: clients.c. */
int look_at_clients(struct snapshot *s, struct reader *r);
/* What is resident: resident.c.  What the system does not tell stays unknown. */
void look_at_resident(struct snapshot *s, struct reader *r, bool by_block);

/* For each page of a range whether reading it would bring no page in; false: not known. */
bool look_present(const struct reader *r, uint64_t address, size_t nr_pages, bool *present);

#endif
