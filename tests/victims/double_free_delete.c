/* C++'s operator delete, called twice; no C++ needed for it. */
#include "tests/victims/victim.h"

void *_Znwm(size_t size) __attribute__((weak));
void _ZdlPvm(void *p, size_t size) __attribute__((weak));

int main(void)
{
	void *p = _Znwm(64);

	expect_double_free(p, malloc_usable_size(p));
	_ZdlPvm(p, 64);
	_ZdlPvm(hidden(p), 64);
	return unnoticed();
}
