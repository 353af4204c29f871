/*
 * A program and a plugin (deepbind_plugin.c) opened with RTLD_DEEPBIND: the plugin prefers its
 * own libraries, so it calls libc's malloc whatever is preloaded, unless the preloaded library
 * prevents that. Where it does not, two allocators live in one process, each side freeing what
 * it allocated. Both must keep working, also when the sides take turns, in several threads,
 * and after the plugin is closed.
 *
 *   deepbind PLUGIN        each side frees only what came from its own malloc
 *   deepbind PLUGIN libc   the plugin also frees what libc allocated for it (strdup and such);
 *                          with two allocators that would be the end
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 2000
#define ROUNDS 30

typedef void plugin_make(size_t slot, size_t size_bytes, unsigned char fill);
typedef unsigned long plugin_drop(size_t slot);

static plugin_make *make;
static plugin_drop *drop;
static unsigned long sums[4];

static void *take_turns(void *argument)
{
	size_t thread = (size_t)(uintptr_t)argument;
	uint32_t seed = (uint32_t)thread + 1;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned char *mine[BLOCKS];
		size_t sizes[BLOCKS];

		for (size_t i = 0; i < BLOCKS; i++) {
			seed = seed * 1664525 + 1013904223;
			sizes[i] = 1 + (seed >> 8) % 3000;
			mine[i] = malloc(sizes[i]);
			if (!mine[i])
				abort();
			memset(mine[i], (int)(i & 255), sizes[i]);
			make(thread * BLOCKS + i, sizes[i], (unsigned char)~i);
		}
		for (size_t i = 0; i < BLOCKS; i++) {
			for (size_t j = 0; j < sizes[i]; j++)
				sums[thread] += mine[i][j];
			sums[thread] += drop(thread * BLOCKS + i);
			free(mine[i]);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[4];

	if (argc < 2)
		return 2;
	void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	make = (plugin_make *)dlsym(plugin, "plugin_make");
	drop = (plugin_drop *)dlsym(plugin, "plugin_drop");
	void *(*theirs)(void) = (void *(*)(void))dlsym(plugin, "plugin_malloc");
	if (!make || !drop || !theirs)
		return 1;
	fprintf(stderr, "the plugin's malloc is %s\n",
		theirs() == (void *)malloc ? "ours" : "another one");
	if (argc > 2) {
		unsigned long (*from_libc)(void) = (unsigned long (*)(void))dlsym(plugin, "plugin_from_libc");
		printf("%lu bytes from libc\n", from_libc ? from_libc() : 0);
	}

	for (uintptr_t i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, take_turns, (void *)i))
			return 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	dlclose(plugin);
	char *after = strdup("after the plugin");
	puts(after);
	free(after);
	for (int i = 0; i < 4; i++)
		printf("%lu\n", sums[i]);
	return 0;
}
