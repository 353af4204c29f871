/* Blocks cross the border of a library opened with RTLD_DEEPBIND, in both directions. */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dlfcn.h>
#include <stdbool.h>

int main(int argc, char **argv)
{
	void *lib;
	char *(*make)(void);
	void (*take)(char *);
	void *(*address)(void);
	void *(*ours)(size_t) = malloc;
	bool same;

	expect_library();
	EXPECT(argc >= 2);
	lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	EXPECT(lib != NULL);
	*(void **)&make = dlsym(lib, "deep_make");
	*(void **)&take = dlsym(lib, "deep_take");
	*(void **)&address = dlsym(lib, "deep_malloc_address");
	same = address() == *(void **)&ours;
	if (argc > 2) {
		/* The option deepbind:true: nothing may cross. */
		EXPECT(!same);
		return 0;
	}
	EXPECT(same);
	for (int i = 0; i < 100; i++) {
		char *s = make();

		EXPECT(strcmp(s, "from the library") == 0);
		free(s);
		take(strdup("from the program"));
	}
	EXPECT(dlclose(lib) == 0);
	EXPECT(dlopen("/there/is/no/such/library.so", RTLD_NOW) == NULL);
	EXPECT(strstr(dlerror(), "/there/is/no/such/library.so") != NULL);
	return 0;
}
