// operator new and delete: all forms, new-handlers, std::bad_alloc.
#include "tests/preload/test.h"

#include <exception>
#include <new>

namespace
{

// More than can be had, and opaque to the compiler.
std::size_t too_much()
{
	std::size_t n = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
	HIDE(n);
	return n;
}

constexpr std::align_val_t wide{ 256 };
int calls;

void gives_up()
{
	if (++calls == 3)
		std::set_new_handler(nullptr);
}

struct custom {
};

void throws_custom()
{
	calls++;
	throw custom();
}
void throws_bad_alloc()
{
	calls++;
	throw std::bad_alloc();
}

// The forms of new, each called with the size it is given.
using form = void *(*)(std::size_t);
const form throwing[] = {
	[](std::size_t n) { return operator new(n); },
	[](std::size_t n) { return operator new[](n); },
	[](std::size_t n) { return operator new(n, wide); },
	[](std::size_t n) { return operator new[](n, wide); },
};
const form silent[] = {
	[](std::size_t n) { return operator new(n, std::nothrow); },
	[](std::size_t n) { return operator new[](n, std::nothrow); },
	[](std::size_t n) { return operator new(n, wide, std::nothrow); },
	[](std::size_t n) { return operator new[](n, wide, std::nothrow); },
};

void test_throwing(form f)
{
	bool caught = false;

	std::set_new_handler(nullptr);
	try {
		f(too_much());
	} catch (const std::bad_alloc &e) {
		caught = strstr(e.what(), "bad_alloc") != nullptr;
	}
	EXPECT(caught);

	// Called until there is none.
	calls = 0;
	caught = false;
	std::set_new_handler(gives_up);
	try {
		f(too_much());
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	EXPECT(caught && calls == 3);

	// What it throws passes through.
	calls = 0;
	caught = false;
	std::set_new_handler(throws_custom);
	try {
		f(too_much());
	} catch (const custom &) {
		caught = true;
	}
	EXPECT(caught && calls == 1);
	std::set_new_handler(nullptr);
}

void test_silent(form f)
{
	std::set_new_handler(nullptr);
	EXPECT(f(too_much()) == nullptr);

	calls = 0;
	std::set_new_handler(gives_up);
	EXPECT(f(too_much()) == nullptr && calls == 3);

	// A handler that throws, which nobody may see.
	calls = 0;
	std::set_new_handler(throws_bad_alloc);
	EXPECT(f(too_much()) == nullptr && calls == 1);
	std::set_new_handler(throws_custom);
	EXPECT(f(too_much()) == nullptr && calls == 2);
	EXPECT(std::uncaught_exceptions() == 0);
	std::set_new_handler(nullptr);
}

struct alignas(4096) page {
	char bytes[5000];
};

template <class T> void once()
{
	T *one = new T, *many = new T[3], *quiet = new (std::nothrow) T;

	EXPECT(reinterpret_cast<uintptr_t>(one) % alignof(T) == 0);
	EXPECT(reinterpret_cast<uintptr_t>(many) % alignof(T) == 0);
	EXPECT(reinterpret_cast<uintptr_t>(quiet) % alignof(T) == 0);
	memset(static_cast<void *>(many), 1, 3 * sizeof(T));
	delete one;
	delete[] many;
	delete quiet;
}

void deletes()
{
	operator delete(operator new(10));
	operator delete(nullptr);
	operator delete(operator new(10), std::size_t(10));
	operator delete(operator new(10), std::nothrow);
	operator delete[](operator new[](10));
	operator delete[](operator new[](10), std::size_t(10));
	operator delete[](operator new[](10), std::nothrow);
	operator delete(operator new(10, wide), wide);
	operator delete(operator new(10, wide), std::size_t(10), wide);
	operator delete(operator new(10, wide), wide, std::nothrow);
	operator delete[](operator new[](10, wide), wide);
	operator delete[](operator new[](10, wide), std::size_t(10), wide);
	operator delete[](operator new[](10, wide), wide, std::nothrow);
	operator delete[](nullptr, std::nothrow);
	operator delete(nullptr, wide);
	// free takes what new gave.
	free(operator new(10));
	free(operator new[](10, wide));
}

} // namespace

int main()
{
	expect_library();
	for (form f : throwing)
		test_throwing(f);
	for (form f : silent)
		test_silent(f);
	for (int i = 0; i < 3; i++) {
		once<char>();
		once<long double>();
		once<page>();
	}
	deletes();
	void *a = operator new(0), *b = operator new(0);
	EXPECT(a != nullptr && a != b);
	operator delete(a);
	operator delete(b);
	// No power of two.
	std::size_t odd = 48;
	HIDE(odd);
	bool caught = false;
	try {
		operator delete(operator new(10, std::align_val_t(odd)), wide);
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	EXPECT(caught);
	EXPECT(operator new(10, std::align_val_t(odd), std::nothrow) == nullptr);
	return 0;
}
