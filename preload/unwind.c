/*
 * Stacks by libunwind, or by libgcc's unwinder where that is not installed.
 *
 * Nothing is linked: dlopen() loads it, once, before the program begins.  libunwind is
 * preferred because it remembers what it found (0.2 us for 26 frames against 8 us).
 *
 * What has to be done for it to be safe inside any malloc:
 *  - Its cache is made one for each thread: the global one has a mutex that is held while
 *    dl_iterate_phdr() waits for the linker's lock, whose holder may be in a callback that
 *    allocates.
 *  - To find a frame's tables it calls dl_iterate_phdr(), which takes a lock of the dynamic
 *    linker's that nobody mends in the child of a fork.  That call is led to a function that
 *    asks _dl_find_object(), which takes none.
 *  - To find out whether an address may be read (in code without unwind tables, such as a
 *    JIT compiler's) it writes a byte from there into a pipe of its own and reads it again.
 *    In a program that has closed all descriptors it knows nothing of, these two numbers
 *    belong to somebody else.  Its calls of pipe2, read and write are led to functions
 *    below, which ask the kernel without any descriptor.  Where that is not possible
 *    libgcc's unwinder is taken, which does not guess and stops at such code.
 */
#define _GNU_SOURCE
#include "preload/unwind.h"

#include "core/util.h"
#include "preload/dlopen.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

/* Frames of the unwinder and of the library itself, at the inner end. */
#define OWN_FRAMES_MAX 16u
#define FRAMES_MAX 128u

typedef int backtrace_fn(void **frames, int max);
typedef _Unwind_Reason_Code unwind_fn(_Unwind_Trace_Fn each, void *arg);
typedef _Unwind_Ptr ip_fn(struct _Unwind_Context *context);

static backtrace_fn *backtrace_by;
static unwind_fn *gcc_backtrace;
static ip_fn *gcc_ip;

/* What is done to it needs this much of glibc. */
#if defined(__x86_64__) && defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
#define LIBUNWIND_SAFE 1
#else
#define LIBUNWIND_SAFE 0
#endif

#if LIBUNWIND_SAFE
/* --- libunwind -------------------------------------------------------------------------- */

/*
 * The kernel reads the set before it finds the first argument to be nonsense; errno says
 * which of the two it did not like.
 */
static bool is_readable(const void *address)
{
	int saved = errno;
	bool readable =
		syscall(SYS_rt_sigprocmask, ~0, address, NULL, 8) == 0 || errno != EFAULT;

	errno = saved;
	return readable;
}

static int no_pipe(int fds[2], int flags)
{
	(void)flags;
	fds[0] = fds[1] = -1;
	return 0;
}

/* One byte is what it empties its pipe by; else it reads files. */
static ssize_t read_no_pipe(int fd, void *buffer, size_t nr_bytes)
{
	if (nr_bytes > 1)
		return read(fd, buffer, nr_bytes);
	errno = EAGAIN;
	return -1;
}

/* It calls syscall() for a write of one byte into its pipe, and for nothing else. */
static long probe(long number, int fd, const void *address, size_t nr_bytes)
{
	(void)number;
	(void)fd;
	if (is_readable((const void *)((uintptr_t)address & ~(uintptr_t)7)))
		return (long)nr_bytes;
	errno = EFAULT;
	return -1;
}

/*
 * Instead of dl_iterate_phdr(): calls back for the one object that matters.  data begins with
 * the address whose tables libunwind looks for.
 */
static int find_object(int (*callback)(struct dl_phdr_info *, size_t, void *), void *data)
{
	struct dl_phdr_info info;
	struct dl_find_object found;
	const ElfW(Ehdr) * header;
	void *address;

	memcpy(&address, data, sizeof(address));
	if (_dl_find_object(address, &found) != 0)
		return 0;
	header = found.dlfo_map_start;
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	memset(&info, 0, sizeof(info));
	info.dlpi_addr = found.dlfo_link_map->l_addr;
	info.dlpi_name = found.dlfo_link_map->l_name;
	info.dlpi_phdr =
		(const ElfW(Phdr) *)(const void *)((const char *)header + header->e_phoff);
	info.dlpi_phnum = header->e_phnum;
	return callback(&info, sizeof(info), data);
}

static const struct {
	const char *name;
	void (*instead)(void);
} replaced[] = {
	{ "dl_iterate_phdr", (void (*)(void))find_object },
	{ "pipe2", (void (*)(void))no_pipe },
	{ "read", (void (*)(void))read_no_pipe },
	{ "syscall", (void (*)(void))probe },
};
#define NR_REPLACED (sizeof(replaced) / sizeof(replaced[0]))

/* What the dynamic section says, as far as it is needed here. */
struct dynamic {
	const ElfW(Sym) * symbols;
	const char *strings;
	const ElfW(Rela) * calls;
	size_t calls_bytes;
	bool sealed; /* the slots of calls can no longer be written to */
};

static struct dynamic dynamic_of(const struct link_map *map)
{
	struct dynamic d = { .symbols = NULL };

	/* The dynamic linker has made the values addresses. */
	for (const ElfW(Dyn) *e = map->l_ld; e->d_tag != DT_NULL; e++) {
		const void *at = (const void *)e->d_un.d_ptr;

		if (e->d_tag == DT_SYMTAB)
			d.symbols = at;
		else if (e->d_tag == DT_STRTAB)
			d.strings = at;
		else if (e->d_tag == DT_JMPREL)
			d.calls = at;
		else if (e->d_tag == DT_PLTRELSZ)
			d.calls_bytes = e->d_un.d_val;
		else if (e->d_tag == DT_BIND_NOW ||
			 (e->d_tag == DT_FLAGS && (e->d_un.d_val & DF_BIND_NOW) != 0) ||
			 (e->d_tag == DT_FLAGS_1 && (e->d_un.d_val & DF_1_NOW) != 0))
			d.sealed = true;
	}
	return d;
}

/* Leads the library's calls to the functions above; false: that is not possible. */
static bool replace_calls(void *library)
{
	struct link_map *map;
	size_t nr = 0;

	if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
		return false;

	struct dynamic d = dynamic_of(map);

	if (d.symbols == NULL || d.strings == NULL || d.calls == NULL || d.sealed)
		return false;
	for (size_t i = 0; i < d.calls_bytes / sizeof(*d.calls); i++) {
		const ElfW(Sym) *symbol = &d.symbols[ELF64_R_SYM(d.calls[i].r_info)];
		void **slot = (void **)(map->l_addr + d.calls[i].r_offset);

		for (size_t k = 0; k < NR_REPLACED; k++) {
			if (strcmp(d.strings + symbol->st_name, replaced[k].name) == 0) {
				memcpy(slot, &replaced[k].instead, sizeof(*slot));
				nr++;
			}
		}
	}
	return nr == NR_REPLACED;
}

#endif

static bool load_libunwind(void)
{
#if LIBUNWIND_SAFE
	enum { CACHE_PER_THREAD = 2 };
	void *library = dlopen_next()("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
	int (*set_policy)(void *space, int policy);
	void **space;

	if (library == NULL)
		return false;
	*(void **)&backtrace_by = dlsym(library, "unw_backtrace");
	*(void **)&set_policy = dlsym(library, "_ULx86_64_set_caching_policy");
	space = dlsym(library, "_ULx86_64_local_addr_space");
	if (backtrace_by != NULL && set_policy != NULL && space != NULL &&
	    replace_calls(library)) {
		void *frames[FRAMES_MAX];

		/* Sets up what the policy is a part of. */
		(void)backtrace_by(frames, FRAMES_MAX);
		return set_policy(*space, CACHE_PER_THREAD) == 0;
	}
	backtrace_by = NULL;
#endif
	return false;
}

/* --- libgcc ------------------------------------------------------------------------------ */

struct stack {
	void **frames;
	unsigned nr, max;
};

static _Unwind_Reason_Code each_frame(struct _Unwind_Context *context, void *arg)
{
	struct stack *stack = arg;

	if (stack->nr == stack->max)
		return _URC_END_OF_STACK;
	stack->frames[stack->nr++] = (void *)gcc_ip(context);
	return _URC_NO_REASON;
}

static bool load_libgcc(void)
{
	void *library = dlopen_next()("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return false;
	*(void **)&gcc_ip = dlsym(library, "_Unwind_GetIP");
	*(void **)&gcc_backtrace = dlsym(library, "_Unwind_Backtrace");
	return gcc_ip != NULL && gcc_backtrace != NULL;
}

/* --- both ----------------------------------------------------------------------------------
 */

/* The library's code: its own frames are nobody's business. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

bool unwind_load(void)
{
	void *frames[FRAMES_MAX];

	if (!load_libunwind()) {
		backtrace_by = NULL;
		if (!load_libgcc())
			return false;
	}
	(void)unwind_stack(frames, FRAMES_MAX);
	return true;
}

unsigned unwind_stack(void **frames, unsigned max)
{
	void *all[FRAMES_MAX];
	unsigned nr = 0, own = 0;

	if (max > FRAMES_MAX - OWN_FRAMES_MAX)
		max = FRAMES_MAX - OWN_FRAMES_MAX;
	if (backtrace_by != NULL) {
		int got = backtrace_by(all, (int)(max + OWN_FRAMES_MAX));

		nr = got > 0 ? (unsigned)got : 0;
	} else {
		struct stack stack = { all, 0, max + OWN_FRAMES_MAX };

		(void)gcc_backtrace(each_frame, &stack);
		nr = stack.nr;
	}
	while (own < nr && (const char *)all[own] >= __ehdr_start &&
	       (const char *)all[own] < etext)
		own++;
	nr = nr - own < max ? nr - own : max;
	/* The outermost may be 0, as the first of a thread is. */
	while (nr > 0 && all[own + nr - 1] == NULL)
		nr--;
	memcpy(frames, all + own, nr * sizeof(*frames));
	return nr;
}
