/* The map of a process's pageblocks: what its pictures share. */
#ifndef PB_TOOLS_MAP_H
#define PB_TOOLS_MAP_H

#include "tools/view.h"

/* What is drawn apart from the type and the fullness. */
enum block_look {
	LOOK_OFFLINE,
	LOOK_ISOLATED,
	LOOK_PURGED, /* wholly free and not resident */
	LOOK_IDLE,   /* wholly free and resident */
	LOOK_USED
};

struct type_colour {
	unsigned terminal; /* of 256 */
	const char *rgb;
};
/* Told apart by people who see colours differently (Okabe and Ito). */
extern const struct type_colour map_colours[NR_TYPES];

enum block_look map_look(const struct block_view *b);
const char *map_state(const struct block_view *b);
/* Pages that are neither free nor being given back. */
unsigned map_used(const struct block_view *b);
/* How much of these is live, in pages rounded up: slabs by their live objects. */
unsigned map_live(const struct block_view *b);

void map_svg(const struct view *v);
void map_html(const struct view *v);

#endif
