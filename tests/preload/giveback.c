/*
 * giveback MODE - what goes back to the system, and when the system does not take it.
 *
 *   filter ERROR PROGRAM...  runs it where madvise, process_madvise and mincore answer ERROR
 *   peak                     builds and frees 96 MiB in two threads; says how many MiB are left
 *   linger                   one thread that frees much and then does next to nothing
 *   busy LEAST MOST          one thread that frees much, then does much of the same for a while,
 *                            and then now and then something else: blocks of LEAST to MOST bytes
 *   alone                    one thread that frees much and does nothing at all
 *   pressed FILE             frees 40 MiB, then writes into FILE that 63 MiB are in use
 *   outlive                  says "ready" and waits for a line, while its cgroup goes; then frees
 *                            40 MiB, which go back, says "alive", and has not spun
 *   deadline                 pb_reclaim() waits until its deadline, and no longer
 *   cpu MS                   makes the background thread work; says for how many ms it ran and
 *                            how many passed,
 *                            with 0 until it has run for 900 ms
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#define MIB ((size_t)1 << 20)
#define MS ((uint64_t)1000000)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static void rest_ms(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* --- a filter ----------------------------------------------------------------------------- */

static int filter(unsigned error, char **command)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		skip("no seccomp");
	execv(command[0], command);
	return 2;
}

/* --- a peak --------------------------------------------------------------------------------- */

enum { NR_SMALL = 60000, NR_LARGE = 64 };

/* Blocks of 300 to 1,000 bytes and of up to half a MiB; each byte of them is known. */
static void *peak_thread(void *arg)
{
	static const size_t small = 300, large = MIB / 2;
	size_t nr = NR_SMALL + NR_LARGE;
	unsigned char **blocks = calloc(nr, sizeof(*blocks));

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < nr; i++) {
			size_t size = i < NR_SMALL ? small + i % 700 : large - i * 100 % MIB / 4;

			EXPECT((blocks[i] = calloc(1, size + 8)) != NULL);
			for (size_t at = 8; at < size; at += 64)
				EXPECT(blocks[i][at] == 0);
			memset(blocks[i], (int)(i % 251) + 1, size);
			memcpy(blocks[i], &size, sizeof(size));
		}
		for (size_t i = 0; i < nr; i++) {
			size_t size;

			memcpy(&size, blocks[i], sizeof(size));
			for (size_t at = 8; at < size; at += 50)
				EXPECT(blocks[i][at] == i % 251 + 1);
			free(blocks[i]);
		}
		(void)pb_trim();
	}
	free(blocks);
	return arg;
}

static int peak(void)
{
	pthread_t threads[2];

	expect_library();
	for (int i = 0; i < 2; i++)
		EXPECT(pthread_create(&threads[i], NULL, peak_thread, NULL) == 0);
	for (int i = 0; i < 2; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	(void)pb_trim();
	pb_check();
	printf("%zu\n", resident_bytes() / MIB);
	return 0;
}

/* --- next to nothing ------------------------------------------------------------------------- */

/* Of 1 MiB each, in use. */
static void take_blocks(char **blocks, int nr)
{
	for (int i = 0; i < nr; i++) {
		EXPECT((blocks[i] = malloc(MIB)) != NULL);
		memset(blocks[i], 1, MIB);
	}
}

static void expect_back(size_t before, size_t after, size_t most)
{
	printf("%zu MiB at first, %zu MiB at last\n", before / MIB, after / MIB);
	fflush(stdout);
	EXPECT(after <= before + most);
}

static int linger(void)
{
	enum { NR = 14 }; /* less than what goes at once */
	char *blocks[NR];
	size_t before = resident_bytes(), after = SIZE_MAX;
	uint64_t end;

	expect_library();
	take_blocks(blocks, NR);
	for (int i = 0; i < NR; i++)
		free(blocks[i]);
	EXPECT(resident_bytes() > before + 10 * MIB);
	for (end = now_ns() + 10000 * MS; now_ns() < end && after > before + 4 * MIB;) {
		void *p = malloc(100);

		HIDE(p);
		free(p);
		rest_ms(10);
		after = resident_bytes();
	}
	expect_back(before, after, 4 * MIB);
	return 0;
}

/* Small blocks, of which one in so many stays: what goes back is pages of slabs. */
static void take_small_blocks(char **blocks, unsigned nr, unsigned one_in)
{
	for (unsigned i = 0; i < nr; i++) {
		blocks[i] = malloc(256);
		EXPECT(blocks[i] != NULL);
		memset(blocks[i], 1, 256);
	}
	for (unsigned i = 0; i < nr; i++) {
		if (i % one_in != 0)
			free(blocks[i]);
	}
}

static void use(size_t nr_bytes)
{
	void *p = malloc(nr_bytes);

	HIDE(p);
	free(p);
}

static int busy(size_t least, size_t most)
{
	enum { NR = 300000, NR_OPS = 1000000, ONE_IN = 200, NR_SIZES = 101 };
	static char *blocks[NR];
	size_t before = resident_bytes() + sizeof(blocks), after = SIZE_MAX;
	uint64_t end;

	expect_library();
	/* What is asked for now and then is at hand. */
	for (size_t i = 0; i < NR_SIZES; i++)
		use(least + i * (most - least) / NR_SIZES);
	take_small_blocks(blocks, NR, ONE_IN);
	EXPECT(resident_bytes() > before + 60 * MIB);
	/* Comes by more often than it may. */
	for (size_t i = 0; i < NR_OPS; i++)
		use(16 + i % 64);
	end = now_ns() + 10000 * MS;
	for (size_t i = 0; now_ns() < end && after > before + 30 * MIB; i++) {
		use(least + i * 37 % NR_SIZES * (most - least) / NR_SIZES);
		rest_ms(10);
		after = resident_bytes();
	}
	expect_back(before, after, 30 * MIB);
	return 0;
}

/* A program with one thread that frees much and does not call again. */
static int alone(void)
{
	enum { NR = 200 };
	char *blocks[NR];
	size_t before = resident_bytes();

	expect_library();
	take_blocks(blocks, NR);
	/* Sooner than the decay: what is left is what waits, and the last 20 ms. */
	for (int i = 0; i < NR; i++) {
		free(blocks[i]);
		usleep(1500);
	}
	expect_back(before, resident_bytes(), 40 * MIB);
	return 0;
}

/* --- a cgroup's use -------------------------------------------------------------------------- */

static int pressed(const char *path)
{
	char *p;
	size_t before;
	uint64_t end;
	FILE *f;

	expect_library();
	make_a_thread();
	before = resident_bytes();
	EXPECT((p = malloc(40 * MIB)) != NULL);
	memset(p, 1, 40 * MIB);
	free(p);
	rest_ms(500);
	EXPECT(resident_bytes() > before + 30 * MIB);
	EXPECT((f = fopen(path, "w")) != NULL && fprintf(f, "%zu\n", 63 * MIB) > 0);
	EXPECT(fclose(f) == 0);
	for (end = now_ns() + 10000 * MS; resident_bytes() > before + 8 * MIB; rest_ms(20))
		EXPECT(now_ns() < end);
	return 0;
}

static uint64_t thread_ns(const char *name);

static void free_and_wait(void)
{
	size_t before = resident_bytes();
	uint64_t end = now_ns() + 20000 * MS;
	char *p;

	EXPECT((p = malloc(40 * MIB)) != NULL);
	memset(p, 1, 40 * MIB);
	EXPECT(resident_bytes() > before + 30 * MIB);
	free(p);
	while (resident_bytes() > before + 8 * MIB) {
		EXPECT(now_ns() < end);
		rest_ms(20);
	}
}

static int outlive(void)
{
	char line[16];
	uint64_t used;

	expect_library();
	make_a_thread();
	free_and_wait();
	EXPECT(printf("ready\n") > 0 && fflush(stdout) == 0);
	EXPECT(fgets(line, sizeof(line), stdin) != NULL);
	free_and_wait();
	/* What reports an error for ever is not waited for again and again. */
	used = thread_ns("pageblock");
	rest_ms(1000);
	EXPECT(used > 0 && thread_ns("pageblock") - used < 200 * MS);
	pb_check();
	printf("alive\n");
	return 0;
}

/* --- a deadline -------------------------------------------------------------------------------- */

enum { NR_PINNED = 100000 };

static int deadline(void)
{
	static void *blocks[NR_PINNED];
	size_t done;
	uint64_t begin, took;

	expect_library();
	/* Each page has a block that stays: there is something to wait for, in vain. */
	for (size_t i = 0; i < NR_PINNED; i++)
		EXPECT((blocks[i] = malloc(400)) != NULL);
	for (size_t i = 0; i < NR_PINNED; i++)
		if (i % 8 != 0)
			free(blocks[i]);
	begin = now_ns();
	(void)pb_reclaim(SIZE_MAX, 0);
	took = now_ns() - begin;
	printf("without a deadline %llu ms\n", (unsigned long long)(took / MS));
	fflush(stdout);
	begin = now_ns();
	done = pb_reclaim(SIZE_MAX, pb_deadline(300));
	took = now_ns() - begin;
	printf("with one of 300 ms %llu ms, %zu KiB\n", (unsigned long long)(took / MS), done >> 10);
	fflush(stdout);
	EXPECT(took > 250 * MS && took < 5000 * MS);
	/* It has passed, or there is enough before it.  Again when it took long: the machine may
	 * have been busy with something else, which waiting would not be each time. */
	for (int i = 0; i < 3; i++) {
		begin = now_ns();
		(void)pb_reclaim(SIZE_MAX, 1);
		took = now_ns() - begin;
		if (took < 250 * MS)
			break;
		printf("with one that has passed %llu ms\n", (unsigned long long)(took / MS));
		fflush(stdout);
	}
	EXPECT(took < 250 * MS);
	for (int i = 0; i < 16; i++)
		memset(blocks[1 + i % 2] = malloc(MIB), 1, MIB), free(blocks[1 + i % 2]);
	begin = now_ns();
	done = pb_reclaim(64 * 1024, pb_deadline(60000));
	EXPECT(done >= 64 * 1024 && now_ns() - begin < 5000 * MS);
	for (size_t i = 0; i < NR_PINNED; i += 8)
		free(blocks[i]);
	pb_check();
	return 0;
}

/* --- the background thread's time ---------------------------------------------------------------- */

/* What the thread of this name has used, in ns; 0: there is none. */
static uint64_t thread_ns(const char *name)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned long long ns = 0;

	EXPECT(dir != NULL);
	for (struct dirent *e; ns == 0 && (e = readdir(dir)) != NULL;) {
		char path[300], comm[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (f == NULL)
			continue;
		if (fgets(comm, sizeof(comm), f) != NULL)
			comm[strcspn(comm, "\n")] = '\0';
		fclose(f);
		if (strcmp(comm, name) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", e->d_name);
		f = fopen(path, "r");
		if (f == NULL || fscanf(f, "%llu", &ns) != 1)
			skip("the kernel does not say what a thread has used");
		fclose(f);
	}
	closedir(dir);
	return ns;
}

static int cpu(uint64_t ms)
{
	uint64_t begin = now_ns(), took, used;

	expect_library();
	make_a_thread();
	do {
		enum { NR = 32 };
		char *p[NR];

		for (int i = 0; i < NR; i++) {
			EXPECT((p[i] = malloc(MIB)) != NULL);
			for (size_t at = 0; at < MIB; at += 4096)
				p[i][at] = 1;
		}
		for (int i = 0; i < NR; i++)
			free(p[i]);
		took = (now_ns() - begin) / MS;
		used = thread_ns("pageblock") / MS;
	} while (ms > 0 ? took < ms : used < 900 && took < 5000);
	printf("%llu %llu\n", (unsigned long long)used, (unsigned long long)took);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "filter") == 0 && argc > 3)
		return filter((unsigned)atoi(argv[2]), argv + 3);
	if (strcmp(mode, "peak") == 0)
		return peak();
	if (strcmp(mode, "linger") == 0)
		return linger();
	if (strcmp(mode, "busy") == 0 && argc > 3)
		return busy((size_t)atoi(argv[2]), (size_t)atoi(argv[3]));
	if (strcmp(mode, "alone") == 0)
		return alone();
	if (strcmp(mode, "pressed") == 0 && argc > 2)
		return pressed(argv[2]);
	if (strcmp(mode, "outlive") == 0)
		return outlive();
	if (strcmp(mode, "deadline") == 0)
		return deadline();
	if (strcmp(mode, "cpu") == 0 && argc > 2)
		return cpu((uint64_t)atoi(argv[2]));
	return 2;
}
