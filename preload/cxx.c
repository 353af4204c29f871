/*
 * C++'s operator new and delete, in C, under their mangled names.
 *
 * The fast forms are malloc's and free's.  When there is no memory the new-handler is
 * called until there is some, or none is installed, or it throws: then plain new throws
 * std::bad_alloc and nothrow new returns NULL.  The C++ runtime is only known by weak
 * references; a program that loads it later, by dlopen of a C++ library, has it
 * looked up when it is needed.
 *
 * A program may replace some operators and leave the others to the library, whose
 * defaults must then be made of the replaced ones (new[] of new, sized delete of
 * delete, and so on).  Symbols are bound through the GOT, so comparing the operator
 * that everybody sees with ours tells.
 *
 * Compiled with -fexceptions, as handlers throw through these functions, and with
 * -fsemantic-interposition, so that a call by an operator's name calls the program's.
 */
#define _GNU_SOURCE
#include "preload/dlopen.h"
#include "preload/export.h"
#include "preload/sited.h"
#include "preload/text.h"
#include "shim/fast.h"
#include "shim/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the C++ runtime -------------------------------------------------------------- */

typedef void new_handler(void);

/* Functions of the runtime, of which only the address matters here. */
#define RUNTIME(name) extern char name[] __attribute__((weak))
RUNTIME(_ZSt15get_new_handlerv);   /* std::get_new_handler() */
RUNTIME(_ZSt17__throw_bad_allocv); /* std::__throw_bad_alloc() */
RUNTIME(__gxx_personality_v0);
RUNTIME(__cxa_begin_catch);
RUNTIME(__cxa_end_catch);

static struct {
	new_handler *(*get_new_handler)(void);
	void (*throw_bad_alloc)(void);
} runtime;

/* What cxx_catch_all() refers to; NULL: nothing can be caught. */
extern void *cxx_personality, *cxx_begin_catch, *cxx_end_catch;
void *cxx_personality, *cxx_begin_catch, *cxx_end_catch;

static void *find(void *linked, void *library, const char *name)
{
	if (linked != NULL || library == NULL)
		return linked;
	return dlsym(library, name);
}

/*
 * Finds the runtime; whether there is one.  Not under any lock of ours: dlopen takes
 * its own and may allocate.  All who come here at once store the same.
 */
static bool runtime_find(void)
{
	static const char *const names[] = { "libstdc++.so.6", "libc++.so.1" };
	void *library = NULL;

	if (runtime.throw_bad_alloc != NULL)
		return true;
	if (_ZSt17__throw_bad_allocv == NULL) {
		for (size_t i = 0; library == NULL && i < sizeof(names) / sizeof(names[0]); i++)
			library = dlopen_next()(names[i], RTLD_LAZY | RTLD_NOLOAD);
	}
#define FIND(name) find(name, library, #name)
	cxx_personality = FIND(__gxx_personality_v0);
	cxx_begin_catch = FIND(__cxa_begin_catch);
	cxx_end_catch = FIND(__cxa_end_catch);
	*(void **)&runtime.get_new_handler = FIND(_ZSt15get_new_handlerv);
	*(void **)&runtime.throw_bad_alloc = FIND(_ZSt17__throw_bad_allocv);
#undef FIND
	return runtime.throw_bad_alloc != NULL;
}

static void throw_bad_alloc(size_t size)
{
	struct text t;

	if (runtime_find())
		runtime.throw_bad_alloc();
	t.len = 0;
	text_string(&t, "pageblock: operator new: no memory for ");
	text_number(&t, size, 0);
	text_string(&t, " bytes, and no C++ runtime to throw std::bad_alloc");
	text_end_line(&t);
	text_write(&t, STDERR_FILENO);
	abort();
}

/* What is asked of operator new; align 0: as malloc aligns. */
struct request {
	size_t size;
	size_t align;
	/* The operator of the program that stands for ours, or NULL. */
	void *(*replaced)(size_t size);
	void *(*replaced_aligned)(size_t size, size_t align);
};

static void *attempt(const struct request *r)
{
	if (r->align == 0)
		return shim_malloc(r->size);
	if (r->size <= PTRDIFF_MAX && r->align <= PTRDIFF_MAX - r->size)
		return shim_aligned_alloc(r->align, r->size);
	errno = ENOMEM;
	return NULL;
}

/* After a failure: what the new-handlers make possible, or NULL when there is none left. */
static void *retry(const struct request *r)
{
	void *p = NULL;

	while (p == NULL && runtime_find() && runtime.get_new_handler != NULL) {
		new_handler *handler = runtime.get_new_handler();

		if (handler == NULL)
			break;
		handler();
		p = attempt(r);
	}
	return p;
}

static void *call_replaced(const struct request *r)
{
	if (r->replaced_aligned != NULL)
		return r->replaced_aligned(r->size, r->align);
	return r->replaced(r->size);
}

/*
 * Calls fn(r) and returns what it returns, or NULL when it throws: try and catch (...),
 * which C does not have.  The table tells the C++ runtime's personality routine that
 * anything thrown between the first two labels is caught at the third.
 */
void *cxx_catch_all(void *(*fn)(const struct request *), const struct request *r);
#if defined(__x86_64__)
__asm__(".text\n"
	".p2align 4\n"
	".globl cxx_catch_all\n"
	".hidden cxx_catch_all\n"
	".type cxx_catch_all, @function\n"
	"cxx_catch_all:\n"
	"	.cfi_startproc\n"
	"	.cfi_personality 0x9b, cxx_personality\n" /* indirect, relative, 4 bytes */
	"	.cfi_lsda 0x1b, .Lcatch_table\n"          /* relative, 4 bytes */
	"	endbr64\n"
	"	subq $8, %rsp\n"
	"	.cfi_def_cfa_offset 16\n"
	"	movq %rdi, %rax\n"
	"	movq %rsi, %rdi\n"
	".Lcatch_from:\n"
	"	call *%rax\n"
	".Lcatch_to:\n"
	"	addq $8, %rsp\n"
	"	.cfi_remember_state\n"
	"	.cfi_def_cfa_offset 8\n"
	"	ret\n"
	".Lcatch_pad:\n"
	"	.cfi_restore_state\n"
	"	movq %rax, %rdi\n"
	"	call *cxx_begin_catch(%rip)\n"
	"	call *cxx_end_catch(%rip)\n"
	"	xorl %eax, %eax\n"
	"	addq $8, %rsp\n"
	"	.cfi_def_cfa_offset 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size cxx_catch_all, .-cxx_catch_all\n"
	".section .gcc_except_table, \"a\", @progbits\n"
	".p2align 2\n"
	".Lcatch_table:\n"
	"	.byte 0xff\n" /* landing pads count from the function's start */
	"	.byte 0x9b\n" /* types: indirect, relative, 4 bytes */
	"	.uleb128 .Lcatch_types - .Lcatch_calls\n"
	".Lcatch_calls:\n"
	"	.byte 0x01\n" /* call sites in uleb128 */
	"	.uleb128 .Lcatch_actions - .Lcatch_sites\n"
	".Lcatch_sites:\n"
	"	.uleb128 .Lcatch_from - cxx_catch_all\n"
	"	.uleb128 .Lcatch_to - .Lcatch_from\n"
	"	.uleb128 .Lcatch_pad - cxx_catch_all\n"
	"	.uleb128 1\n"
	".Lcatch_actions:\n"
	"	.byte 1, 0\n" /* type 1, and no further action */
	"	.p2align 2\n"
	"	.long 0\n" /* type 1: anything */
	".Lcatch_types:\n"
	".text\n");
#else
/* A handler that throws out of a nothrow new ends the program here. */
void *cxx_catch_all(void *(*fn)(const struct request *), const struct request *r)
{
	return fn(r);
}
#endif

static COLD void *new_failed(size_t size, size_t align)
{
	struct request r = { .size = size, .align = align };
	void *p = align == 0 || is_power_of_two(align) ? retry(&r) : NULL;

	if (p == NULL)
		throw_bad_alloc(size);
	return p;
}

static COLD void *nothrow_failed(size_t size, size_t align)
{
	struct request r = { .size = size, .align = align };

	if (align != 0 && !is_power_of_two(align))
		return NULL;
	/* Before the call: what it finds is what makes catching possible. */
	(void)runtime_find();
	return cxx_catch_all(retry, &r);
}

static COLD void *nothrow_replaced(struct request r)
{
	(void)runtime_find();
	return cxx_catch_all(call_replaced, &r);
}

static ALWAYS_INLINE void *new_aligned_or_null(size_t size, size_t align)
{
	if (unlikely(!is_power_of_two(align)))
		return NULL;
	if (likely(fast_aligns(align, size)))
		return fast_malloc(class_aligned_size(align, size));
	return attempt(&(struct request){ .size = size, .align = align });
}

/* --- the operators ------------------------------------------------------------------ */

/* Declares an operator, and a name for our definition of it that nobody can replace. */
#define OPERATOR(result, name, ...)                                                            \
	EXPORT result name(__VA_ARGS__);                                                       \
	extern __attribute__((visibility("hidden"), alias(#name))) result own##name(__VA_ARGS__)
#define REPLACED(name)                                                                         \
	unlikely(is_replaced((void (*)(void))(name), (void (*)(void))(own##name)))

/* The compiler must not know where seen is from: it would take the answer for granted. */
static ALWAYS_INLINE bool is_replaced(void (*seen)(void), void (*own)(void))
{
	__asm__("" : "+r"(seen));
	return seen != own;
}

/* As std::nothrow_t const & is passed. */
struct nothrow;

OPERATOR(void *, _Znwm, size_t size);
OPERATOR(void *, _Znam, size_t size);
OPERATOR(void *, _ZnwmSt11align_val_t, size_t size, size_t align);
OPERATOR(void *, _ZnamSt11align_val_t, size_t size, size_t align);
OPERATOR(void, _ZdlPv, void *p);
OPERATOR(void, _ZdaPv, void *p);
OPERATOR(void, _ZdlPvSt11align_val_t, void *p, size_t align);
OPERATOR(void, _ZdaPvSt11align_val_t, void *p, size_t align);

void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
void _ZdlPvm(void *p, size_t size);
void _ZdaPvm(void *p, size_t size);
void _ZdlPvRKSt9nothrow_t(void *p, const struct nothrow *tag);
void _ZdaPvRKSt9nothrow_t(void *p, const struct nothrow *tag);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const struct nothrow *tag);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const struct nothrow *tag);
void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t align);
void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t align);

/* What plain new does when the thread has nothing at hand. */
static NOINLINE void *new_slow(size_t size)
{
	void *p = slow_malloc(size);

	return likely(p != NULL) ? p : new_failed(size, 0);
}

/* new(size) */
EXPORT void *_Znwm(size_t size)
{
	return fast_malloc_or(size, new_slow);
}

/* new[](size): new(size) */
EXPORT void *_Znam(size_t size)
{
	if (REPLACED(_Znwm))
		return _Znwm(size);
	return fast_malloc_or(size, new_slow);
}

/* new(size, align) */
EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align)
{
	void *p = new_aligned_or_null(size, align);

	return likely(p != NULL) ? p : new_failed(size, align);
}

/* new[](size, align): new(size, align) */
EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align)
{
	return _ZnwmSt11align_val_t(size, align);
}

/* new(size, nothrow): new(size), caught */
EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag)
{
	(void)tag;
	if (REPLACED(_Znwm))
		return nothrow_replaced((struct request){ .size = size, .replaced = _Znwm });

	void *p = fast_malloc(size);

	return likely(p != NULL) ? p : nothrow_failed(size, 0);
}

/* new[](size, nothrow): new[](size), caught */
EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag)
{
	(void)tag;
	if (REPLACED(_Znam) || REPLACED(_Znwm))
		return nothrow_replaced((struct request){ .size = size, .replaced = _Znam });

	void *p = fast_malloc(size);

	return likely(p != NULL) ? p : nothrow_failed(size, 0);
}

/* new(size, align, nothrow): new(size, align), caught */
EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align,
						const struct nothrow *tag)
{
	(void)tag;
	if (REPLACED(_ZnwmSt11align_val_t))
		return nothrow_replaced(
			(struct request){ .size = size,
					  .align = align,
					  .replaced_aligned = _ZnwmSt11align_val_t });

	void *p = new_aligned_or_null(size, align);

	return likely(p != NULL) ? p : nothrow_failed(size, align);
}

/* new[](size, align, nothrow): new[](size, align), caught */
EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align,
						const struct nothrow *tag)
{
	(void)tag;
	if (REPLACED(_ZnamSt11align_val_t) || REPLACED(_ZnwmSt11align_val_t))
		return nothrow_replaced(
			(struct request){ .size = size,
					  .align = align,
					  .replaced_aligned = _ZnamSt11align_val_t });

	void *p = new_aligned_or_null(size, align);

	return likely(p != NULL) ? p : nothrow_failed(size, align);
}

/* delete(p) */
EXPORT void _ZdlPv(void *p)
{
	fast_free(p);
}

/* delete[](p): delete(p) */
EXPORT void _ZdaPv(void *p)
{
	if (REPLACED(_ZdlPv))
		_ZdlPv(p);
	else
		fast_free(p);
}

/* delete(p, align) */
EXPORT void _ZdlPvSt11align_val_t(void *p, size_t align)
{
	(void)align;
	fast_free(p);
}

/* delete[](p, align): delete(p, align) */
EXPORT void _ZdaPvSt11align_val_t(void *p, size_t align)
{
	_ZdlPvSt11align_val_t(p, align);
}

/* delete(p, size): delete(p) */
EXPORT void _ZdlPvm(void *p, size_t size)
{
	(void)size;
	if (REPLACED(_ZdlPv))
		_ZdlPv(p);
	else
		fast_free(p);
}

/* delete[](p, size): delete[](p) */
EXPORT void _ZdaPvm(void *p, size_t size)
{
	(void)size;
	if (REPLACED(_ZdaPv) || REPLACED(_ZdlPv))
		_ZdaPv(p);
	else
		fast_free(p);
}

/* delete(p, nothrow): delete(p) */
EXPORT void _ZdlPvRKSt9nothrow_t(void *p, const struct nothrow *tag)
{
	(void)tag;
	_ZdlPv(p);
}

/* delete[](p, nothrow): delete[](p) */
EXPORT void _ZdaPvRKSt9nothrow_t(void *p, const struct nothrow *tag)
{
	(void)tag;
	_ZdaPv(p);
}

/* delete(p, align, nothrow), delete(p, size, align): delete(p, align) */
EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align,
						const struct nothrow *tag)
{
	(void)tag;
	_ZdlPvSt11align_val_t(p, align);
}

EXPORT void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t align)
{
	(void)size;
	_ZdlPvSt11align_val_t(p, align);
}

/* delete[](p, align, nothrow), delete[](p, size, align): delete[](p, align) */
EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align,
						const struct nothrow *tag)
{
	(void)tag;
	_ZdaPvSt11align_val_t(p, align);
}

EXPORT void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t align)
{
	(void)size;
	_ZdaPvSt11align_val_t(p, align);
}

/* --- tcmalloc's names of them --------------------------------------------------------- */

ALIAS(tc_new, _Znwm)
ALIAS(tc_newarray, _Znam)
ALIAS(tc_new_nothrow, _ZnwmRKSt9nothrow_t)
ALIAS(tc_newarray_nothrow, _ZnamRKSt9nothrow_t)
ALIAS(tc_new_aligned, _ZnwmSt11align_val_t)
ALIAS(tc_newarray_aligned, _ZnamSt11align_val_t)
ALIAS(tc_new_aligned_nothrow, _ZnwmSt11align_val_tRKSt9nothrow_t)
ALIAS(tc_newarray_aligned_nothrow, _ZnamSt11align_val_tRKSt9nothrow_t)
ALIAS(tc_delete, _ZdlPv)
ALIAS(tc_deletearray, _ZdaPv)
ALIAS(tc_delete_sized, _ZdlPvm)
ALIAS(tc_deletearray_sized, _ZdaPvm)
ALIAS(tc_delete_nothrow, _ZdlPvRKSt9nothrow_t)
ALIAS(tc_deletearray_nothrow, _ZdaPvRKSt9nothrow_t)
ALIAS(tc_delete_aligned, _ZdlPvSt11align_val_t)
ALIAS(tc_deletearray_aligned, _ZdaPvSt11align_val_t)
ALIAS(tc_delete_sized_aligned, _ZdlPvmSt11align_val_t)
ALIAS(tc_deletearray_sized_aligned, _ZdaPvmSt11align_val_t)
ALIAS(tc_delete_aligned_nothrow, _ZdlPvSt11align_val_tRKSt9nothrow_t)
ALIAS(tc_deletearray_aligned_nothrow, _ZdaPvSt11align_val_tRKSt9nothrow_t)

/* --- twins by site ------------------------------------------------------------------- */

static inline void *new_sited_slow_from(size_t size, struct sites_caller caller)
{
	void *p = sites_malloc(size, &caller);

	return likely(p != NULL) ? p : new_failed(size, 0);
}

static NOINLINE void *new_sited_slower(size_t size, uintptr_t site, const uintptr_t *stack)
{
	return new_sited_slow_from(size, (struct sites_caller){ site, stack, 0, false });
}

static NOINLINE __attribute__((unused)) void *new_sited_slow(size_t size)
{
	return sited_slow_or(size, new_sited_slower);
}

static void *new_sited(size_t size)
{
	return SITED_MALLOC(size, new_sited_slow);
}

static void *new_array_sited(size_t size)
{
	if (REPLACED(_Znwm))
		return _Znwm(size);
	return SITED_MALLOC(size, new_sited_slow);
}

const struct sited_twin sited_new_twins[] = {
	{ (sited_function *)own_Znwm, (sited_function *)new_sited },
	{ (sited_function *)own_Znam, (sited_function *)new_array_sited },
	{ NULL, NULL },
};
