/* Heap profiles from samples: see shim/sample.h for how they are taken. */
#ifndef PB_PRELOAD_PROF_H
#define PB_PRELOAD_PROF_H

/* Before main, if the options say so: loads the unwinder and begins. */
void prof_start(void);

/* When it ends, if it began so: what the options say is to be written; fd: for lines to the
 * user, or -1. */
void prof_end(int fd);

/* The profile so far in the form that google-pprof reads, to a file descriptor. */
void prof_write(int fd);
/* The same to a file, made anew; 0 or an errno. */
int prof_write_file(const char *path);

/* What is live, by stack, to a file descriptor. */
void prof_write_leaks(int fd);

#endif
