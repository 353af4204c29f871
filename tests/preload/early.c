/*
 * Allocation before the library's constructor could have run: in an indirect function's
 * resolver, in the preinit array, in constructors of this program and of a library; and
 * after destructors, at exit.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dlfcn.h>

extern void *lib_early_block(void);

static void *resolver_block, *preinit_block, *constructor_block;

static int work(void)
{
	return 42;
}

#if defined(__x86_64__) && defined(__GNUC__)
static int (*resolve(void))(void)
{
	resolver_block = malloc(1000);
	free(malloc(10));
	return work;
}
int indirect(void) __attribute__((ifunc("resolve")));
#else
#define indirect work
#endif

static void preinit(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	preinit_block = calloc(10, 10);
	free(malloc(100000));
}
__attribute__((section(".preinit_array"), used)) static void (*preinit_entry)(int, char **,
									       char **) = preinit;

/* dlsym and dlerror allocate when they fail. */
__attribute__((constructor)) static void construct(void)
{
	constructor_block = realloc(strdup("hello"), 5000);
	EXPECT(dlsym(RTLD_DEFAULT, "there_is_no_such_function") == NULL);
	EXPECT(dlerror() != NULL);
	EXPECT(dlsym(RTLD_NEXT, "nor_this_one") == NULL);
}

static void at_exit(void)
{
	free(constructor_block);
	constructor_block = malloc(300);
}

__attribute__((destructor)) static void destruct(void)
{
	free(constructor_block);
	free(malloc(5 << 20));
	for (int i = 0; i < 1000; i++)
		free(malloc((size_t)i * 10));
}

int main(void)
{
	expect_library();
	EXPECT(indirect() == 42);
	EXPECT(preinit_block != NULL && constructor_block != NULL && lib_early_block() != NULL);
	free(resolver_block);
	free(preinit_block);
	free(lib_early_block());
	EXPECT(atexit(at_exit) == 0);
	pb_check();
	return 0;
}
