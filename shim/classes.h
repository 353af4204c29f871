/*
 * Size classes: the table of classes.def as constants and the two directions of
 * the mapping between sizes and classes.
 */
#ifndef PB_SHIM_CLASSES_H
#define PB_SHIM_CLASSES_H

#include "core/config.h"
#include "core/util.h"

#include <stdint.h>

#define SMALL_MAX ((size_t)2048)
#define MEDIUM_MAX ((size_t)32768)
#define ALIGN_MIN ((size_t)16)

enum {
#define CLASS(bytes, order) CLASS_##bytes,
#include "shim/classes.def"
#undef CLASS
	NR_CLASSES,
	NR_SMALL_CLASSES = CLASS_2048 + 1
};

struct class_info {
	uint32_t bytes;
	uint32_t nr_objects; /* in a slab */
	uint32_t magic;      /* ceil(2^32 / bytes), for small classes */
	uint32_t limit;      /* see class_is_start() */
	uint64_t magic64;    /* ceil(2^64 / bytes), for all */
	uint64_t limit64;
	uint8_t order;       /* of a slab */
	uint8_t nr_granules; /* in a slab */
	uint32_t offset_mask; /* the bits of an address that say where in the slab it is */
};

extern const struct class_info class_info[NR_CLASSES];

/* Sizes that are certainly of one class: steps of 16 bytes to SMALL_MAX, of 256 from there. */
#define CLASS_STEP(size)                                                                       \
	((size) <= SMALL_MAX ? ((size) + 15) / 16                                              \
			     : ((size) + 255) / 256 + SMALL_MAX / 16 - SMALL_MAX / 256)

extern const uint8_t class_of_step[CLASS_STEP(MEDIUM_MAX) + 1];

/* The class for a size of at most MEDIUM_MAX; size 0 is class 0. */
static inline unsigned class_of(size_t size)
{
	return class_of_step[CLASS_STEP(size)];
}

/*
 * A size whose class has only objects aligned to align, a power of two of at most a page, and
 * at least size bytes.  Where classes are multiples of the step between them, a power of two,
 * a multiple of align will do: if align is no more than the step any class is aligned, and if
 * it is more, the multiple is a class itself.  Between 1,024 and 2,048 only four are so.
 */
static inline size_t class_aligned_size(size_t align, size_t size)
{
	if (align > ALIGN_MIN && size > 1024 && size <= 2048)
		align = align > 256 ? align : 256;
	return round_up(size + (size == 0), align);
}

/*
 * Whether an offset into a slab of a small class is where an object starts.  With
 * magic = ceil(2^32 / bytes) and excess = magic * bytes - 2^32, the low 32 bits of
 * offset * magic are q * excess for offset = q * bytes and at least magic - excess
 * otherwise (Lemire, Kaser, Kurz: Faster remainder by direct computation, 2019).
 * So q < nr_objects exactly when the product is below nr_objects * excess; for
 * powers of two, where excess is 0 and slabs have no tail, when it is below magic.
 * limit is one less than that bound.
 */
static inline bool class_is_start(uint32_t magic, uint32_t limit, uint16_t offset)
{
	return offset * magic <= limit;
}

/* The same for any class; an offset past the slab's last object is no start. */
static inline bool class_is_start64(const struct class_info *ci, size_t offset)
{
	return offset * ci->magic64 <= ci->limit64;
}

/* The object an offset lies in. */
static inline unsigned class_index(const struct class_info *ci, size_t offset)
{
	__extension__ typedef unsigned __int128 wide;

	return (unsigned)((wide)offset * ci->magic64 >> 64);
}

/* Slabs are naturally aligned: the offset of an address in its slab. */
static inline size_t class_offset(const struct class_info *ci, const void *p)
{
	return (uintptr_t)p & ci->offset_mask;
}

#endif
