/*
 * What may wait for one another when stacks are taken inside malloc: dlopen and dlclose,
 * callbacks of dl_iterate_phdr that allocate, exceptions, threads that begin and end, forks
 * of all this, and children that do the same.  It ends, or the runner says that it did not.
 *
 *	hang LIBRARY SECONDS
 */
#include "tests/preload/test.h"

#include <atomic>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

static std::atomic<bool> over;
static const char *library;

static void allocate()
{
	std::vector<std::string> v;

	for (int i = 0; i < 50; i++)
		v.push_back(std::string(static_cast<size_t>(i) * 20 + 1, 'x'));
}

static int callback(struct dl_phdr_info *, size_t, void *)
{
	allocate();
	return 0;
}

static void open_and_close()
{
	while (!over) {
		void *handle = dlopen(library, RTLD_NOW);

		EXPECT(handle != nullptr);
		allocate();
		dlclose(handle);
	}
}

static void iterate()
{
	while (!over)
		dl_iterate_phdr(callback, nullptr);
}

static void throw_deep(int depth)
{
	std::string s(100, 'x');

	if (depth == 0)
		throw std::runtime_error(std::string(200, 'y'));
	throw_deep(depth - 1);
}

static void catch_all()
{
	while (!over) {
		try {
			throw_deep(20);
		} catch (const std::runtime_error &e) {
			EXPECT(strlen(e.what()) == 200);
		}
	}
}

static void threads()
{
	while (!over)
		std::thread(allocate).join();
}

static void forks()
{
	int nr = 0;

	while (!over && nr++ < 100000) {
		pid_t child = fork();
		int status = 1;

		EXPECT(child >= 0);
		if (child == 0) {
			/* What glibc itself can do in such a child: its dlopen() and
			 * dl_iterate_phdr() may find a lock taken for ever. */
			for (int i = 0; i < 20; i++)
				allocate();
			try {
				throw_deep(3);
			} catch (const std::runtime_error &) {
			}
			std::thread(allocate).join();
			_exit(0);
		}
		EXPECT(waitpid(child, &status, 0) == child && status == 0);
	}
}

int main(int argc, char **argv)
{
	std::vector<std::thread> all;

	EXPECT(argc == 3);
	library = argv[1];
	all.emplace_back(open_and_close);
	all.emplace_back(iterate);
	all.emplace_back(catch_all);
	all.emplace_back(threads);
	all.emplace_back(forks);
	sleep(static_cast<unsigned>(atoi(argv[2])));
	over = true;
	for (auto &t : all)
		t.join();
	if (pb_check)
		pb_check();
	return 0;
}
