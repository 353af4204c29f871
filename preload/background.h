/*
 * The background thread: does what core/work.h knows of, and sleeps.
 *
 * It exists when the option background says so: from the start, or once the program has
 * made a thread of its own, in which case it is made by pthread_create() after that one.
 * All its signals are blocked.  It ends when the main thread ends without the process,
 * so that it is never the one that keeps a process alive.
 */
#ifndef PB_PRELOAD_BACKGROUND_H
#define PB_PRELOAD_BACKGROUND_H

#include <stdbool.h>

/* In the main thread, once, when the library starts. */
void background_init(void);

/* The program asks for something that needs it: it is made unless the option says false.
 * Where the program could make threads itself. */
void background_want(void);

/* Wakes it: something else than work asks for it.  Any thread, no locks taken. */
void background_wake(void);

/* In the child of fork: there is none. */
void background_fork_child(void);

#endif
