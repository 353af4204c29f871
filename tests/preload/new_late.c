/* The C++ runtime comes with dlopen: failing operators find it. */
#include "tests/preload/test.h"

#include <dlfcn.h>

int main(int argc, char **argv)
{
	void *lib;
	int (*fails_well)(size_t);

	expect_library();
	EXPECT(argc == 2);
	EXPECT(dlsym(RTLD_DEFAULT, "__cxa_throw") == NULL);
	lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	EXPECT(lib != NULL);
	*(void **)&fails_well = dlsym(lib, "cxx_fails_well");
	EXPECT(fails_well != NULL);
	EXPECT(fails_well((size_t)PTRDIFF_MAX - 4096) == 1);
	return 0;
}
