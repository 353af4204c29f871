/* Leaks 30 MiB in one place, 6 MiB in another, and frees what a third one allocates. */
#include "tests/preload/test.h"

__attribute__((noinline)) void *leak_much(void);
__attribute__((noinline)) void *leak_much(void)
{
	void *p = malloc(300);

	HIDE(p);
	return p;
}

__attribute__((noinline)) void *leak_some(void);
__attribute__((noinline)) void *leak_some(void)
{
	void *p = malloc(60000);

	HIDE(p);
	return p;
}

__attribute__((noinline)) void *leak_none(void);
__attribute__((noinline)) void *leak_none(void)
{
	void *p = malloc(5000);

	HIDE(p);
	return p;
}

int main(void)
{
	for (int i = 0; i < (30 << 20) / 300; i++)
		(void)leak_much();
	for (int i = 0; i < (6 << 20) / 60000; i++)
		(void)leak_some();
	for (int i = 0; i < 100000; i++)
		free(leak_none());
	return 0;
}
