/*
 * jemalloc's tree of names: one table (mallctl.def), one function a row made from it.
 *
 * All memory is one arena to those who ask.  The numbers are read when `epoch` is written,
 * or at the first question, and then stand still until the next.  Nothing here allocates.
 */
#include "preload/jemalloc.h"

#include "preload/config.h"
#include "preload/export.h"
#include "preload/pageblock.h"
#include "preload/stats.h"
#include "preload/text.h"
#include "shim/fast.h"
#include "shim/shim.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NR_ARENAS 1u
/* The number that means all arenas; older programs use the number of arenas for it. */
#define ALL_ARENAS 4096u
#define DEPTH_MAX 6u

/* --- the numbers, as of one moment ---------------------------------------------------- */

/*
 * Every word is relaxed: threads that write `epoch` at once may leave words of two moments
 * a few microseconds apart, which no reader of such numbers can tell.
 */
static struct {
	_Atomic uint64_t epoch;
	_Atomic uint64_t words[sizeof(struct heap_view) / sizeof(uint64_t)];
} seen;
#define NR_WORDS (sizeof(seen.words) / sizeof(seen.words[0]))

static void refresh(void)
{
	struct heap_view view = stats_view();
	uint64_t words[NR_WORDS];

	memcpy(words, &view, sizeof(words));
	for (size_t k = 0; k < NR_WORDS; k++)
		atomic_store_explicit(&seen.words[k], words[k], memory_order_relaxed);
	atomic_fetch_add_explicit(&seen.epoch, 1, memory_order_relaxed);
}

static struct heap_view seen_view(void)
{
	struct heap_view view;
	uint64_t words[NR_WORDS];

	if (atomic_load_explicit(&seen.epoch, memory_order_relaxed) == 0)
		refresh();
	for (size_t k = 0; k < NR_WORDS; k++)
		words[k] = atomic_load_explicit(&seen.words[k], memory_order_relaxed);
	memcpy(&view, words, sizeof(view));
	return view;
}

/* --- one question ------------------------------------------------------------------------ */

struct question {
	size_t i; /* what # stands for */
	void *old;
	size_t *old_len;
	const void *new;
	size_t new_len;
};

/* The value, or as much of it as there is room for. */
static int give(const struct question *q, const void *value, size_t nr_bytes)
{
	size_t len;

	if (q->old == NULL || q->old_len == NULL)
		return 0;
	len = *q->old_len < nr_bytes ? *q->old_len : nr_bytes;
	memcpy(q->old, value, len);
	if (*q->old_len == nr_bytes)
		return 0;
	*q->old_len = len;
	return EINVAL;
}

static bool writes(const struct question *q)
{
	return q->new != NULL || q->new_len != 0;
}

static int ctl_epoch(const struct question *q)
{
	uint64_t epoch;

	if (writes(q)) {
		if (q->new == NULL || q->new_len != sizeof(epoch))
			return EINVAL;
		refresh();
	}
	epoch = atomic_load_explicit(&seen.epoch, memory_order_relaxed);
	return give(q, &epoch, sizeof(epoch));
}

static int ctl_prof_active(const struct question *q)
{
	bool on = shim_sample_is_on();
	int err = give(q, &on, sizeof(on));

	if (err != 0 || !writes(q))
		return err;
	if (q->new == NULL || q->new_len != sizeof(on))
		return EINVAL;
	memcpy(&on, q->new, sizeof(on));
	return shim_sample_switch(on) == 0 ? 0 : ENOENT;
}

/* Written to it is the name of a file; jemalloc's default names are not made up here. */
static int ctl_prof_dump(const struct question *q)
{
	const char *path;

	if (q->old != NULL || q->old_len != NULL)
		return EPERM;
	if (q->new == NULL || q->new_len != sizeof(path))
		return EINVAL;
	memcpy(&path, q->new, sizeof(path));
	return path != NULL && pb_prof_write(path) == 0 ? 0 : EFAULT;
}

static void trim(void)
{
	(void)shim_trim();
}

static int do_it(const struct question *q, void (*what)(void))
{
	if (q->old != NULL || q->old_len != NULL || writes(q))
		return EPERM;
	what();
	return 0;
}

/* --- the table --------------------------------------------------------------------------- */

#define PASTE(a, b) a##b
#define ROW_OF_LINE(line) PASTE(row_, line)
#define ROW ROW_OF_LINE(__LINE__)

#define VALUE(type, expression)                                                                \
	size_t i = q->i;                                                                       \
	struct heap_view s = seen_view();                                                      \
	type value = (type)(expression);                                                       \
                                                                                               \
	(void)i;                                                                               \
	(void)s;
#define CTL_READ(name, type, expression)                                                       \
	static int ROW(const struct question *q)                                               \
	{                                                                                      \
		VALUE(type, expression)                                                        \
		return writes(q) ? EPERM : give(q, &value, sizeof(value));                     \
	}
#define CTL_KEEP(name, type, expression)                                                       \
	static int ROW(const struct question *q)                                               \
	{                                                                                      \
		VALUE(type, expression)                                                        \
		if (writes(q) && (q->new == NULL || q->new_len != sizeof(value)))              \
			return EINVAL;                                                         \
		return give(q, &value, sizeof(value));                                         \
	}
#define CTL_DO(name, function)                                                                 \
	static int ROW(const struct question *q)                                               \
	{                                                                                      \
		return do_it(q, function);                                                     \
	}
#define CTL_CALL(name, function)
#include "preload/mallctl.def"
#undef CTL_READ
#undef CTL_KEEP
#undef CTL_DO
#undef CTL_CALL

struct row {
	const char *name;
	int (*answer)(const struct question *q);
};

static const struct row rows[] = {
#define CTL_READ(name, type, expression) { #name, ROW },
#define CTL_KEEP(name, type, expression) { #name, ROW },
#define CTL_DO(name, function) { #name, ROW },
#define CTL_CALL(name, function) { #name, function },
#include "preload/mallctl.def"
#undef CTL_READ
#undef CTL_KEEP
#undef CTL_DO
#undef CTL_CALL
};
#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

/* --- names and numbers ----------------------------------------------------------------- */

static size_t component_len(const char *name)
{
	return strcspn(name, ".");
}

/* The number a component is; SIZE_MAX: it is none. */
static size_t number_of(const char *s, size_t len)
{
	size_t n = 0;

	if (len == 0 || len > 9)
		return SIZE_MAX;
	for (size_t k = 0; k < len; k++) {
		if (s[k] < '0' || s[k] > '9')
			return SIZE_MAX;
		n = n * 10 + (size_t)(s[k] - '0');
	}
	return n;
}

/* Whether there is such an arena or bin. */
static bool is_numbered(const char *row_name, size_t i)
{
	if (strncmp(row_name, "arenas.bin.", 11) == 0)
		return i < NR_CLASSES;
	return i <= NR_ARENAS || i == ALL_ARENAS;
}

/* How many components a row's name has in common with another's, from the first. */
static size_t common_depth(const char *a, const char *b)
{
	size_t depth = 0;

	for (;;) {
		size_t len = component_len(a);

		if (component_len(b) != len || memcmp(a, b, len) != 0)
			return depth;
		depth++;
		if (a[len] == '\0' || b[len] == '\0')
			return depth;
		a += len + 1;
		b += len + 1;
	}
}

/* What a component is called by: the first row whose name is the same up to it. */
static size_t prefix_number(size_t row, size_t depth)
{
	for (size_t r = 0; r < row; r++) {
		if (common_depth(rows[r].name, rows[row].name) >= depth)
			return r;
	}
	return row;
}

enum match { MATCH_NOT, MATCH_BEGINNING, MATCH_WHOLE };

/*
 * Whether a name is a row's; *i is what # stands for in it.  mib[DEPTH_MAX] gets the numbers of
 * its components, unless it is NULL.
 */
static enum match match_name(size_t row, const char *name, size_t *i, size_t *mib, size_t *nr)
{
	const char *pattern = rows[row].name;

	for (*nr = 0; *nr < DEPTH_MAX;) {
		size_t len = component_len(name), pattern_len = component_len(pattern);

		if (*pattern == '#') {
			*i = number_of(name, len);
			if (!is_numbered(rows[row].name, *i))
				return MATCH_NOT;
		} else if (len != pattern_len || memcmp(name, pattern, len) != 0) {
			return MATCH_NOT;
		}
		if (mib != NULL)
			mib[*nr] = *pattern == '#' ? *i : prefix_number(row, *nr + 1);
		++*nr;
		name += len;
		pattern += pattern_len;
		if (*name == '\0')
			return *pattern == '\0' ? MATCH_WHOLE : MATCH_BEGINNING;
		if (*pattern == '\0')
			return MATCH_NOT;
		name++;
		pattern++;
	}
	return MATCH_NOT;
}

/* Whether these are the numbers of a row's name; *i is the one that # stands for. */
static bool match_numbers(size_t row, const size_t *mib, size_t nr, size_t *i)
{
	const char *pattern = rows[row].name;

	*i = 0;
	for (size_t k = 0; k < nr; k++) {
		if (*pattern == '#') {
			*i = mib[k];
			if (!is_numbered(rows[row].name, *i))
				return false;
		} else if (mib[k] != prefix_number(row, k + 1)) {
			return false;
		}
		pattern += component_len(pattern);
		if (*pattern == '\0')
			return k == nr - 1;
		pattern++;
	}
	return false;
}

EXPORT int mallctlnametomib(const char *name, size_t *mib, size_t *mib_len)
{
	size_t numbers[DEPTH_MAX], nr, i;

	for (size_t row = 0; row < NR_ROWS; row++) {
		/* The beginning of names is a name too, for the caller to complete. */
		if (match_name(row, name, &i, numbers, &nr) == MATCH_NOT)
			continue;
		if (nr > *mib_len)
			nr = *mib_len;
		memcpy(mib, numbers, nr * sizeof(*mib));
		*mib_len = nr;
		return 0;
	}
	return ENOENT;
}

EXPORT int mallctlbymib(const size_t *mib, size_t mib_len, void *old, size_t *old_len,
			void *new, size_t new_len)
{
	struct question q = { 0, old, old_len, new, new_len };

	shim_init();
	for (size_t row = 0; row < NR_ROWS; row++) {
		if (match_numbers(row, mib, mib_len, &q.i))
			return rows[row].answer(&q);
	}
	return ENOENT;
}

EXPORT int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
{
	struct question q = { 0, old, old_len, new, new_len };
	size_t nr;

	shim_init();
	for (size_t row = 0; row < NR_ROWS; row++) {
		if (match_name(row, name, &q.i, NULL, &nr) == MATCH_WHOLE)
			return rows[row].answer(&q);
	}
	return ENOENT;
}

/* --- as text -------------------------------------------------------------------------------
 */

static void print_json(struct text *t, const struct heap_view *view)
{
	bool first = true;

	text_string(t, "{\"jemalloc\":{\"version\":\"5.3.0-0-pageblock-" PB_VERSION
		       "\",\"stats\":{");
#define FIELD(name)                                                                            \
	text_string(t, first ? "\"" #name "\":" : ",\"" #name "\":");                          \
	text_number(t, view->name, 0);                                                         \
	first = false
	FIELD(allocated);
	FIELD(active);
	FIELD(metadata);
	FIELD(resident);
	FIELD(mapped);
	FIELD(retained);
#undef FIELD
	text_string(t, "}}}\n");
}

EXPORT void malloc_stats_print(void (*write)(void *arg, const char *text), void *arg,
			       const char *opts)
{
	struct heap_view view = stats_view();
	struct text t;

	t.len = 0;
	if (opts != NULL && strchr(opts, 'J') != NULL)
		print_json(&t, &view);
	else
		stats_text(&t);
	if (write == NULL) {
		text_write(&t, STDERR_FILENO);
		return;
	}
	t.bytes[t.len < TEXT_BYTES ? t.len : TEXT_BYTES - 1] = '\0';
	write(arg, t.bytes);
}
