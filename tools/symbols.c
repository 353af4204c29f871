/* Names of addresses; see symbols.h. */
#define _GNU_SOURCE
#include "tools/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct function {
	uint64_t from, to; /* as in the file's own addresses */
	const char *name;
};

/* A file that is mapped, and what is in it. */
struct module {
	char *path;
	const char *base_name;
	void *image; /* mapped; NULL: it cannot be read */
	size_t image_bytes;
	struct function *functions;
	size_t nr_functions;
	bool loaded;
};

struct mapping {
	uint64_t from, to, offset;
	struct module *module;
};

/* One answer. */
struct name {
	uint64_t address;
	char *text; /* in `texts`: every text once */
	const struct module *module;
};

struct symbols {
	pid_t pid;
	struct mapping *mappings;
	size_t nr_mappings;
	struct module *modules[4096];
	size_t nr_modules;
	void *names; /* tree of struct name */
	void *texts; /* tree of strings */
};

/* --- what is mapped -------------------------------------------------------------------- */

static struct module *module_of(struct symbols *s, const char *path)
{
	struct module *m;

	for (size_t i = 0; i < s->nr_modules; i++) {
		if (strcmp(s->modules[i]->path, path) == 0)
			return s->modules[i];
	}
	if (s->nr_modules == sizeof(s->modules) / sizeof(s->modules[0]))
		return NULL;
	m = calloc(1, sizeof(*m));
	if (m == NULL || (m->path = strdup(path)) == NULL) {
		free(m);
		return NULL;
	}
	m->base_name = strrchr(m->path, '/') != NULL ? strrchr(m->path, '/') + 1 : m->path;
	return s->modules[s->nr_modules++] = m;
}

static bool add_mapping(struct symbols *s, const char *line)
{
	unsigned long long from, to, offset;
	char access[8], path[PATH_MAX] = "";
	struct mapping *grown;

	if (sscanf(line, "%llx-%llx %7s %llx %*s %*s %4095[^\n]", &from, &to, access, &offset,
		   path) < 4 ||
	    access[2] != 'x')
		return true;
	grown = realloc(s->mappings, (s->nr_mappings + 1) * sizeof(*grown));
	if (grown == NULL)
		return false;
	s->mappings = grown;
	s->mappings[s->nr_mappings++] =
		(struct mapping){ from, to, offset, *path != '\0' ? module_of(s, path) : NULL };
	return true;
}

struct symbols *symbols_open(pid_t pid)
{
	struct symbols *s = calloc(1, sizeof(*s));
	char path[64], line[PATH_MAX + 256];
	FILE *maps;

	if (s == NULL)
		return NULL;
	s->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL && add_mapping(s, line))
		;
	if (maps != NULL)
		fclose(maps);
	return s;
}

static const struct mapping *mapping_of(const struct symbols *s, uint64_t address)
{
	for (size_t i = 0; i < s->nr_mappings; i++) {
		if (address >= s->mappings[i].from && address < s->mappings[i].to)
			return &s->mappings[i];
	}
	return NULL;
}

/* --- what is in a file ------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/* Whether a part of the file is in it. */
static bool is_within(const struct module *m, uint64_t offset, uint64_t nr_bytes)
{
	return offset <= m->image_bytes && nr_bytes <= m->image_bytes - offset;
}

static void add_functions(struct module *m, const Elf64_Shdr *table, const Elf64_Shdr *strings)
{
	const char *image = m->image;
	size_t nr = table->sh_size / sizeof(Elf64_Sym);
	struct function *grown;

	if (!is_within(m, table->sh_offset, table->sh_size) ||
	    !is_within(m, strings->sh_offset, strings->sh_size) || strings->sh_size == 0 ||
	    image[strings->sh_offset + strings->sh_size - 1] != '\0')
		return;
	grown = realloc(m->functions, (m->nr_functions + nr) * sizeof(*grown));
	if (grown == NULL)
		return;
	m->functions = grown;
	for (size_t i = 0; i < nr; i++) {
		Elf64_Sym symbol;

		memcpy(&symbol, image + table->sh_offset + i * sizeof(symbol), sizeof(symbol));
		if ((ELF64_ST_TYPE(symbol.st_info) != STT_FUNC &&
		     ELF64_ST_TYPE(symbol.st_info) != STT_GNU_IFUNC) ||
		    symbol.st_shndx == SHN_UNDEF || symbol.st_size == 0 ||
		    symbol.st_name >= strings->sh_size)
			continue;
		m->functions[m->nr_functions++] =
			(struct function){ symbol.st_value, symbol.st_value + symbol.st_size,
					   image + strings->sh_offset + symbol.st_name };
	}
}

static void load_functions(struct module *m)
{
	const char *image = m->image;
	Elf64_Ehdr header;

	if (m->image_bytes < sizeof(header))
		return;
	memcpy(&header, image, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    !is_within(m, header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr)))
		return;
	for (unsigned i = 0; i < header.e_shnum; i++) {
		Elf64_Shdr table, strings;

		memcpy(&table, image + header.e_shoff + i * sizeof(table), sizeof(table));
		if ((table.sh_type != SHT_SYMTAB && table.sh_type != SHT_DYNSYM) ||
		    table.sh_link >= header.e_shnum)
			continue;
		memcpy(&strings, image + header.e_shoff + table.sh_link * sizeof(strings),
		       sizeof(strings));
		add_functions(m, &table, &strings);
	}
	qsort(m->functions, m->nr_functions, sizeof(*m->functions), by_address);
}

/* The file as the process sees it, which may be in another mount namespace, or deleted. */
static void load(struct symbols *s, struct module *m)
{
	char path[PATH_MAX + 64];
	struct stat status;
	int fd;

	m->loaded = true;
	if (m->path[0] != '/')
		return;
	snprintf(path, sizeof(path), "/proc/%d/root%s", (int)s->pid, m->path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fd = open(m->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
		void *image = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (image != MAP_FAILED) {
			m->image = image;
			m->image_bytes = (size_t)status.st_size;
			load_functions(m);
		}
	}
	close(fd);
}

/* Where a place in the file is in the file's own addresses. */
static uint64_t file_to_address(const struct module *m, uint64_t offset)
{
	const char *image = m->image;
	Elf64_Ehdr header;

	if (m->image_bytes < sizeof(header))
		return offset;
	memcpy(&header, image, sizeof(header));
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr part;
		uint64_t at = header.e_phoff + (uint64_t)i * sizeof(part);

		if (!is_within(m, at, sizeof(part)))
			break;
		memcpy(&part, image + at, sizeof(part));
		if (part.p_type == PT_LOAD && offset >= part.p_offset &&
		    offset < part.p_offset + part.p_filesz)
			return offset - part.p_offset + part.p_vaddr;
	}
	return offset;
}

static const char *function_at(const struct module *m, uint64_t address)
{
	size_t low = 0, high = m->nr_functions;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (m->functions[middle].from <= address)
			low = middle + 1;
		else
			high = middle;
	}
	/* Several may begin at one place, and a small one may lie in a large one. */
	for (size_t back = 0; back < 8 && back < low; back++) {
		if (address < m->functions[low - 1 - back].to)
			return m->functions[low - 1 - back].name;
	}
	return NULL;
}

/* --- answers --------------------------------------------------------------------------------
 */

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The one copy of a text. */
static char *text_once(struct symbols *s, const char *text)
{
	char *copy = strdup(text), **found;

	if (copy == NULL)
		return NULL;
	found = tsearch(copy, &s->texts, compare_texts);
	if (found != NULL && *found != copy)
		free(copy);
	return found != NULL ? *found : copy;
}

static struct name *look_up(struct symbols *s, uint64_t return_address)
{
	/* The call is before it, and may be the last thing in its function. */
	uint64_t call = return_address - 1;
	const struct mapping *m = mapping_of(s, call);
	struct name key = { .address = return_address }, **found, *name;
	const char *function = NULL;
	char text[PATH_MAX + 64];

	found = tfind(&key, &s->names, compare_names);
	if (found != NULL)
		return *found;
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)return_address);
	if (m != NULL && m->module != NULL) {
		uint64_t offset = call - m->from + m->offset;

		if (!m->module->loaded)
			load(s, m->module);
		function = function_at(m->module, file_to_address(m->module, offset));
		/* Without a name: the page, so that one function's calls mostly stay together.
		 */
		snprintf(text, sizeof(text), "%s+0x%llx", m->module->base_name,
			 (unsigned long long)offset);
	}
	name = calloc(1, sizeof(*name));
	if (name == NULL)
		return NULL;
	name->address = return_address;
	name->text = text_once(s, function != NULL ? function : text);
	name->module = m != NULL ? m->module : NULL;
	(void)tsearch(name, &s->names, compare_names);
	return name;
}

const char *symbols_name(struct symbols *s, uint64_t return_address)
{
	struct name *name = look_up(s, return_address);

	return name != NULL && name->text != NULL ? name->text : "?";
}

const char *symbols_file(struct symbols *s, uint64_t return_address)
{
	struct name *name = look_up(s, return_address);

	return name != NULL && name->module != NULL ? name->module->base_name : "";
}

/* --- C++ names
 * --------------------------------------------------------------------------------- */

/* A line of c++filt's answer for each line of the question. */
static void read_answers(struct symbols *s, FILE *answer, struct name **mangled, size_t nr)
{
	char line[8192];

	for (size_t i = 0; i < nr && fgets(line, sizeof(line), answer) != NULL; i++) {
		line[strcspn(line, "\n")] = '\0';
		mangled[i]->text = text_once(s, line);
	}
}

static void demangle(struct symbols *s, struct name **mangled, size_t nr)
{
	char path[] = "/tmp/pageblock.XXXXXX", command[sizeof(path) + 64];
	int fd = mkstemp(path);
	FILE *question = fd >= 0 ? fdopen(fd, "w") : NULL, *answer;

	if (question == NULL)
		return;
	for (size_t i = 0; i < nr; i++)
		fprintf(question, "%s\n", mangled[i]->text);
	fclose(question);
	snprintf(command, sizeof(command), "c++filt <%s 2>/dev/null", path);
	answer = popen(command, "re");
	if (answer != NULL) {
		read_answers(s, answer, mangled, nr);
		pclose(answer);
	}
	unlink(path);
}

void symbols_prepare(struct symbols *s, const uint64_t *return_addresses, size_t nr)
{
	struct name **mangled = calloc(nr + 1, sizeof(*mangled));
	size_t nr_mangled = 0;

	if (mangled == NULL)
		return;
	for (size_t i = 0; i < nr; i++) {
		struct name *name = look_up(s, return_addresses[i]);

		if (name != NULL && name->text != NULL &&
		    (strncmp(name->text, "_Z", 2) == 0 || strncmp(name->text, "_R", 2) == 0))
			mangled[nr_mangled++] = name;
	}
	if (nr_mangled > 0)
		demangle(s, mangled, nr_mangled);
	free(mangled);
}

static void free_name(void *name)
{
	free(name);
}

void symbols_close(struct symbols *s)
{
	if (s == NULL)
		return;
	tdestroy(s->names, free_name);
	tdestroy(s->texts, free);
	for (size_t i = 0; i < s->nr_modules; i++) {
		if (s->modules[i]->image != NULL)
			munmap(s->modules[i]->image, s->modules[i]->image_bytes);
		free(s->modules[i]->functions);
		free(s->modules[i]->path);
		free(s->modules[i]);
	}
	free(s->mappings);
	free(s);
}
