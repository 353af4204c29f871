/* The size class table, expanded from classes.def. */
#include "shim/classes.h"

#define SLAB_BYTES(order) ((uint32_t)PAGE_BYTES << (order))
#define NR_OBJECTS(b, order) (SLAB_BYTES(order) / (b))
#define MAGIC(b) ((uint32_t)((((uint64_t)1 << 32) + (b)-1) / (b)))
#define EXCESS(b) ((uint32_t)((uint64_t)MAGIC(b) * (b) - ((uint64_t)1 << 32)))
#define LIMIT(b, order) ((EXCESS(b) == 0 ? MAGIC(b) : NR_OBJECTS(b, order) * EXCESS(b)) - 1)

#define MAGIC64(b) (UINT64_MAX / (b) + 1)
#define EXCESS64(b) (MAGIC64(b) * (b)) /* less 2^64, which is not there */
#define LIMIT64(b, order)                                                                      \
	((EXCESS64(b) == 0 ? MAGIC64(b) : NR_OBJECTS(b, order) * EXCESS64(b)) - 1)

const struct class_info class_info[NR_CLASSES] = {
#define CLASS(b, o)                                                                            \
	{ b,          NR_OBJECTS(b, o), MAGIC(b), LIMIT(b, o),                                 \
	  MAGIC64(b), LIMIT64(b, o),    o,        1u << ((o)-GRANULE_ORDER),                     \
	  SLAB_BYTES(o) - 1 },
#include "shim/classes.def"
#undef CLASS
};

/* An enumerator without a value is one more than the one before it. */
enum {
#define CLASS(b, o) FIRST_STEP_##b, LAST_STEP_##b = CLASS_STEP(b),
#include "shim/classes.def"
#undef CLASS
};

__extension__ const uint8_t class_of_step[CLASS_STEP(MEDIUM_MAX) + 1] = {
#define CLASS(b, o) [FIRST_STEP_##b... LAST_STEP_##b] = CLASS_##b,
#include "shim/classes.def"
#undef CLASS
};

#define CLASS(b, o)                                                                            \
	STATIC_ASSERT((b) % ((b) <= SMALL_MAX ? 16 : 256) == 0, "class_of() is exact");        \
	STATIC_ASSERT((b) % 16 == 0, "objects are aligned to 16 bytes");                       \
	STATIC_ASSERT((b) > SMALL_MAX || (o) == GRANULE_ORDER, "small slabs are one granule"); \
	STATIC_ASSERT((b) > SMALL_MAX ||                                                       \
			      (uint64_t)(NR_OBJECTS(b, o) + 1) * EXCESS(b) < MAGIC(b),         \
		      "the divisibility test is exact");
#include "shim/classes.def"
#undef CLASS
