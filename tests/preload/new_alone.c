/* operator new without any C++ runtime: nothrow gives NULL, plain new ends the program. */
#include "tests/preload/test.h"

void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) __attribute__((weak));
void *_Znwm(size_t size) __attribute__((weak));

int main(void)
{
	expect_library();
	EXPECT(_ZnwmRKSt9nothrow_t((size_t)PTRDIFF_MAX - 4096, "") == NULL);
	free(_Znwm(10));
	_Znwm((size_t)PTRDIFF_MAX - 4096);
	return 1;
}
