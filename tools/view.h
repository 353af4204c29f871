/* What the verbs that show one process have in common: PID [--json]. */
#ifndef PB_TOOLS_VIEW_H
#define PB_TOOLS_VIEW_H

#include "tools/json.h"
#include "tools/snapshot.h"

struct view {
	bool json;
	struct reader reader;
	struct snapshot s;
};

/* Reads the arguments and takes a snapshot; 0, or an exit status after a complaint. */
int view_begin(struct view *v, const struct verb *verb, int argc, char **argv, unsigned what);
/* The same of this process, for verbs that read their arguments themselves. */
int view_open(struct view *v, const struct verb *verb, const char *pid, unsigned what);
/* Gives everything back; the exit status. */
int view_end(struct view *v);

/* With --json: opens an object that says which process it is. */
void view_json_begin(const struct view *v);

#endif
