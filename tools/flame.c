/*
 * Stacks with weights as collapsed lines and as a flame graph (Gregg, The flame graph,
 * CACM 59(6), 2016): a box a function, as wide as what was allocated beneath it, below the
 * one that called it.  The SVG stands alone: a click zooms, Escape goes back, typing
 * searches.
 */
#include "tools/samples.h"

#include "tools/json.h"
#include "tools/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#define UNKNOWN "[unknown]"

/* --- collapsed ---------------------------------------------------------------------------- */

static void collapsed_name(const char *name)
{
	/* What separates frames and the weight must not be in a name. */
	for (; *name != '\0'; name++)
		putchar(*name == ';' ? ':' : *name == ' ' ? '_' : *name);
}

void shares_as_collapsed(const struct samples_view *v, const struct stack_share *shares,
			 size_t nr, struct symbols *symbols)
{
	for (size_t i = 0; i < nr; i++) {
		const struct site_view *site = &v->sites[shares[i].stack];

		if (site->nr_frames == 0)
			fputs(UNKNOWN, stdout);
		for (size_t k = site->nr_frames; k-- > 0;) {
			collapsed_name(symbols_name(symbols, v->frames[site->first_frame + k]));
			if (k > 0)
				putchar(';');
		}
		printf(" %.0f\n", shares[i].weight);
	}
}

/* --- the tree ------------------------------------------------------------------------------
 */

struct node {
	const char *name;
	const char *file;
	double weight;
	struct node *child, *sibling;
};

static struct node *child_of(struct node *parent, const char *name, const char *file)
{
	struct node *n = parent->child;

	while (n != NULL && n->name != name)
		n = n->sibling;
	if (n != NULL)
		return n;
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return NULL;
	n->name = name;
	n->file = file;
	n->sibling = parent->child;
	return parent->child = n;
}

static void add_stack(struct node *root, const struct samples_view *v,
		      const struct stack_share *share, struct symbols *symbols)
{
	const struct site_view *site = &v->sites[share->stack];
	struct node *at = root;

	at->weight += share->weight;
	if (site->nr_frames == 0) {
		at = child_of(at, UNKNOWN, "");
		if (at != NULL)
			at->weight += share->weight;
	}
	for (size_t k = site->nr_frames; at != NULL && k-- > 0;) {
		uint64_t frame = v->frames[site->first_frame + k];

		at = child_of(at, symbols_name(symbols, frame), symbols_file(symbols, frame));
		if (at != NULL)
			at->weight += share->weight;
	}
}

static void free_children(struct node *n)
{
	while (n->child != NULL) {
		struct node *child = n->child;

		n->child = child->sibling;
		free_children(child);
		free(child);
	}
}

static int heavier(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	return (x->weight < y->weight) - (x->weight > y->weight);
}

/* The heaviest child first, all the way down. */
static void sort_children(struct node *n)
{
	struct node **all, *c;
	size_t nr = 0;

	for (c = n->child; c != NULL; c = c->sibling)
		nr++;
	all = calloc(nr + 1, sizeof(struct node *));
	if (all == NULL)
		return;
	nr = 0;
	for (c = n->child; c != NULL; c = c->sibling)
		all[nr++] = c;
	qsort(all, nr, sizeof(struct node *), heavier);
	for (size_t i = 0; i < nr; i++)
		all[i]->sibling = all[i + 1];
	n->child = all[0];
	free(all);
	for (c = n->child; c != NULL; c = c->sibling)
		sort_children(c);
}

/* --- SVG -------------------------------------------------------------------------------------
 */

#define WIDTH 1200
#define MARGIN 10
#define ROW 18
#define HEAD 62
#define FOOT 12
/* Narrower than this is not drawn, in pixels. */
#define THIN 0.4
#define FILES_SHOWN 8u

/* Files by what is allocated directly in them get the colours that are told apart best. */
struct palette {
	struct colour {
		const char *file;
		double weight;
	} file[256];
	size_t nr;
};

static const char *const colours[FILES_SHOWN + 1] = {
	"#f2a65a", "#7fb7be", "#e8c547", "#9cc48c", "#d98a94",
	"#a99fd0", "#c2b280", "#8fb0d9", "#cccccc", /* all others */
};

static const char *colour_of(const struct palette *p, const char *file)
{
	for (size_t i = 0; i < p->nr && i < FILES_SHOWN; i++) {
		if (strcmp(p->file[i].file, file) == 0)
			return colours[i];
	}
	return colours[FILES_SHOWN];
}

static void weigh_files(struct palette *p, const struct node *n)
{
	size_t i = 0;

	while (i < p->nr && strcmp(p->file[i].file, n->file) != 0)
		i++;
	if (i == p->nr && p->nr < sizeof(p->file) / sizeof(p->file[0]) && *n->file != '\0')
		p->file[p->nr++] = (struct colour){ n->file, 0 };
	if (i < p->nr)
		p->file[i].weight += n->weight;
	for (const struct node *c = n->child; c != NULL; c = c->sibling)
		weigh_files(p, c);
}

static int by_file_weight(const void *a, const void *b)
{
	const struct colour *x = a, *y = b;

	return (x->weight < y->weight) - (x->weight > y->weight);
}

static void xml(const char *s, size_t most)
{
	for (; *s != '\0' && most > 0; s++, most--) {
		if (*s == '<')
			fputs("&lt;", stdout);
		else if (*s == '>')
			fputs("&gt;", stdout);
		else if (*s == '&')
			fputs("&amp;", stdout);
		else if (*s == '"')
			fputs("&quot;", stdout);
		else
			putchar(*s);
	}
}

static unsigned depth_of(const struct node *n, double least)
{
	unsigned deepest = 0;

	for (const struct node *c = n->child; c != NULL; c = c->sibling) {
		unsigned d = c->weight >= least ? depth_of(c, least) : 0;

		deepest = d > deepest ? d : deepest;
	}
	return deepest + 1;
}

/* Neighbours of one file are told apart by how strong their colour is: by their names. */
static double shade(const char *name)
{
	unsigned h = 2166136261u; /* FNV */

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return 0.62 + 0.38 * (h >> 8 & 15) / 15;
}

struct drawing {
	double scale; /* pixels a byte */
	double all;
	const char *unit;
	struct palette palette;
};

static void draw(const struct drawing *d, const struct node *n, double x, unsigned row)
{
	double width = n->weight * d->scale;
	int y = HEAD + (int)row * ROW;
	char bytes[24];

	if (width < THIN)
		return;
	printf("<g class=\"f\" data-x=\"%.2f\" data-w=\"%.2f\" data-n=\"", x, width);
	xml(n->name, SIZE_MAX);
	fputs("\"><title>", stdout);
	xml(n->name, SIZE_MAX);
	printf("\n%s %s, %.1f %%", human_bytes(bytes, (uint64_t)n->weight), d->unit,
	       100 * n->weight / d->all);
	if (*n->file != '\0') {
		fputs("\nin ", stdout);
		xml(n->file, SIZE_MAX);
	}
	printf("</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\" "
	       "fill-opacity=\"%.2f\"/><text x=\"%.2f\" y=\"%d\">",
	       x, y, width > 1 ? width - 0.5 : width, ROW - 1,
	       row == 0 ? "#e0e0e0" : colour_of(&d->palette, n->file), shade(n->name), x + 4,
	       y + 13);
	if (width > 30) {
		size_t room = (size_t)((width - 6) / 6.7);
		bool cut = strlen(n->name) > room;

		xml(n->name, cut && room > 2 ? room - 2 : room);
		fputs(cut && room > 2 ? ".." : "", stdout);
	}
	fputs("</text></g>\n", stdout);
	for (const struct node *c = n->child; c != NULL; c = c->sibling) {
		draw(d, c, x, row + 1);
		x += c->weight * d->scale;
	}
}

static void draw_legend(const struct palette *p)
{
	double x = MARGIN;

	for (size_t i = 0; i < p->nr && i < FILES_SHOWN; i++) {
		double width = 26 + 7.3 * (double)strlen(p->file[i].file);

		if (x + width > WIDTH - MARGIN)
			break;
		printf("<rect x=\"%.0f\" y=\"38\" width=\"11\" height=\"11\" fill=\"%s\"/>"
		       "<text x=\"%.0f\" y=\"48\">",
		       x, colours[i], x + 16);
		xml(p->file[i].file, SIZE_MAX);
		fputs("</text>\n", stdout);
		x += width + 8;
	}
}

static const char script[] =
	"const all=[...document.querySelectorAll('.f')],W=1180,M=10;\n"
	"const say=document.getElementById('say');let word='';\n"
	"function num(g,k){return +g.dataset[k]}\n"
	"function label(g,w){const n=g.dataset.n,r=Math.floor((w-6)/6.7);\n"
	" g.lastChild.textContent=w<30?'':n.length>r?n.slice(0,r-2)+'..':n}\n"
	"function zoom(t){const "
	"x0=num(t,'x'),w0=num(t,'w'),y0=+t.children[1].getAttribute('y');\n"
	" for(const g of all){const r=g.children[1],y=+r.getAttribute('y');let "
	"x=num(g,'x'),w=num(g,'w');\n"
	"  const "
	"above=y<y0&&x<=x0+.02&&x+w>=x0+w0-.02,inside=y>=y0&&x>=x0-.02&&x+w<=x0+w0+.02;\n"
	"  g.style.display=above||inside?'':'none';g.style.opacity=above?.5:1;\n"
	"  if(above){x=M;w=W}else{x=M+(x-x0)*W/w0;w=w*W/w0}\n"
	"  r.setAttribute('x',x);r.setAttribute('width',Math.max(w,.1));\n"
	"  g.lastChild.setAttribute('x',x+4);label(g,w)}}\n"
	"function find(){let n=0;for(const g of all){const "
	"h=word&&g.dataset.n.toLowerCase().includes(word);\n"
	"  "
	"n+=h;g.children[1].style.stroke=h?'#c00':'';g.children[1].style.strokeWidth=h?2:''}\n"
	" say.textContent=word?'search: '+word+' ('+n+' boxes)':'click: zoom | Esc: back | "
	"type: search'}\n"
	"for(const g of all)g.addEventListener('click',()=>zoom(g));\n"
	"document.addEventListener('keydown',e=>{if(e.ctrlKey||e.altKey||e.metaKey)return;\n"
	" if(e.key==='Escape'){word='';zoom(all[0])}else "
	"if(e.key==='Backspace')word=word.slice(0,-1);\n"
	" else if(e.key.length===1)word+=e.key.toLowerCase();else "
	"return;find();e.preventDefault()});\n"
	"find();\n";

static void svg_begin(const char *title, double all, const char *unit, int height)
{
	char bytes[24];

	printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	       "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
	       "viewBox=\"0 0 %d %d\">\n"
	       "<style>text{font:12px 'DejaVu Sans Mono',monospace;fill:#222}"
	       ".f{cursor:pointer}.f:hover rect{stroke:#333}.f "
	       "text{pointer-events:none;font-size:11px}"
	       "#say{fill:#777}</style>\n"
	       "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
	       "<text x=\"%d\" y=\"22\" style=\"font-size:15px;font-weight:bold\">",
	       WIDTH, height, WIDTH, height, MARGIN);
	xml(title, SIZE_MAX);
	printf(": %s %s</text>\n<text id=\"say\" x=\"%d\" y=\"22\" "
	       "text-anchor=\"end\"></text>\n",
	       human_bytes(bytes, (uint64_t)all), unit, WIDTH - MARGIN);
}

void shares_as_svg(const struct samples_view *v, const struct stack_share *shares, size_t nr,
		   struct symbols *symbols, const char *title, const char *unit)
{
	struct node root = { .name = "all", .file = "" };
	struct drawing d = { .unit = unit, .palette = { .nr = 0 } };

	for (size_t i = 0; i < nr; i++)
		add_stack(&root, v, &shares[i], symbols);
	sort_children(&root);
	d.all = root.weight > 0 ? root.weight : 1;
	d.scale = (WIDTH - 2 * MARGIN) / d.all;
	weigh_files(&d.palette, &root);
	qsort(d.palette.file, d.palette.nr, sizeof(d.palette.file[0]), by_file_weight);
	svg_begin(title, root.weight, unit,
		  HEAD + FOOT + ROW * (int)depth_of(&root, THIN / d.scale));
	draw_legend(&d.palette);
	root.weight = d.all;
	draw(&d, &root, MARGIN, 0);
	printf("<script>//<![CDATA[\n%s//]]></script>\n</svg>\n", script);
	free_children(&root);
}

/* --- one stack
 * --------------------------------------------------------------------------------- */

void stack_as_text(const struct samples_view *v, uint32_t site, struct symbols *symbols,
		   unsigned most)
{
	const struct site_view *s = &v->sites[site];

	if (s->nr_frames == 0)
		puts("        " UNKNOWN);
	for (unsigned k = 0; k < s->nr_frames && k < most; k++) {
		uint64_t frame = v->frames[s->first_frame + k];
		const char *name = symbols_name(symbols, frame);
		const char *file = symbols_file(symbols, frame);

		printf("        %s%s%s%s\n", name, *file != '\0' ? " (" : "", file,
		       *file != '\0' ? ")" : "");
	}
	if (s->nr_frames > most)
		printf("        ... %u more\n", s->nr_frames - most);
}

void stack_as_json(const struct samples_view *v, uint32_t site, struct symbols *symbols)
{
	const struct site_view *s = &v->sites[site];

	json_array("stack");
	for (unsigned k = 0; k < s->nr_frames; k++)
		json_string(NULL, symbols_name(symbols, v->frames[s->first_frame + k]));
	json_end();
}
