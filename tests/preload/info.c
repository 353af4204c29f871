/* malloc_info of whatever allocator there is. */
#include <malloc.h>
#include <stdio.h>

int main(void)
{
	return malloc_info(0, stdout);
}
