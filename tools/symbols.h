/*
 * Names of addresses in a process: what it has mapped, and the symbols of these files.
 * Files are read once; C++ names are made readable by c++filt where that is installed.
 */
#ifndef PB_TOOLS_SYMBOLS_H
#define PB_TOOLS_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct symbols;

/* NULL: no memory.  A process that is gone has no names. */
struct symbols *symbols_open(pid_t pid);
void symbols_close(struct symbols *s);

/*
 * The function a return address leads back into, or FILE+0xOFFSET, or 0xADDRESS; valid until
 * the end.  The same function always has the same pointer.
 */
const char *symbols_name(struct symbols *s, uint64_t return_address);
/* The file it is in, without its directory; "" when it is in none. */
const char *symbols_file(struct symbols *s, uint64_t return_address);

/* Makes the names of all these addresses ready at once, which is quicker. */
void symbols_prepare(struct symbols *s, const uint64_t *return_addresses, size_t nr);

#endif
