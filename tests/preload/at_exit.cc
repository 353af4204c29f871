// Objects that live as long as the process, on_exit and atexit handlers, threads that are
// still running at exit.
#include "tests/preload/test.h"

#include <map>
#include <pthread.h>
#include <string>

static std::map<std::string, std::string> *leaked;

struct global {
	std::map<std::string, std::string> map;
	global()
	{
		map["a"] = std::string(1000, 'a');
	}
	~global()
	{
		map["b"] = std::string(5000, 'b');
		delete leaked;
	}
};
static global object;

static void *runs_on(void *)
{
	for (;;) {
		void *p = malloc(100);
		HIDE(p);
		free(p);
	}
}

static void handler()
{
	static int depth;

	free(malloc(100));
	// Registering more of them at exit allocates.
	if (depth++ < 100)
		EXPECT(atexit(handler) == 0);
}

int main()
{
	expect_library();
	leaked = new std::map<std::string, std::string>(object.map);
	for (int i = 0; i < 4; i++) {
		pthread_t t;
		EXPECT(pthread_create(&t, nullptr, runs_on, nullptr) == 0);
	}
	for (int i = 0; i < 100; i++)
		EXPECT(atexit(handler) == 0);
	usleep(20000);
	return 0;
}
