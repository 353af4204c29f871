/*
 * What the library shows to a reader outside of the process, who looks at its memory
 * (process_vm_readv) and needs neither its help nor its consent: a structure that says
 * what else there is, where, and how it is laid out.  Included by core.h.
 *
 * The reader finds the symbol pb_inspect in the library's ELF image.  From there:
 *   objects   name, address and size of a variable
 *   items     name, and either size of a structure, or offset and size of a field in one
 *             ("pageblock.free"), or the value of a constant ("page_shift")
 * so that a reader built for another layout finds what it needs by name, or says what it
 * misses.  INSPECT_VERSION changes when this very structure does, or the meaning of a name.
 *
 * Nothing is written for the reader's sake but lock.generation, by whoever releases a
 * lock.  A reader that finds a lock free before and after it has read what the lock
 * protects, and the same generation both times, has read the state of one moment; else it
 * tries again.
 */
#ifndef PB_CORE_INSPECT_H
#define PB_CORE_INSPECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSPECT_MAGIC "pbinspct"
#define INSPECT_VERSION 1u
#define INSPECT_NAME_BYTES 40u
#define INSPECT_OBJECTS_MAX 40u
#define INSPECT_TABLES_MAX 8u
#define INSPECT_TEXT_BYTES 192u

enum inspect_kind { INSPECT_TYPE = 1, INSPECT_FIELD, INSPECT_CONSTANT };

struct inspect_item {
	char name[INSPECT_NAME_BYTES];
	uint32_t kind;
	uint32_t size;  /* of the type or the field, in bytes */
	uint64_t value; /* the field's offset in its type; the constant */
};

struct inspect_object {
	char name[INSPECT_NAME_BYTES];
	uint64_t address;
	_Atomic uint64_t size; /* 0: not there yet */
};

struct inspect_table {
	uint64_t items;            /* address of an array of struct inspect_item */
	_Atomic uint64_t nr_items; /* 0: not there yet */
};

/* What may be asked for; argument and result are in bytes. */
enum inspect_request_kind {
	INSPECT_TRIM = 1, /* argument: 0 for all, else how much is enough */
	INSPECT_SET,      /* text: NAME:VALUE */
	INSPECT_OFFLINE,  /* argument: how much */
	INSPECT_ONLINE
};

/*
 * A request from outside: the asker writes everything, `number` one higher than before,
 * and pending last.  Whoever in the process finds pending set takes it by clearing it,
 * writes `taken`, does it, writes result, err and text, and `answered` last.
 */
struct inspect_request {
	_Atomic uint32_t pending; /* 0 or 1 */
	uint32_t number;
	_Atomic uint32_t taken;    /* number of the request that somebody works on */
	_Atomic uint32_t answered; /* number of the last one that is done */
	uint32_t kind;
	int32_t err; /* 0 or a negative errno */
	uint64_t argument;
	uint64_t patience_ns; /* how long it may take at most; 0: only what can be done at once */
	uint64_t result;
	char text[INSPECT_TEXT_BYTES];
};

struct inspect {
	char magic[8];
	uint32_t version;
	uint32_t size; /* of this structure */
	char release[16]; /* version of the library */
	/* Places given out; 0: nothing was allocated yet. */
	_Atomic uint32_t nr_objects;
	_Atomic uint32_t nr_tables;
	struct inspect_object objects[INSPECT_OBJECTS_MAX];
	struct inspect_table tables[INSPECT_TABLES_MAX];
	struct inspect_request request;
};

extern struct inspect pb_inspect;

/* Shows one more variable, or one more table of items.  Any number of threads, no locks.
 * A variable called "vm.NAME" is a counter of 8 bytes that `pageblock vmstat` shows as NAME. */
void inspect_show(const char *name, const void *address, size_t size);
void inspect_describe(const struct inspect_item *items, size_t nr_items);

/* Rows of the tables inspect.def. */
#define INSPECT_ITEM_TYPE(type) { #type, INSPECT_TYPE, sizeof(struct type), 0 },
#define INSPECT_ITEM_FIELD(type, field)                                                        \
	{ #type "." #field, INSPECT_FIELD, sizeof(((struct type *)NULL)->field),               \
	  offsetof(struct type, field) },
#define INSPECT_ITEM_CONSTANT(name, value) { #name, INSPECT_CONSTANT, 0, (uint64_t)(value) },

/* Whether somebody outside has asked for something.  Cheap enough for every slow path. */
static inline bool inspect_is_asked(void)
{
	/* Relaxed: a hint; inspect_answer() takes it by an exchange. */
	return atomic_load_explicit(&pb_inspect.request.pending, memory_order_relaxed) != 0;
}

/*
 * Does what was asked for, if nobody else has taken it.  Called without locks, where
 * everything in the library may be called.
 */
void inspect_answer(void);

/* Who does it: writes result and text, returns 0 or a negative errno.  Set once, early. */
void inspect_set_handler(int (*handler)(struct inspect_request *request));

/* In the child of a fork: what was asked of the parent is not asked of the child. */
void inspect_fork_child(void);

/* Core's own part. */
void inspect_core(void);

#endif
