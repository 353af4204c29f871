/* A block of libc's own malloc. */
#include "tests/victims/victim.h"

#include <dlfcn.h>

int main(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	void *(*libc_malloc)(size_t);
	void *p;

	*(void **)&libc_malloc = dlsym(libc, "malloc");
	p = libc_malloc(64);
	expect_foreign("free", p);
	free(hidden(p));
	return unnoticed();
}
