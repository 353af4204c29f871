/* Two places in the code that ask for memory, in a library that adverse loads and unloads. */
#include "workloads/adverse.h"

/* The answer stands somewhere, so that the call is not the function's end, a jump. */
void *adverse_stays(size_t size, void *(*allocate)(size_t size))
{
	void *volatile p = allocate(size);

	return p;
}

void *adverse_goes(size_t size, void *(*allocate)(size_t size))
{
	void *volatile p = allocate(size);

	return p;
}
