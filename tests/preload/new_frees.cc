// A new-handler that frees memory lets operator new succeed.  Run under ulimit -v.
#include "tests/preload/test.h"

#include <new>

static void *reserve;
static int calls;

static void handler()
{
	calls++;
	free(reserve);
	reserve = nullptr;
	std::set_new_handler(nullptr);
}

int main()
{
	const std::size_t size = std::size_t(64) << 20;

	expect_library();
	reserve = malloc(size);
	EXPECT(reserve != nullptr);
	// Fills up what the limit leaves.
	int nr = 0;
	while (nr < 1000 && malloc(size) != nullptr)
		nr++;
	EXPECT(nr < 1000);
	std::set_new_handler(handler);
	void *p = operator new(size);
	EXPECT(p != nullptr && calls == 1);
	return 0;
}
