/*
 * Alignments of up to 4 MiB times sizes around every power of two, by all calls that align:
 * blocks are aligned, do not overlap, keep their contents through realloc, and what is freed
 * is handed out again aligned for others.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <malloc.h>

enum { NR_CALLS = 3, ALIGN_ORDERS = 23, SIZE_ORDERS = 21 };

struct aligned {
	unsigned char *p;
	size_t size;
	unsigned char mark;
};

static void *make(unsigned call, size_t align, size_t size)
{
	void *p = NULL;

	HIDE(align);
	HIDE(size);
	switch (call) {
	case 0:
		return memalign(align, size);
	case 1:
		return aligned_alloc(align, size);
	default:
		/* Knows no alignment below a pointer's. */
		if (align < sizeof(void *)) {
			EXPECT(posix_memalign(&p, align, size) == EINVAL && p == NULL);
			align = sizeof(void *);
		}
		EXPECT(posix_memalign(&p, align, size) == 0);
		return p;
	}
}

static struct aligned new_aligned(unsigned call, size_t align, size_t size, unsigned char mark)
{
	struct aligned a = { make(call, align, size), size, mark };

	EXPECT(a.p != NULL && (uintptr_t)a.p % align == 0 && (uintptr_t)a.p % 16 == 0);
	EXPECT(malloc_usable_size(a.p) >= size);
	memset(a.p, mark, malloc_usable_size(a.p));
	return a;
}

static void check(const struct aligned *a)
{
	for (size_t i = 0; i < a->size; i++)
		EXPECT(a->p[i] == a->mark);
}

/* Grown and shrunk, the contents stay. */
static void resize(struct aligned *a, size_t size)
{
	size_t kept = size < a->size ? size : a->size;

	a->p = realloc(a->p, size);
	EXPECT(a->p != NULL && malloc_usable_size(a->p) >= size);
	for (size_t i = 0; i < kept; i++)
		EXPECT(a->p[i] == a->mark);
	memset(a->p, a->mark, size);
	a->size = size;
}

static void all_sizes(size_t align)
{
	static struct aligned all[NR_CALLS * SIZE_ORDERS * 3];
	unsigned nr = 0;

	for (unsigned order = 0; order < SIZE_ORDERS; order++) {
		for (size_t off = 0; off < 3; off++) {
			size_t size = ((size_t)1 << order) + off - 1;

			for (unsigned call = 0; call < NR_CALLS; call++, nr++)
				all[nr] = new_aligned(call, align, size, (unsigned char)nr);
		}
	}
	for (unsigned i = 0; i < nr; i++)
		check(&all[i]);
	for (unsigned i = 0; i < nr; i += 2)
		resize(&all[i], i % 4 == 0 ? all[i].size * 2 + 1 : all[i].size / 2 + 1);
	for (unsigned i = 0; i < nr; i++) {
		check(&all[i]);
		free(all[i].p);
	}
}

int main(void)
{
	expect_library();
	for (unsigned order = 0; order < ALIGN_ORDERS; order++)
		all_sizes((size_t)1 << order);
	/* As malloc, none is too small to be a block of its own, and odd ones are rounded up. */
	for (size_t align = 0; align < 200; align++) {
		void *p = make(0, align, 0), *q = make(1, align, 1);

		EXPECT(p != NULL && q != NULL && p != q);
		EXPECT(align == 0 || (uintptr_t)p % (align & -align) == 0);
		EXPECT(align < 129 || (uintptr_t)q % 256 == 0);
		free(p);
		free(q);
	}
	return 0;
}
