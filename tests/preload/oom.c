/* Under ulimit -v: NULL and ENOMEM when there is no more, and room again after a free. */
#include "tests/preload/test.h"

static void fill(size_t size, size_t most)
{
	void **list = NULL, *p;
	size_t nr = 0;

	for (;;) {
		errno = 0;
		p = malloc(size);
		if (p == NULL)
			break;
		EXPECT(nr++ < most);
		memset(p, 1, size < 4096 ? size : 4096);
		*(void **)p = list;
		list = p;
	}
	EXPECT(errno == ENOMEM && nr > 10);
	errno = 0;
	EXPECT(calloc(1, size) == NULL && errno == ENOMEM);
	errno = 0;
	EXPECT(aligned_alloc(4096, size + 4096) == NULL && errno == ENOMEM);
	/* A failed realloc leaves the block as it is. */
	void *old = list;

	errno = 0;
	EXPECT(realloc(old, (size_t)1 << 40) == NULL && errno == ENOMEM);

	/* What fits into the freed memory is there again. */
	list = (void **)*list;
	free(old);
	p = malloc(size);
	EXPECT(p != NULL);
	memset(p, 1, size);
	free(p);
	while (list != NULL) {
		void *next = *list;

		free(list);
		list = next;
	}
	pb_check();
	/* And all of it in another size. */
	p = malloc(32 << 20);
	EXPECT(p != NULL);
	free(p);
}

int main(void)
{
	expect_library();
	fill(1 << 20, 100000);
	fill(100, 100000000);
	fill(20000, 100000000);
	fill(5 << 20, 100000);
	fill(2000, 100000000);
	return 0;
}
