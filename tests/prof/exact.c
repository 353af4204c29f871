/*
 * What is live by the profile is what is live by the program's own count, exactly, when
 * every object is sampled: sizes are 40 times the rate and more.  Objects are freed by other
 * threads, after their threads' end, by realloc in place and elsewhere, and in a fork child.
 * One line, "exact: N objects", when all is well.
 */
#include "tests/preload/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define NR_THREADS 6
#define NR_SLOTS 3000
#define NR_STEPS 20000

static struct slot {
	_Atomic(void *) p;
} slots[NR_SLOTS];

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* 640 bytes to 300 KB, mostly small. */
static size_t some_size(uint64_t *state)
{
	size_t most = next_random(state) % 50 == 0 ? 300000 : 9000;

	return 640 + next_random(state) % most;
}

static void *allocate(uint64_t *state)
{
	size_t size = some_size(state);
	void *p = NULL;

	switch (next_random(state) % 4) {
	case 0:
		return malloc(size);
	case 1:
		return calloc(1, size);
	case 2:
		return posix_memalign(&p, 256, size) == 0 ? p : NULL;
	default:
		p = malloc(size / 2 + 640);
		return realloc(p, size);
	}
}

/* Takes what is in a slot out and frees it, or puts it back with another size. */
static void *churn(void *arg)
{
	uint64_t state = (uint64_t)(uintptr_t)arg * 1000003;

	for (int i = 0; i < NR_STEPS; i++) {
		struct slot *slot = &slots[next_random(&state) % NR_SLOTS];
		void *p = atomic_exchange(&slot->p, NULL);

		if (p != NULL && next_random(&state) % 3 == 0)
			p = realloc(p, some_size(&state));
		else if (p != NULL) {
			free(p);
			p = NULL;
		} else {
			p = allocate(&state);
		}
		p = atomic_exchange(&slot->p, p);
		free(p);
	}
	return NULL;
}

static void profile(uint64_t *nr, uint64_t *bytes)
{
	char path[64];
	unsigned long long n, b;
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/pageblock-exact.%d", (int)getpid());
	EXPECT(pb_prof_write(path) == 0);
	f = fopen(path, "r");
	EXPECT(f != NULL && fscanf(f, "heap profile: %llu: %llu", &n, &b) == 2);
	fclose(f);
	unlink(path);
	*nr = n;
	*bytes = b;
}

static uint64_t nr_live(void)
{
	uint64_t nr = 0;

	for (int i = 0; i < NR_SLOTS; i++)
		nr += atomic_load(&slots[i].p) != NULL;
	return nr;
}

static void free_all(void)
{
	for (int i = 0; i < NR_SLOTS; i++)
		free(atomic_exchange(&slots[i].p, NULL));
}

/* Twice: the first one leaves what libc allocates once. */
static void run_threads(int round)
{
	pthread_t threads[NR_THREADS];

	for (int i = 0; i < NR_THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, churn,
				      (void *)(uintptr_t)(round * 100 + i + 1)) == 0);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	uint64_t nr0, nr1, bytes0, bytes1;
	int status;
	pid_t child;

	expect_library();
	/* A buffer of libc's would be one more object. */
	setvbuf(stdout, NULL, _IONBF, 0);
	run_threads(0);
	free_all();
	profile(&nr0, &bytes0);
	profile(&nr0, &bytes0);
	run_threads(1);
	profile(&nr1, &bytes1);
	if (nr1 - nr0 != nr_live()) {
		printf("%llu objects in the profile, %llu are live\n",
		       (unsigned long long)(nr1 - nr0), (unsigned long long)nr_live());
		return 1;
	}
	printf("exact: %llu objects\n", (unsigned long long)nr_live());
	fflush(stdout);
	child = fork();
	if (child == 0) {
		free_all();
		profile(&nr1, &bytes1);
		_exit(nr1 == nr0 && bytes1 == bytes0 ? 0 : 1);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	free_all();
	profile(&nr1, &bytes1);
	EXPECT(nr1 == nr0 && bytes1 == bytes0);
	pb_check();
	return 0;
}
