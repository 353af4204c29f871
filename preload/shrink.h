/* The program's own caches, see pageblock.h. */
#ifndef PB_PRELOAD_SHRINK_H
#define PB_PRELOAD_SHRINK_H

/* In the child of fork. */
void shrink_fork_child(void);

#endif
