/*
 * Programs that have a structure where the library has it, but not a right one; the first
 * argument says in which way.  They write a line when they are ready, and end with their input.
 */
#include "core/inspect.h"

#include <stdio.h>
#include <string.h>

__attribute__((visibility("default"))) struct inspect pb_inspect = {
	.magic = { 'p', 'b', 'i', 'n', 's', 'p', 'c', 't' },
	.version = INSPECT_VERSION,
	.size = sizeof(struct inspect),
	.release = "0.0.1",
};

static const struct inspect_item few_items[] = {
	{ "page_shift", INSPECT_CONSTANT, 0, 12 },
};

static void object(unsigned i, const char *name, uint64_t address, uint64_t size)
{
	strcpy(pb_inspect.objects[i].name, name);
	pb_inspect.objects[i].address = address;
	pb_inspect.objects[i].size = size;
	pb_inspect.nr_objects = i + 1;
}

static void table(uint64_t items, uint64_t nr)
{
	pb_inspect.tables[0].items = items;
	pb_inspect.tables[0].nr_items = nr;
	pb_inspect.nr_tables = 1;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (strcmp(how, "older") == 0)
		pb_inspect.version = INSPECT_VERSION - 1;
	else if (strcmp(how, "newer") == 0)
		pb_inspect.version = INSPECT_VERSION + 1;
	else if (strcmp(how, "magic") == 0)
		memset(pb_inspect.magic, 'x', sizeof(pb_inspect.magic));
	else if (strcmp(how, "size") == 0)
		pb_inspect.size = 12;
	else if (strcmp(how, "random") == 0)
		for (size_t i = 16; i < sizeof(pb_inspect); i++)
			((unsigned char *)&pb_inspect)[i] = (unsigned char)(i * 2654435761u >> 7);
	if (strcmp(how, "empty") != 0 && strcmp(how, "random") != 0)
		object(0, "heaps", (uint64_t)(uintptr_t)&pb_inspect, 8);
	if (strcmp(how, "wild") == 0)
		table(0x1234567890, 10);
	else if (strcmp(how, "endless") == 0)
		table((uint64_t)(uintptr_t)few_items, UINT64_MAX / 128);
	else if (strcmp(how, "few") == 0)
		table((uint64_t)(uintptr_t)few_items, 1);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
