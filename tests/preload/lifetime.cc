/*
 * What lifetime:auto meets in programs: every form of allocation from many places, code made
 * at run time that calls malloc, code that is unloaded, exceptions, threads, fork in the
 * middle.  Each block is written in full and looked at before it is freed.
 */
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <new>
#include <pthread.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "tests/preload/test.h"

namespace
{

constexpr size_t nr_kept = 200000;
struct block {
	unsigned char *p;
	size_t size;
};
std::vector<block> kept;

void keep(void *p, size_t size)
{
	EXPECT(p != nullptr);
	memset(p, static_cast<int>(size & 0xff), size);
	kept.push_back({static_cast<unsigned char *>(p), size});
}

void look_and_free()
{
	for (const block &b : kept) {
		EXPECT(b.size == 0 || (b.p[0] == (b.size & 0xff) && b.p[b.size - 1] == (b.size & 0xff)));
		free(b.p);
	}
	kept.clear();
}

template <int N> __attribute__((noinline)) void *ask(size_t size)
{
	switch (N % 5) {
	case 0:
		return malloc(size);
	case 1:
		return calloc(1, size);
	case 2:
		return realloc(malloc(size / 2 + 1), size);
	case 3:
		return operator new(size);
	default:
		return operator new[](size);
	}
}

/* Two hundred places in the code. */
template <int N> struct askers {
	static void fill(void *(**table)(size_t))
	{
		table[N] = ask<N>;
		askers<N - 1>::fill(table);
	}
};
template <> struct askers<-1> {
	static void fill(void *(**)(size_t)) {}
};

constexpr int nr_askers = 200;
void *(*table[nr_askers])(size_t);

void many_sites()
{
	for (size_t i = 0; i < nr_kept; i++)
		keep(table[i * i % nr_askers](1 + i % 700), 1 + i % 700);
}

/* sub $8, %rsp; call *%rsi; add $8, %rsp; ret: a return address in made code. */
void made_code()
{
	static const unsigned char code[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd6,
					     0x48, 0x83, 0xc4, 0x08, 0xc3};
	constexpr size_t nr_bytes = 1 << 20;
	auto *text = static_cast<unsigned char *>(
		mmap(nullptr, nr_bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	if (text == MAP_FAILED)
		return;
	for (size_t at = 0; at + 16 <= nr_bytes; at += 16) {
		memcpy(text + at, code, sizeof(code));
		auto call = reinterpret_cast<void *(*)(size_t, void *(*)(size_t))>(text + at);
		keep(call(1 + at % 500, malloc), 1 + at % 500);
	}
	munmap(text, nr_bytes);
}

void unloaded_code(const char *library)
{
	for (int round = 0; round < 20; round++) {
		void *handle = dlopen(library, RTLD_NOW);
		EXPECT(handle != nullptr);
		auto ask = reinterpret_cast<void *(*)(size_t)>(dlsym(handle, "site_ask"));
		EXPECT(ask != nullptr);
		for (size_t i = 0; i < 5000; i++)
			keep(ask(1 + i % 300), 1 + i % 300);
		dlclose(handle);
	}
}

void fork_in_the_middle()
{
	pid_t child = fork();

	EXPECT(child >= 0);
	if (child == 0) {
		many_sites();
		look_and_free();
		_exit(0);
	}
	int status;
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

void *churn(void *)
{
	std::vector<std::string> words;

	for (int i = 0; i < 100000; i++) {
		words.emplace_back(static_cast<size_t>(i % 400), 'x');
		if (words.size() > 1000)
			words.erase(words.begin(), words.begin() + 500);
		if (i % 1000 == 0) {
			try {
				throw std::string("thrown");
			} catch (const std::string &s) {
				EXPECT(s == "thrown");
			}
		}
	}
	return nullptr;
}

} // namespace

int main(int argc, char **argv)
{
	pthread_t threads[4];

	expect_library();
	EXPECT(argc == 2);
	askers<nr_askers - 1>::fill(table);
	for (pthread_t &thread : threads)
		EXPECT(pthread_create(&thread, nullptr, churn, nullptr) == 0);
	many_sites();
	made_code();
	unloaded_code(argv[1]);
	fork_in_the_middle();
	look_and_free();
	many_sites();
	look_and_free();
	for (pthread_t &thread : threads)
		EXPECT(pthread_join(thread, nullptr) == 0);
	return 0;
}
