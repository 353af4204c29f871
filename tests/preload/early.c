/*
 * Allocation early, in the preinit array and in constructors of this program and of a
 * library, and late, in destructors of both and at exit.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dlfcn.h>

extern void *lib_early_block(void);

static void *preinit_block, *constructor_block;

static void preinit(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	preinit_block = calloc(10, 10);
	free(malloc(100000));
}
__attribute__((section(".preinit_array"),
	       used)) static void (*preinit_entry)(int, char **, char **) = preinit;

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
	EXPECT(preinit_block != NULL && constructor_block != NULL && lib_early_block() != NULL);
	free(preinit_block);
	free(lib_early_block());
	EXPECT(atexit(at_exit) == 0);
	pb_check();
	return 0;
}
