/* pageblock map: the pageblocks as a picture in the terminal; map_svg.c draws the others. */
#define _GNU_SOURCE
#include "tools/map.h"

#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

const struct type_colour map_colours[NR_TYPES] = {
	{ 208, "#d55e00" }, /* Unmovable */
	{ 36, "#009e73" },  /* Movable */
	{ 75, "#0072b2" },  /* Reclaimable */
	{ 176, "#cc79a7" }, /* CMA */
};

unsigned map_used(const struct block_view *b)
{
	return BLOCK_PAGES - b->nr_free - b->nr_purging;
}

unsigned map_live(const struct block_view *b)
{
	unsigned live = b->run_pages + (b->live_bytes + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
	unsigned used = map_used(b);

	/* What is neither a slab nor a run is somebody's all the same, or in a page cache. */
	if (b->run_pages + b->slab_pages == 0)
		return used;
	return live < used ? live : used;
}

enum block_look map_look(const struct block_view *b)
{
	if (b->state == BLOCK_OFFLINE)
		return LOOK_OFFLINE;
	if (b->state == BLOCK_ISOLATED)
		return LOOK_ISOLATED;
	if (map_used(b) > 0)
		return LOOK_USED;
	return b->nr_dirty == 0 || b->nr_resident == 0 ? LOOK_PURGED : LOOK_IDLE;
}

const char *map_state(const struct block_view *b)
{
	static const char *const names[] = { "offline", "isolated", "free", "free, resident",
					     "in use" };

	return names[map_look(b)];
}

/* --- terminal ------------------------------------------------------------------------------ */

struct terminal {
	bool colours, unicode;
	unsigned columns;
};

static struct terminal terminal_now(bool colours)
{
	struct terminal t = { .colours = colours, .columns = 64 };
	struct winsize size;

	setlocale(LC_CTYPE, "");
	/* In the C locale of a shell without settings most terminals know UTF-8 all the same. */
	t.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 || getenv("LC_ALL") == NULL;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		while (t.columns * 2 + 18 <= size.ws_col)
			t.columns *= 2;
	return t;
}

/* One character for a block. */
static const char *glyph(const struct terminal *t, const struct block_view *b)
{
	static const char *const levels[2][8] = {
		{ "1", "2", "3", "4", "5", "6", "7", "8" },
		{ "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" },
	};
	unsigned live = map_live(b);

	switch (map_look(b)) {
	case LOOK_OFFLINE:
		return t->unicode ? "×" : "x";
	case LOOK_PURGED:
		return t->unicode ? "·" : ".";
	case LOOK_IDLE:
		return t->unicode ? "░" : "0";
	case LOOK_ISOLATED:
	case LOOK_USED:
		break;
	}
	return live == 0 ? " " : levels[t->unicode][(live * 8 - 1) / BLOCK_PAGES];
}

/* Behind a block: how much of it is held. */
#define GREY_FROM 233u
#define GREYS 9u

static void draw_block(const struct terminal *t, const struct block_view *b)
{
	bool isolated = b->state == BLOCK_ISOLATED;

	if (!t->colours) {
		fputs(isolated && map_used(b) == 0 ? "I" : glyph(t, b), stdout);
		return;
	}
	if (map_look(b) == LOOK_PURGED || map_look(b) == LOOK_OFFLINE)
		printf("\033[38;5;%um%s\033[0m", 242u, glyph(t, b));
	else
		printf("\033[%s%s48;5;%u;38;5;%um%s\033[0m", isolated ? "7;" : "",
		       b->huge ? "4;" : "", GREY_FROM + map_used(b) * GREYS / BLOCK_PAGES,
		       map_colours[b->type].terminal, glyph(t, b));
}

static void legend(const struct terminal *t, const struct snapshot *s)
{
	struct block_view b = { .state = BLOCK_OPEN };

	putchar('\n');
	for (unsigned type = 0; type < NR_TYPES; type++) {
		b = (struct block_view){ .type = (uint8_t)type };
		if (s->blocks_of[type] == 0)
			continue;
		draw_block(t, &b);
		printf(" %s %llu   ", type_labels[type], (unsigned long long)s->blocks_of[type]);
	}
	puts("(blocks of 2 MiB)");
	for (unsigned pages = 32; pages <= BLOCK_PAGES; pages *= 4) {
		b = (struct block_view){ .slab_pages = BLOCK_PAGES,
					 .live_bytes = pages * PAGE_SIZE_BYTES };
		draw_block(t, &b);
	}
	fputs(t->colours ? " live, the grey behind is held   " : " live   ", stdout);
	b = (struct block_view){ .type = 1, .nr_free = BLOCK_PAGES, .nr_dirty = 1,
				 .nr_resident = 1 };
	draw_block(t, &b);
	fputs(" free but resident   ", stdout);
	b = (struct block_view){ .type = 1, .nr_free = BLOCK_PAGES };
	draw_block(t, &b);
	fputs(" free, given back or never used", stdout);
	if (s->nr_offline > 0) {
		b.state = BLOCK_OFFLINE;
		fputs("   ", stdout);
		draw_block(t, &b);
		fputs(" offline", stdout);
	}
	if (s->nr_isolated > 0) {
		b = (struct block_view){ .type = 1, .nr_free = 256, .state = BLOCK_ISOLATED };
		fputs("   ", stdout);
		draw_block(t, &b);
		fputs(t->colours ? " (reversed) isolated" : " I isolated", stdout);
	}
	if (t->colours && s->huge > 0) {
		b = (struct block_view){ .type = 1, .nr_free = 64, .huge = true };
		fputs("   ", stdout);
		draw_block(t, &b);
		fputs(" (underlined) one huge page", stdout);
	}
	putchar('\n');
}

static void map_text(const struct view *v, bool colours)
{
	struct terminal t = terminal_now(colours);
	const struct snapshot *s = &v->s;
	char live[24], resident[24], committed[24];

	printf("%s (%d): %s live, %s resident, %s committed\n\n", v->reader.name,
	       (int)v->reader.pid, human_bytes(live, s->live),
	       human_bytes(resident, s->resident),
	       human_bytes(committed, s->total * PAGE_SIZE_BYTES));
	for (size_t i = 0, column = 0; i < s->nr_blocks; i++) {
		const struct block_view *b = &s->blocks[i];
		bool gap = i > 0 && b->address != b[-1].address + BLOCK_BYTES;

		if (i > 0 && (column == t.columns || gap)) {
			putchar('\n');
			column = 0;
		}
		if (column == 0)
			printf("%012llx  ", (unsigned long long)b->address);
		draw_block(&t, b);
		column++;
	}
	putchar('\n');
	legend(&t, s);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void map_json(const struct view *v)
{
	view_json_begin(v);
	json_number("block_bytes", BLOCK_BYTES);
	json_array("blocks");
	for (size_t i = 0; i < v->s.nr_blocks; i++) {
		const struct block_view *b = &v->s.blocks[i];
		char address[24];

		json_object(NULL);
		snprintf(address, sizeof(address), "0x%llx", (unsigned long long)b->address);
		json_string("address", address);
		json_string("type", type_labels[b->type]);
		json_string("state", map_state(b));
		json_number("free_pages", b->nr_free);
		json_number("dirty_free_pages", b->nr_dirty);
		json_number("purging_pages", b->nr_purging);
		json_number("slab_pages", b->slab_pages);
		json_number("run_pages", b->run_pages);
		json_number("slab_hole_pages", b->nr_holes);
		json_number("slab_objects", b->nr_live);
		json_number("slab_live_bytes", b->live_bytes);
		if (v->s.resident_known) {
			json_number("resident_pages", b->nr_resident);
			json_bool("huge", b->huge);
		}
		json_end();
	}
	json_end();
	json_end();
}

/* --- the verb ----------------------------------------------------------------------------------- */

int verb_map(const struct verb *verb, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },       { "svg", no_argument, NULL, 's' },
		{ "html", no_argument, NULL, 'h' },       { "output", required_argument, NULL, 'o' },
		{ "colour", required_argument, NULL, 'c' }, { NULL, 0, NULL, 0 },
	};
	const char *output = NULL, *colour = "auto";
	struct view v;
	int c, form = 't', status;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == '?')
			return usage(verb);
		if (c == 'o')
			output = optarg;
		else if (c == 'c')
			colour = optarg;
		else
			form = c;
	}
	if (optind != argc - 1 || (strcmp(colour, "auto") != 0 && strcmp(colour, "always") != 0 &&
				   strcmp(colour, "never") != 0))
		return usage(verb);
	status = view_open(&v, verb, argv[optind], LOOK_RESIDENT | LOOK_CLIENTS);
	if (status != 0)
		return status;
	if (output != NULL && freopen(output, "w", stdout) == NULL) {
		complain(verb, "cannot write %s", output);
		snapshot_free(&v.s);
		reader_close(&v.reader);
		return EXIT_FAILURE;
	}
	if (form == 'j')
		map_json(&v);
	else if (form == 's')
		map_svg(&v);
	else if (form == 'h')
		map_html(&v);
	else
		map_text(&v, strcmp(colour, "always") == 0 ||
				     (strcmp(colour, "auto") == 0 && isatty(STDOUT_FILENO) &&
				      getenv("NO_COLOR") == NULL));
	return view_end(&v);
}
