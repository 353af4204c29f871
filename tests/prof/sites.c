/*
 * Allocates a known number of bytes at each of three places, frees a known part of them, and
 * prints for each "NAME LIVE ALLOCATED" in bytes.  With an argument it then waits for
 * a line on standard input, to be looked at.
 */
#include "tests/preload/test.h"

#define NR 200000

static void *kept[NR];
static size_t nr_kept;

#define SITE(name, size, frees)                                                                \
	__attribute__((noinline)) void *name(void);                                            \
	__attribute__((noinline)) void *name(void)                                             \
	{                                                                                      \
		char *p = malloc(size);                                                        \
                                                                                               \
		HIDE(p);                                                                       \
		return p;                                                                      \
	}                                                                                      \
	static void run_##name(size_t nr)                                                      \
	{                                                                                      \
		size_t nr_live = 0;                                                            \
                                                                                               \
		for (size_t i = 0; i < nr; i++) {                                              \
			void *p = name();                                                      \
                                                                                               \
			if (i % 10 < (frees)) {                                                \
				free(p);                                                       \
			} else {                                                               \
				kept[nr_kept++] = p;                                           \
				nr_live++;                                                     \
			}                                                                      \
		}                                                                              \
		printf(#name " %zu %zu\n", nr_live *(size), nr *(size));                       \
	}
SITE(site_small, 48, 2)
SITE(site_medium, 5000, 5)
SITE(site_large, 200000, 7)

int main(int argc, char **argv)
{
	(void)argv;
	run_site_small(NR);
	run_site_medium(20000);
	run_site_large(1000);
	fflush(stdout);
	if (argc > 1)
		(void)getchar();
	return 0;
}
