/*
 * xmalloc [PRODUCERS [CONSUMERS]]: blocks are allocated by some threads, freed by others.
 *
 * After the xmalloc test of Lever and Boreham ("malloc() Performance in a Multithreaded Linux
 * Environment", USENIX 2000). Producers fill batches of 256 blocks of 16 to 512 bytes and put
 * them into a bounded queue; consumers take them out and free them, and allocate nothing.
 * The batches themselves are reused, so that only blocks cross from thread to thread.
 *
 * Stresses: remote frees and how their memory finds its way back to the producer; threads
 * whose caches only ever grow; peak memory when it does not find its way back.
 */
#include "workloads/support.h"

enum {
	BATCH_LEN = 256,
	BATCHES_QUEUED_MAX = 64,
	BATCHES = 16384,
};

struct batch {
	struct batch *next;
	struct block blocks[BATCH_LEN];
};

/* A list of batches; whoever takes from an empty one waits. */
struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct batch *head;
	struct batch **tail;
};

static struct batch batches[BATCHES_QUEUED_MAX];
static struct queue empties = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL,
			       &empties.head};
static struct queue queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL,
			     &queue.head};

/* What one thread is to do: its share of the batches. */
struct share {
	unsigned seed;
	unsigned nr_batches;
};

static void queue_put(struct queue *to, struct batch *batch)
{
	batch->next = NULL;
	pthread_mutex_lock(&to->lock);
	*to->tail = batch;
	to->tail = &batch->next;
	pthread_cond_signal(&to->filled);
	pthread_mutex_unlock(&to->lock);
}

static struct batch *queue_take(struct queue *from)
{
	struct batch *batch;

	pthread_mutex_lock(&from->lock);
	while (!from->head)
		pthread_cond_wait(&from->filled, &from->lock);
	batch = from->head;
	from->head = batch->next;
	if (!from->head)
		from->tail = &from->head;
	pthread_mutex_unlock(&from->lock);
	return batch;
}

static void *produce(void *argument)
{
	const struct share *share = argument;
	struct random random = random_seed(share->seed);

	for (unsigned i = 0; i < share->nr_batches; i++) {
		struct batch *batch = queue_take(&empties);

		for (size_t j = 0; j < BATCH_LEN; j++)
			batch->blocks[j] = block_new(random_between(&random, 16, 512));
		queue_put(&queue, batch);
	}
	return NULL;
}

static void *consume(void *argument)
{
	const struct share *share = argument;

	for (unsigned i = 0; i < share->nr_batches; i++) {
		struct batch *batch = queue_take(&queue);

		for (size_t j = 0; j < BATCH_LEN; j++)
			block_free(&batch->blocks[j]);
		queue_put(&empties, batch);
	}
	return NULL;
}

/* The shares of all threads of a kind add up to BATCHES. */
static void start_all(void *(*function)(void *), struct share *shares, pthread_t *threads,
		      unsigned nr_threads)
{
	for (unsigned i = 0; i < nr_threads; i++) {
		shares[i].seed = i;
		shares[i].nr_batches = BATCHES / nr_threads + (i < BATCHES % nr_threads);
		threads[i] = thread_start(function, &shares[i]);
	}
}

int main(int argc, char **argv)
{
	unsigned nr_producers = argument_or(argc, argv, 1, 2);
	unsigned nr_consumers = argument_or(argc, argv, 2, nr_producers);
	unsigned nr_threads = nr_producers + nr_consumers;
	struct share *shares = calloc(nr_threads, sizeof(*shares));
	pthread_t *threads = calloc(nr_threads, sizeof(*threads));

	if (!shares || !threads)
		fail("out of memory");
	for (size_t i = 0; i < BATCHES_QUEUED_MAX; i++)
		queue_put(&empties, &batches[i]);
	start_all(produce, shares, threads, nr_producers);
	start_all(consume, shares + nr_producers, threads + nr_producers, nr_consumers);
	for (unsigned i = 0; i < nr_threads; i++)
		thread_join(threads[i]);
	free(threads);
	free(shares);
	return work_done();
}
