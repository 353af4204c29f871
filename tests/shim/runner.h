/*
 * The part of Criterion's interface that the tests use, for builds in which Criterion
 * cannot run (see support.h): Test(suite, name, .timeout = s), and a main() that runs
 * each test in a process of its own and reports in Criterion's words.
 */
#ifndef PB_TESTS_SHIM_RUNNER_H
#define PB_TESTS_SHIM_RUNNER_H

struct runner_test {
	const char *suite, *name;
	void (*body)(void);
	double timeout;
	struct runner_test *next;
};

void runner_add(struct runner_test *test);

#define Test(suite_name, test_name, ...)                                                       \
	static void suite_name##_##test_name##_body(void);                                     \
	static struct runner_test suite_name##_##test_name##_test = {                          \
		.suite = #suite_name,                                                          \
		.name = #test_name,                                                            \
		.body = suite_name##_##test_name##_body,                                       \
		__VA_ARGS__,                                                                   \
	};                                                                                     \
	__attribute__((constructor)) static void suite_name##_##test_name##_add(void)          \
	{                                                                                      \
		runner_add(&suite_name##_##test_name##_test);                                  \
	}                                                                                      \
	static void suite_name##_##test_name##_body(void)

#endif
