/* libc's own dlopen, which the exported one stands before. */
#ifndef PB_PRELOAD_DLOPEN_H
#define PB_PRELOAD_DLOPEN_H

void *(*dlopen_next(void))(const char *file, int mode);

#endif
