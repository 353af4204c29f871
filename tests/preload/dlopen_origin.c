/*
 * dlopen must know who called it: the library of this test is found only by this
 * program's own run path.
 */
#include "tests/preload/test.h"

#include <dlfcn.h>

int main(void)
{
	expect_library();
	void *lib = dlopen("lib_deep.so", RTLD_NOW);

	if (lib == NULL)
		puts(dlerror());
	EXPECT(lib != NULL);
	return 0;
}
