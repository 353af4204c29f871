/* The size class table, expanded from classes.def. */
#include "shim/classes.h"

#define SLAB_BYTES(order) ((uint32_t)PAGE_BYTES << (order))
#define NR_OBJECTS(b, order) (SLAB_BYTES(order) / (b))
#define MAGIC(b) ((uint32_t)((((uint64_t)1 << 32) + (b)-1) / (b)))
#define EXCESS(b) ((uint32_t)((uint64_t)MAGIC(b) * (b) - ((uint64_t)1 << 32)))
#define LIMIT(b, order)                                                                        \
	((EXCESS(b) == 0 ? MAGIC(b) : NR_OBJECTS(b, order) * EXCESS(b)) - 1)

const struct class_info class_info[NR_CLASSES] = {
#define CLASS(b, o) { b, NR_OBJECTS(b, o), MAGIC(b), LIMIT(b, o), o, 1u << ((o)-GRANULE_ORDER) },
#include "shim/classes.def"
#undef CLASS
};

#define CLASS(b, o)                                                                            \
	STATIC_ASSERT((b) % 16 == 0, "objects are aligned to 16 bytes");                       \
	STATIC_ASSERT((b) > SMALL_MAX || (o) == GRANULE_ORDER, "small slabs are one granule"); \
	STATIC_ASSERT((b) > SMALL_MAX || (uint64_t)(NR_OBJECTS(b, o) + 1) * EXCESS(b) < MAGIC(b), \
		      "the divisibility test is exact");
#include "shim/classes.def"
#undef CLASS
