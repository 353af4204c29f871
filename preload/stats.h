/* Statistics in text form. */
#ifndef PB_PRELOAD_STATS_H
#define PB_PRELOAD_STATS_H

/* What malloc_stats() writes, to a file descriptor. */
void stats_write(int fd);

#endif
