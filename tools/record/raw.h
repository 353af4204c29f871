/*
 * What the recorder leaves for `pageblock record`: a file for each image of each process,
 * made of chunks that are mapped shared.  What a thread has stored there survives the end of
 * the process, however it comes.  Only these two ever see it: it has no version, and is
 * turned into a trace of pageblock-trace(5) when the program has ended.
 *
 *   PAGEBLOCK_RECORD       directory of the files, which are named PID-N
 *   PAGEBLOCK_RECORD_PID   the process recorded; 0: all that inherit the environment
 */
#ifndef PB_TOOLS_RECORD_RAW_H
#define PB_TOOLS_RECORD_RAW_H

#include <stdint.h>

#define RAW_CHUNK_BYTES 65536u
#define RAW_MAGIC 0x3177617262700a0dull

enum raw_kind {
	RAW_EVENTS = 1,
	RAW_MAPS = 2, /* text: the executable lines of /proc/self/maps */
};

/* In front of each chunk, which is zero beyond what is written. */
struct raw_chunk {
	uint64_t magic;
	uint32_t kind;
	uint32_t nr_bytes; /* RAW_MAPS: of text */
	/* Both clocks at one moment, from which the unit of ticks is told. */
	uint64_t ticks, ns;
	/* Of the first chunk only. */
	uint64_t end_ticks, end_ns; /* when the process ended in order */
	uint32_t stopped;           /* errno of what ended the recording; 0: nothing did */
	uint32_t nr_lost;           /* events that found no room, as far as counted */
	char program[200];
};

/* The codes of trace.h, and: */
enum raw_op {
	RAW_REALLOC_FROM = 8, /* this address is about to be given to realloc */
	RAW_REALLOC_FAILED = 9,
};

/*
 *   order   |63             16|15     10|9    4|3  0|
 *           | place in order  |  spare  | align | op |    align: log2; order counts from 1,
 *                                                         0: nothing here
 *   addr    |63     48|47                        0|
 *           | thread  | address                   |
 *   size    |63     48|47                        0|    think: ticks since the thread's event
 *           | think   | size                      |    before, as raw_think() packs them
 */
struct raw_event {
	uint64_t order;
	uint64_t addr;
	uint64_t size;
	uint64_t site; /* return address of the call */
};

#define RAW_EVENTS_MAX ((RAW_CHUNK_BYTES - sizeof(struct raw_chunk)) / sizeof(struct raw_event))

/* 12 bits of mantissa, and 4 of an exponent to the base of 4. */
static inline uint64_t raw_think(uint64_t ticks)
{
	unsigned exponent = 0;

	for (; ticks >= 4096 && exponent < 15; exponent++)
		ticks >>= 2;
	return (ticks < 4096 ? ticks : 4095) << 4 | exponent;
}

static inline uint64_t raw_think_ticks(uint64_t think)
{
	return (think >> 4) << 2 * (think & 15);
}

_Static_assert(sizeof(struct raw_chunk) == 256, "events are aligned behind it");
_Static_assert(sizeof(struct raw_event) == 32, "two in a cache line");

#endif
