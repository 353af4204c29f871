/* delete of what new[] gave with a cookie before it: the classic mismatch. */
#include "tests/victims/victim.h"

void *_Znam(size_t size) __attribute__((weak));
void _ZdlPv(void *p) __attribute__((weak));

int main(void)
{
	char *p = _Znam(8 + 10 * 24);

	expect_interior("free", p + 8, malloc_usable_size(p), p);
	_ZdlPv(hidden(p + 8));
	return unnoticed();
}
