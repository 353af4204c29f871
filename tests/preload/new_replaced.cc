// A program that replaces some operators, whose blocks are not malloc's: the others are
// made of them, as the standard says of the default versions.
#include "tests/preload/test.h"

#include <new>

// The sized forms are left out on purpose.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wsized-deallocation"
#endif

static int news, deletes;
static bool fail;

struct header {
	unsigned long magic, pad;
};

void *operator new(std::size_t n)
{
	if (fail)
		throw std::bad_alloc();
	header *h = static_cast<header *>(malloc(n + sizeof(header)));
	news++;
	h->magic = 0x5eed;
	return h + 1;
}

void operator delete(void *p) noexcept
{
	if (p == nullptr)
		return;
	header *h = static_cast<header *>(p) - 1;
	deletes++;
	EXPECT(h->magic == 0x5eed);
	free(h);
}

void *operator new(std::size_t n, std::align_val_t a)
{
	if (fail)
		throw std::bad_alloc();
	news++;
	return static_cast<char *>(aligned_alloc(4096, n + 4096)) + static_cast<std::size_t>(a);
}

void operator delete(void *p, std::align_val_t a) noexcept
{
	deletes++;
	free(static_cast<char *>(p) - static_cast<std::size_t>(a));
}

int main()
{
	const std::align_val_t wide{ 64 };

	expect_library();
	operator delete(operator new(10), std::size_t(10));
	operator delete(operator new(10, std::nothrow), std::nothrow);
	operator delete[](operator new[](10));
	operator delete[](operator new[](10), std::size_t(10));
	operator delete[](operator new[](10, std::nothrow), std::nothrow);
	EXPECT(news == 5 && deletes == 5);
	operator delete(operator new(10, wide), std::size_t(10), wide);
	operator delete(operator new(10, wide, std::nothrow), wide, std::nothrow);
	operator delete[](operator new[](10, wide), wide);
	operator delete[](operator new[](10, wide), std::size_t(10), wide);
	operator delete[](operator new[](10, wide, std::nothrow), wide, std::nothrow);
	EXPECT(news == 10 && deletes == 10);
	// What the replacement throws stays inside the nothrow forms.
	fail = true;
	EXPECT(operator new(10, std::nothrow) == nullptr);
	EXPECT(operator new[](10, std::nothrow) == nullptr);
	EXPECT(operator new(10, wide, std::nothrow) == nullptr);
	EXPECT(operator new[](10, wide, std::nothrow) == nullptr);
	return 0;
}
