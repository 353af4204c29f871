/* How preload/ exports: visible here, and named in exports.map. */
#ifndef PB_PRELOAD_EXPORT_H
#define PB_PRELOAD_EXPORT_H

#define EXPORT __attribute__((visibility("default")))

/* gcc warns about an alias with fewer attributes than its function; clang does not. */
#if defined(__clang__)
#define COPY(function)
#else
#define COPY(function) , copy(function)
#endif

/* A name of an exported function of the same file that no program can replace. */
#define OWN(function)                                                                          \
	extern __attribute__((visibility("hidden"))) __typeof__(function) own_##function        \
		__attribute__((alias(#function) COPY(function)));

/* Exports another name of a function of the same file. */
#define ALIAS(name, function)                                                                  \
	extern __typeof__(function) name;                                                      \
	EXPORT __typeof__(function) name __attribute__((alias(#function) COPY(function)));

#endif
