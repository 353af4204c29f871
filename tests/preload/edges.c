/*
 * Calls at the edges of each function, printed one a line: the runner compares what it
 * prints on glibc with what it prints on the library.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static size_t hide(size_t n)
{
	__asm__ volatile("" : "+r"(n));
	return n;
}

static const char *error(void)
{
	return errno == 0        ? "-"
	       : errno == ENOMEM ? "ENOMEM"
	       : errno == EINVAL ? "EINVAL"
				 : "other";
}

/* A block of size bytes that can be written, is aligned, and can be freed. */
static const char *block(void *p, size_t size, size_t align)
{
	if (p == NULL)
		return "NULL";
	if ((uintptr_t)p % align != 0)
		return "misaligned";
	if (malloc_usable_size(p) < size)
		return "short";
	size = malloc_usable_size(p);
	memset(p, 0xa5, size < 64 << 20 ? size : 64 << 20);
	free(p);
	return "block";
}

#define SHOW(size, align, call)                                                                \
	do {                                                                                   \
		errno = 0;                                                                     \
		void *result = call;                                                           \
		const char *e = error();                                                       \
		printf("%-60s %s %s\n", #call " " #size " " #align,                            \
		       block(result, size, align), e);                                         \
	} while (0)

static const size_t sizes[] = { 0,
				1,
				15,
				16,
				17,
				100,
				2048,
				2049,
				4096,
				32768,
				32769,
				65536,
				1 << 20,
				5 << 20,
				(size_t)1 << 46,
				PTRDIFF_MAX - 65536,
				PTRDIFF_MAX - 4096,
				PTRDIFF_MAX - 64,
				PTRDIFF_MAX,
				(size_t)PTRDIFF_MAX + 1,
				SIZE_MAX - 65536,
				SIZE_MAX - 4095,
				SIZE_MAX - 16,
				SIZE_MAX };
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const size_t aligns[] = { 0,
				 1,
				 2,
				 3,
				 4,
				 8,
				 15,
				 16,
				 24,
				 32,
				 48,
				 64,
				 100,
				 256,
				 4096,
				 5000,
				 65536,
				 1 << 20,
				 8 << 20,
				 (size_t)1 << 46,
				 (size_t)1 << 62,
				 SIZE_MAX / 2 + 1,
				 SIZE_MAX / 2 + 2,
				 SIZE_MAX };
#define NR_ALIGNS (sizeof(aligns) / sizeof(aligns[0]))

static size_t at_least_one(size_t align)
{
	size_t power = 1;

	while (power < align && power < (size_t)1 << 62)
		power *= 2;
	return power;
}

static void allocate(void)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t size = hide(sizes[i]);

		printf("size %zu\n", size);
		SHOW(size, 16, malloc(size));
		SHOW(size, 16, calloc(1, size));
		SHOW(size, 16, calloc(size, 1));
		SHOW(size, 16, realloc(NULL, size));
		SHOW(size, 16, reallocarray(NULL, 1, size));
		SHOW(size, 4096, valloc(size));
		SHOW(size, 4096, pvalloc(size));
		for (size_t k = 0; k < NR_ALIGNS; k++) {
			size_t align = hide(aligns[k]);

			printf("align %zu: ", align);
			SHOW(size, at_least_one(align), memalign(align, size));
			printf("align %zu: ", align);
			SHOW(size, at_least_one(align), aligned_alloc(align, size));

			void *p = &p;

			errno = 0;
			int rc = posix_memalign(&p, align, size);
			const char *e = error();
			bool unchanged = p == &p;

			printf("posix_memalign(%zu, %zu) = %d %s %s\n", align, size, rc, e,
			       unchanged ? "unchanged" : block(p, size, at_least_one(align)));
		}
	}
}

static void overflow(void)
{
	static const size_t pairs[][2] = { { 2, SIZE_MAX / 2 + 1 },
					   { SIZE_MAX, SIZE_MAX },
					   { SIZE_MAX / 16 + 1, 16 },
					   { (size_t)1 << 32, 1u << 31 },
					   { 0, SIZE_MAX },
					   { SIZE_MAX, 0 },
					   { (size_t)1 << 33, (size_t)1 << 33 } };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		size_t a = hide(pairs[i][0]), b = hide(pairs[i][1]);

		printf("%zu * %zu\n", a, b);
		SHOW(0, 16, calloc(a, b));
		SHOW(0, 16, reallocarray(NULL, a, b));
	}
}

static void realloc_edges(void)
{
	char *p = malloc(100), *q;

	memset(p, 'x', 100);
	errno = 0;
	q = realloc((void *)hide((uintptr_t)p), hide((size_t)PTRDIFF_MAX + 1));
	printf("realloc to too much: %s %s\n", q == NULL ? "NULL" : "block", error());
	printf("still there: %d\n", p[0] == 'x' && p[99] == 'x');
	errno = 0;
	q = reallocarray((void *)hide((uintptr_t)p), hide(SIZE_MAX), 2);
	printf("reallocarray overflow: %s %s\n", q == NULL ? "NULL" : "block", error());
	printf("still there: %d\n", p[0] == 'x' && p[99] == 'x');
	errno = 0;
	q = realloc(p, hide(0));
	printf("realloc to 0: %s %s\n", q == NULL ? "NULL" : "block", error());
	p = malloc(100);
	errno = 0;
	q = reallocarray(p, hide(0), 10);
	printf("reallocarray to 0: %s %s\n", q == NULL ? "NULL" : "block", error());

	/* Contents through sizes of every kind, growing and shrinking. */
	static const size_t steps[] = { 1,       10,      100,  1000,    10000,   100000,
					1000000, 3 << 20, 10,   5 << 20, 6 << 20, 4 << 20,
					70000,   65536,   4096, 100,     2047,    2049,
					32768,   32769,   24,   1 };
	size_t old = 1;

	p = malloc(1);
	p[0] = 1;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t n = steps[i], common = n < old ? n : old, wrong = 0;

		p = realloc(p, n);
		for (size_t k = 0; k < common; k++)
			wrong += p[k] != (char)(k * 31 + 1);
		printf("realloc %zu -> %zu: %zu wrong\n", old, n, wrong);
		for (size_t k = 0; k < n; k++)
			p[k] = (char)(k * 31 + 1);
		old = n;
	}
	free(p);
}

static void calloc_zeroes(void)
{
	static const size_t some[] = {
		8, 24, 64, 500, 2048, 3000, 32768, 40000, 300000, 3 << 20
	};

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
			void *blocks[20];
			size_t wrong = 0;

			for (int k = 0; k < 20; k++) {
				unsigned char *p = calloc(1, some[i]);

				for (size_t j = 0; j < malloc_usable_size(p) && j < some[i];
				     j++)
					wrong += p[j] != 0;
				memset(p, 0xff, some[i]);
				blocks[k] = p;
			}
			for (int k = 0; k < 20; k++)
				free(blocks[k]);
			printf("calloc %zu: %zu wrong\n", some[i], wrong);
		}
	}
}

static void errno_kept(void)
{
	static const size_t some[] = { 1, 100, 5000, 40000, 200000, 4 << 20, 64 << 20 };

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		errno = 4321;
		void *p = malloc(some[i]);
		int after_malloc = errno;
		void *q = calloc(1, some[i]);
		int after_calloc = errno;

		memset(p, 1, some[i]);
		memset(q, 1, some[i]);
		p = realloc(p, some[i] * 2);
		int after_realloc = errno;

		free(p);
		free(q);
		printf("errno %zu: %d %d %d %d\n", some[i], after_malloc, after_calloc,
		       after_realloc, errno);
	}
	errno = 4321;
	free(NULL);
	printf("errno NULL: %d\n", errno);
}

static void rest(void)
{
	static const int params[][2] = {
		{ M_MXFAST, 0 },
		{ M_MXFAST, 160 },
		{ M_MXFAST, 161 },
		{ M_MXFAST, -1 },
		{ M_TRIM_THRESHOLD, 0 },
		{ M_TRIM_THRESHOLD, -1 },
		{ M_TOP_PAD, 65536 },
		{ M_MMAP_THRESHOLD, 0 },
		{ M_MMAP_THRESHOLD, 65536 },
		{ M_MMAP_THRESHOLD, 32 << 20 },
		{ M_MMAP_THRESHOLD, (32 << 20) + 1 },
		{ M_MMAP_THRESHOLD, (1 << 30) },
		{ M_MMAP_THRESHOLD, -1 },
		{ M_MMAP_MAX, 0 },
		{ M_CHECK_ACTION, 3 },
		{ M_PERTURB, 0 },
		{ M_ARENA_TEST, 1 },
		{ M_ARENA_MAX, 1 },
		{ M_ARENA_MAX, 0 },
		{ M_ARENA_TEST, 0 },
		{ 12345, 1 },
		{ -100, 1 },
	};

	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		printf("mallopt(%d, %d) = %d\n", params[i][0], params[i][1],
		       mallopt(params[i][0], params[i][1]));
	printf("malloc_usable_size(NULL) = %zu\n", malloc_usable_size(NULL));
	errno = 0;
	printf("malloc_info(1) = %d %s\n", malloc_info((int)hide(1), stdout), error());
	free(realloc(NULL, 0));
	free(malloc(0));

	void *a = malloc(0), *b = malloc(0);

	printf("malloc(0) twice: %s\n", a != b && a != NULL ? "two blocks" : "not two blocks");
	free(a);
	free(b);
}

int main(void)
{
	allocate();
	overflow();
	realloc_edges();
	calloc_zeroes();
	errno_kept();
	rest();
	return 0;
}
