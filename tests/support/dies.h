/*
 * For tests of what must stop the program.
 */
#ifndef PB_TESTS_DIES_H
#define PB_TESTS_DIES_H

#include <stdbool.h>

/* Whether the function, run in a child, aborts with this in what it wrote to stderr. */
bool dies_with(void (*function)(void), const char *message);

#endif
