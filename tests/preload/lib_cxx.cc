// A C++ library for programs that are not linked to the C++ runtime.
#include <cstddef>
#include <new>

static void throws()
{
	throw 1;
}

// 1: as it should be.
extern "C" int cxx_fails_well(std::size_t n)
{
	int good = 0;

	try {
		operator delete(operator new(n));
	} catch (const std::bad_alloc &) {
		good++;
	}
	if (operator new(n, std::nothrow) == nullptr)
		good++;
	std::set_new_handler(throws);
	if (operator new(n, std::nothrow) == nullptr)
		good++;
	try {
		operator delete[](operator new[](n));
	} catch (int) {
		good++;
	}
	return good == 4;
}
