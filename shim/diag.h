/*
 * The lines that stop a program: diagnostics.def, written by write(2) without
 * allocation, then abort().
 */
#ifndef PB_SHIM_DIAG_H
#define PB_SHIM_DIAG_H

#include <stddef.h>

enum diagnostic {
#define DIAGNOSTIC(name, text) DIAG_##name,
#include "shim/diagnostics.def"
#undef DIAGNOSTIC
	NR_DIAGNOSTICS
};

/* call: the function the program called; base: where the block begins, or NULL. */
_Noreturn void diag_fatal(enum diagnostic what, const char *call, const void *p,
			  size_t nr_bytes, const void *base);

#endif
