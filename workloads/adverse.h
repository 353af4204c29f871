/* Places that ask allocate() for memory; adverse finds them in the library adverse_places.so. */
#ifndef WORKLOADS_ADVERSE_H
#define WORKLOADS_ADVERSE_H

#include <stddef.h>

typedef void *place_fn(size_t size, void *(*allocate)(size_t size));

place_fn adverse_stays, adverse_goes;

#endif
