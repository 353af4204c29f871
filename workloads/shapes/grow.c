/*
 * grow [ROUNDS]: buffers that grow by realloc, with small blocks between them.
 *
 * Eight buffers grow side by side to 1 to 32 MiB, some by half of what they have (vectors,
 * string builders), some by a fixed 16 KiB (readers of files and sockets). Between any two
 * steps small blocks come and go, and some stay until the round ends. Every added part is
 * written at both ends and each buffer is verified over all its length before it is freed.
 *
 * Stresses: growing in place or by moving pages instead of copying, and the holes that
 * buffers leave behind when they move.
 */
#include "workloads/support.h"

enum {
	BUFFERS = 8,
	SMALLS = 1024,
	KIB = 1 << 10,
	MIB = 1 << 20,
	STRIDE_BYTES = 4 * KIB,
	FIXED_STEP_BYTES = 16 * KIB,
};

struct buffer {
	unsigned char *data;
	size_t size_bytes;
	size_t max_bytes;
	size_t step_bytes; /* 0: by half of the size */
};

static struct block smalls[SMALLS];

static void buffer_grow(struct buffer *buffer)
{
	size_t step = buffer->step_bytes ? buffer->step_bytes : buffer->size_bytes / 2 + 64;
	size_t size = buffer->size_bytes + step;
	unsigned char *data = realloc(buffer->data, size);

	if (!data)
		fail("out of memory");
	/* The first strides of the new part; those before were written earlier. */
	for (size_t at = (buffer->size_bytes + STRIDE_BYTES - 1) / STRIDE_BYTES;
	     at * STRIDE_BYTES < size; at++)
		data[at * STRIDE_BYTES] = (unsigned char)at;
	buffer->data = data;
	buffer->size_bytes = size;
}

static void buffer_free(struct buffer *buffer)
{
	for (size_t at = 0; at * STRIDE_BYTES < buffer->size_bytes; at++)
		if (buffer->data[at * STRIDE_BYTES] != (unsigned char)at)
			fail("a buffer lost its contents");
	free(buffer->data);
}

static void grow_all(struct random *random)
{
	struct buffer buffers[BUFFERS];
	size_t nr_growing = BUFFERS;

	for (size_t i = 0; i < BUFFERS; i++)
		buffers[i] = (struct buffer){.max_bytes = (size_t)MIB << i * 5 / (BUFFERS - 1),
					     .step_bytes = i % 2 ? FIXED_STEP_BYTES : 0};
	while (nr_growing) {
		nr_growing = 0;
		for (size_t i = 0; i < BUFFERS; i++) {
			if (buffers[i].size_bytes < buffers[i].max_bytes) {
				buffer_grow(&buffers[i]);
				nr_growing++;
			}
			block_replace(&smalls[random_between(random, 0, SMALLS - 1)],
				      random_log_uniform(random, 4, 12));
		}
	}
	for (size_t i = 0; i < BUFFERS; i++)
		buffer_free(&buffers[i]);
}

int main(int argc, char **argv)
{
	unsigned nr_rounds = argument_or(argc, argv, 1, 6);
	struct random random = random_seed(1);

	for (unsigned round = 0; round < nr_rounds; round++)
		grow_all(&random);
	for (size_t i = 0; i < SMALLS; i++)
		block_free(&smalls[i]);
	return work_done();
}
