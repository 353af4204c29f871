/*
 * The map as SVG, and as HTML around it.  A cell is a block: its colour the type; filled
 * from below how much of it is live, in a lighter shade what is held besides; free ones are
 * hollow.  Each cell has a
 * title, which browsers show as a tooltip; the HTML shows it at once, with the block's 512
 * pages.  Nothing is loaded from anywhere.
 */
#include "tools/map.h"

#include <stdio.h>

#define CELL 14u
#define STEP 16u
#define COLUMNS 64u
#define LEFT 112u
#define TOP 96u

/* Where the next cell goes. */
struct pen {
	unsigned column, row;
};

static bool next_cell(struct pen *pen, const struct snapshot *s, size_t i)
{
	bool gap = i > 0 && s->blocks[i].address != s->blocks[i - 1].address + BLOCK_BYTES;

	if (i > 0 && ++pen->column < COLUMNS && !gap)
		return false;
	pen->row += i > 0;
	pen->column = 0;
	return true;
}

static unsigned nr_rows(const struct snapshot *s)
{
	struct pen pen = { 0, 0 };

	for (size_t i = 0; i < s->nr_blocks; i++)
		(void)next_cell(&pen, s, i);
	return pen.row + 1;
}

/* Text for an element or an attribute. */
static void escaped(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '<' || *text == '&' || *text == '"')
			printf("&#%d;", *text);
		else
			putchar(*text);
	}
}

static void title(const struct snapshot *s, const struct block_view *b)
{
	char text[24];

	printf("<title>%llx: %s, %s&#10;%u of %u pages held", (unsigned long long)b->address,
	       type_labels[b->type], map_state(b), map_used(b), BLOCK_PAGES);
	if (b->nr_live > 0)
		printf("&#10;%s in %u small blocks, %u pages of slabs",
		       human_bytes(text, b->live_bytes), b->nr_live, b->slab_pages);
	if (b->nr_holes > 0)
		printf("&#10;%u pages of slabs given back", b->nr_holes);
	if (b->run_pages > 0)
		printf("&#10;%u pages of page runs, %u of which begin here", b->run_pages,
		       b->nr_runs);
	if (s->resident_known)
		printf("&#10;%u pages resident%s", b->nr_resident,
		       b->huge ? ", as one huge page" : "");
	if (b->nr_dirty > 0)
		printf("&#10;%u free pages not given back", b->nr_dirty);
	fputs("</title>", stdout);
}

/* At least a line for what is not empty. */
static unsigned level(unsigned pages)
{
	return pages == 0 ? 0 : 1 + pages * (CELL - 1) / BLOCK_PAGES;
}

static void part(const char *class, unsigned x, unsigned y, unsigned height)
{
	if (height > 0)
		printf("<path class=\"%s\" d=\"M%u %uh%uv-%uh-%u\"/>", class, x, y + CELL, CELL,
		       height, CELL);
}

/* 512 bits as an attribute, for the page that shows one block. */
static void bits(const char *name, const uint64_t *words)
{
	printf(" data-%s=\"", name);
	for (unsigned i = 0; i < BLOCK_WORDS; i++)
		printf("%016llx", (unsigned long long)words[i]);
	putchar('"');
}

static void cell(const struct snapshot *s, const struct block_view *b, struct pen pen, bool maps)
{
	unsigned x = LEFT + pen.column * STEP, y = TOP + pen.row * STEP;
	unsigned used = map_used(b);
	unsigned held = level(used), live = level(map_live(b));
	enum block_look look = map_look(b);

	printf("<g class=\"b t%u %c\"", b->type, "xipfu"[look]);
	if (maps && look == LOOK_USED) {
		bits("f", b->free);
		if (b->nr_holes > 0)
			bits("h", b->holes);
	}
	putchar('>');
	title(s, b);
	printf("<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>", x, y, CELL, CELL);
	part("k", x, y, held > live ? held : 0);
	part("l", x, y, live);
	if (look == LOOK_ISOLATED)
		printf("<rect class=\"h\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>", x, y,
		       CELL, CELL);
	if (look == LOOK_OFFLINE)
		printf("<path d=\"M%u %ul8 8m0-8l-8 8\"/>", x + 3, y + 3);
	if (b->huge)
		printf("<circle cx=\"%u\" cy=\"%u\" r=\"2.2\"/>", x + CELL - 3, y + 3);
	puts("</g>");
}

static void style(void)
{
	puts("<style>\n"
	     "text{font:13px system-ui,sans-serif;fill:#222}.a{font:11px monospace;fill:#777}"
	     ".big{font-size:18px;font-weight:600}\n"
	     ".b rect{stroke-width:1}.b .k{opacity:.45}.x path{stroke:#888;stroke-width:1.5}"
	     ".b circle{fill:#fff;stroke:#222;stroke-width:.8}\n"
	     ".b.p rect{fill:#fff;stroke:#ccc;stroke-dasharray:2 2}"
	     ".b.x rect{fill:#eee;stroke:#bbb}.b .h{fill:url(#hatch)!important;stroke:#222!important}\n"
	     ".b:hover rect{stroke:#000}");
	for (unsigned type = 0; type < NR_TYPES; type++)
		printf(".t%u.u rect,.t%u.i rect{fill:#fff;stroke:%s}.t%u.f rect{fill:%s33;"
		       "stroke:%s}.t%u .l,.t%u .k{fill:%s}\n",
		       type, type, map_colours[type].rgb, type, map_colours[type].rgb,
		       map_colours[type].rgb, type, type, map_colours[type].rgb);
	puts("</style>\n<defs><pattern id=\"hatch\" width=\"4\" height=\"4\" "
	     "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
	     "<path d=\"M0 0v4\" stroke=\"#222\" stroke-width=\"1.6\"/></pattern></defs>");
}

/* One sample of the legend at x: a block as it would be drawn. */
static unsigned sample(const struct snapshot *s, struct block_view b, unsigned x, unsigned y,
		       const char *text)
{
	unsigned width = CELL + 8;

	printf("<g transform=\"translate(%d %d)\">", (int)x - (int)LEFT, (int)y - (int)TOP);
	cell(s, &b, (struct pen){ 0, 0 }, false);
	puts("</g>");
	printf("<text x=\"%u\" y=\"%u\">", x + CELL + 6, y + 12);
	escaped(text);
	puts("</text>");
	/* A little more than letters of 13 pixels are wide. */
	return x + width + 8 * (unsigned)strlen(text) + 8;
}

static void legend(const struct snapshot *s)
{
	unsigned x = LEFT, y = 44;
	char text[64];

	for (unsigned type = 0; type < NR_TYPES; type++) {
		struct block_view b = { .type = (uint8_t)type };

		snprintf(text, sizeof(text), "%s %llu", type_labels[type],
			 (unsigned long long)s->blocks_of[type]);
		x = sample(s, b, x, y, text);
	}
	x = LEFT;
	y += 22;
	x = sample(s,
		   (struct block_view){ .slab_pages = 400, .nr_free = 112,
					.live_bytes = 128 * PAGE_SIZE_BYTES },
		   x, y, "a quarter live, more held");
	x = sample(s,
		   (struct block_view){ .type = 1, .nr_free = BLOCK_PAGES, .nr_dirty = 1,
					.nr_resident = 1 },
		   x, y, "free, resident");
	x = sample(s, (struct block_view){ .nr_free = BLOCK_PAGES }, x, y,
		   "free, given back or never used");
	x = sample(s, (struct block_view){ .type = 1, .nr_free = 256, .huge = true }, x, y,
		   "one huge page");
	x = sample(s, (struct block_view){ .type = 1, .nr_free = 300, .state = BLOCK_ISOLATED },
		   x, y, "isolated");
	(void)sample(s, (struct block_view){ .nr_free = BLOCK_PAGES, .state = BLOCK_OFFLINE }, x,
		     y, "offline");
}

static void draw(const struct view *v, bool maps)
{
	const struct snapshot *s = &v->s;
	unsigned width = LEFT + COLUMNS * STEP + 16, height = TOP + nr_rows(s) * STEP + 16;
	struct pen pen = { 0, 0 };
	char live[24], resident[24], committed[24], huge[24];

	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
	       "height=\"%u\">\n",
	       width, height, width, height);
	style();
	printf("<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n<text class=\"big\" x=\"16\" "
	       "y=\"28\">",
	       width, height);
	escaped(v->reader.name);
	printf(" (%d)</text><text x=\"%u\" y=\"28\" text-anchor=\"end\">%s live, %s resident",
	       (int)v->reader.pid, width - 16, human_bytes(live, s->live),
	       human_bytes(resident, s->resident));
	if (s->huge_known)
		printf(" (%s in huge pages)", human_bytes(huge, s->huge));
	printf(", %zu pageblocks of 2 MiB: %s</text>\n", s->nr_blocks,
	       human_bytes(committed, s->total * PAGE_SIZE_BYTES));
	legend(s);
	for (size_t i = 0; i < s->nr_blocks; i++) {
		if (next_cell(&pen, s, i))
			printf("<text class=\"a\" x=\"16\" y=\"%u\">%012llx</text>\n",
			       TOP + pen.row * STEP + 11,
			       (unsigned long long)s->blocks[i].address);
		cell(s, &s->blocks[i], pen, maps);
	}
	puts("</svg>");
}

void map_svg(const struct view *v)
{
	draw(v, false);
}

void map_html(const struct view *v)
{
	fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pageblock map of ",
	      stdout);
	escaped(v->reader.name);
	puts("</title><style>body{margin:0;background:#fff}#tip{position:absolute;display:none;"
	     "background:#fffffff2;border:1px solid #888;border-radius:4px;padding:8px;"
	     "font:13px system-ui,sans-serif;white-space:pre;pointer-events:none;"
	     "box-shadow:0 2px 8px #0003}#tip canvas{display:block;margin-top:6px}</style>"
	     "</head><body>");
	draw(v, true);
	puts("<div id=\"tip\"></div>\n<script>\n"
	     "const tip = document.getElementById('tip');\n"
	     "for (const b of document.querySelectorAll('.b')) {\n"
	     "  const title = b.querySelector('title');\n"
	     "  const text = title.textContent;\n"
	     "  title.remove();\n"
	     "  b.setAttribute('aria-label', text);\n"
	     "  b.addEventListener('mouseenter', () => {\n"
	     "    tip.textContent = text;\n"
	     "    const free = b.dataset.f;\n"
	     "    if (free) {\n"
	     "      const c = document.createElement('canvas');\n"
	     "      c.width = 32 * 7; c.height = 16 * 7;\n"
	     "      const g = c.getContext('2d');\n"
	     "      const full = getComputedStyle(b.querySelector('.l,.k')).fill;\n"
	     "      const bit = (map, i) => map && BigInt('0x' + map.substr((i >> 6) * 16, 16)) >>\n"
	     "        BigInt(i & 63) & 1n;\n"
	     "      for (let i = 0; i < 512; i++) {\n"
	     "        g.fillStyle = bit(free, i) ? '#e8e8e8' : full;\n"
	     "        g.globalAlpha = bit(b.dataset.h, i) ? .3 : 1;\n"
	     "        g.fillRect(i % 32 * 7, (i >> 5) * 7, 6, 6);\n"
	     "      }\n"
	     "      tip.append(c);\n"
	     "    }\n"
	     "    tip.style.display = 'block';\n"
	     "  });\n"
	     "  b.addEventListener('mousemove', e => {\n"
	     "    const r = tip.getBoundingClientRect();\n"
	     "    tip.style.left = Math.min(e.pageX + 14, scrollX + innerWidth - r.width - 8) + 'px';\n"
	     "    const below = e.clientY + r.height + 24 < innerHeight;\n"
	     "    tip.style.top = (below ? e.pageY + 14\n"
	     "                           : Math.max(scrollY + 4, e.pageY - r.height - 10)) + 'px';\n"
	     "  });\n"
	     "  b.addEventListener('mouseleave', () => { tip.style.display = 'none'; });\n"
	     "}\n"
	     "</script></body></html>");
}
