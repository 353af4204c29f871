/*
 * Five places allocate 40 MiB in a random order; then all is freed but one object in each
 * pageblock, of one of the places.  Prints "KEEPER BLOCKS" and waits for its input to end.
 *
 *	blame KEEPER SEED
 */
#include "tests/preload/test.h"

#define NR_SITES 5
#define NR 40000

#define SITE(n, size)                                                                          \
	__attribute__((noinline)) void *site##n(void);                                         \
	__attribute__((noinline)) void *site##n(void)                                          \
	{                                                                                      \
		char *p = malloc(size);                                                        \
                                                                                               \
		memset(p, n, size);                                                            \
		HIDE(p);                                                                       \
		return p;                                                                      \
	}
SITE(0, 1000)
SITE(1, 600)
SITE(2, 1800)
SITE(3, 900)
SITE(4, 700)

static void *(*const sites[NR_SITES])(void) = { site0, site1, site2, site3, site4 };
static void *all[NR];
static unsigned char which[NR];

int main(int argc, char **argv)
{
	static uintptr_t seen[4096];
	size_t nr_blocks = 0;

	EXPECT(argc == 3);
	int keeper = atoi(argv[1]);

	srand((unsigned)atoi(argv[2]));
	for (size_t i = 0; i < NR; i++) {
		which[i] = (unsigned char)(rand() % NR_SITES);
		all[i] = sites[which[i]]();
	}
	for (size_t i = 0; i < NR; i++) {
		uintptr_t block = (uintptr_t)all[i] >> 21;
		size_t k = 0;

		while (k < nr_blocks && seen[k] != block)
			k++;
		if (which[i] == keeper && k == nr_blocks && nr_blocks < 4096)
			seen[nr_blocks++] = block;
		else
			free(all[i]);
	}
	printf("site%d %zu\n", keeper, nr_blocks);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
