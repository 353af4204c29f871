/*
 * Watching for memory pressure, by the background thread alone.
 */
#ifndef PB_PRELOAD_PRESSURE_H
#define PB_PRELOAD_PRESSURE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define PRESSURE_FDS 3u

/* Opens what there is, PSI triggers only if they are wanted by now or asked for by name;
 * again after the program has closed descriptors. */
void pressure_open(bool triggers);
/* In the child of fork, and when the thread ends. */
void pressure_close(void);

/* Fills in up to PRESSURE_FDS descriptors to wait for; how many. */
unsigned pressure_poll(struct pollfd *fds);
/* What poll() said of them; true: there is pressure. */
bool pressure_answer(const struct pollfd *fds, unsigned nr);

/* Whether figures must be looked at now and then while there is something to give back. */
bool pressure_must_look(void);
/* Looks; true: there is pressure. */
bool pressure_look(void);

#endif
