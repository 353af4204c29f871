/* Memory that the program got from mmap. */
#include "tests/victims/victim.h"

#include <sys/mman.h>

int main(void)
{
	char *p =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect_foreign("free", p);
	free(hidden(p));
	return unnoticed();
}
