// Destructors of threads that allocate and free after the library's own: pthread keys
// of every round, thread_local objects, libc's own.  Heaps must not pile up.
#include "tests/preload/test.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <string>
#include <vector>

static const int nr_threads = 200;
static pthread_key_t keys[40];

struct local {
	std::vector<std::string> strings;
	void *raw = nullptr;
	~local()
	{
		free(raw);
		free(malloc(100));
		strings.emplace_back(2000, 'x');
	}
};
static thread_local local object;

// Comes back in every round it can.
static void key_ends(void *value)
{
	static thread_local int rounds;
	auto *key = static_cast<pthread_key_t *>(value);

	free(malloc(64));
	free(calloc(3, 5000));
	if (++rounds < 4000)
		pthread_setspecific(*key, value);
}

static void *thread(void *arg)
{
	object.strings.assign(50, std::string(100, 'y'));
	object.raw = malloc(70000);
	for (pthread_key_t &key : keys)
		EXPECT(pthread_setspecific(key, &key) == 0);
	// libc frees what this leaves after all destructors.
	EXPECT(dlsym(RTLD_DEFAULT, "there_is_no_such_function") == nullptr);
	(void)strerror(98765);
	return arg;
}

// A thread whose first allocation is in a destructor.
static void *thread_late(void *arg)
{
	EXPECT(pthread_setspecific(keys[0], &keys[0]) == 0);
	return arg;
}

static std::uint64_t heaps()
{
	pb_stats s;

	s.size = sizeof(s);
	EXPECT(pb_get_stats(&s) == 0);
	return s.nr_heaps;
}

static void rounds(void *(*f)(void *), bool together)
{
	pthread_t threads[nr_threads];

	for (int i = 0; i < nr_threads; i++) {
		EXPECT(pthread_create(&threads[i], nullptr, f, nullptr) == 0);
		if (!together)
			EXPECT(pthread_join(threads[i], nullptr) == 0);
	}
	for (int i = 0; together && i < nr_threads; i++)
		EXPECT(pthread_join(threads[i], nullptr) == 0);
}

int main()
{
	expect_library();
	for (pthread_key_t &key : keys)
		EXPECT(pthread_key_create(&key, key_ends) == 0);
	rounds(thread, false);
	rounds(thread_late, false);
	// One at a time: each takes the heap that the one before left.
	EXPECT(heaps() <= 4);
	rounds(thread, true);
	std::uint64_t most = heaps();
	for (int i = 0; i < 3; i++)
		rounds(i == 1 ? thread_late : thread, true);
	EXPECT(heaps() <= most + nr_threads);
	pb_check();
	return 0;
}
