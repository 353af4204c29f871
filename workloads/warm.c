/*
 * warm MIB [REST_MS TIMES]: writes to so much memory, by huge pages and then by small ones, and ends.
 *
 * On a virtual machine whose free memory is reported to the host, memory that nobody has
 * used for a moment is taken away and faulted in again by the host at the next use, which
 * costs more than all that is to be measured.  What runs at once after this one finds
 * memory that the host has in place, whichever allocator it uses.
 *
 * With REST_MS and TIMES it says what giving back costs here, whoever does it: so many times
 * it writes to the memory by huge pages, gives it back with madvise and rests; the
 * milliseconds of each writing stand on one line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void touch(size_t nr_bytes, int advice)
{
	char *p = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	madvise(p, nr_bytes, advice);
	for (size_t at = 0; at < nr_bytes; at += 4096)
		p[at] = 1;
	munmap(p, nr_bytes);
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void refill(size_t nr_bytes, useconds_t rest_ms, int times)
{
	char *p = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	madvise(p, nr_bytes, MADV_HUGEPAGE);
	for (int time = 0; time < times; time++) {
		double begin = now_ms();

		for (size_t at = 0; at < nr_bytes; at += 4096)
			p[at] = 1;
		printf("%.1f ", now_ms() - begin);
		madvise(p, nr_bytes, MADV_DONTNEED);
		usleep(rest_ms * 1000);
	}
	puts("");
}

int main(int argc, char **argv)
{
	size_t nr_bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;

	if (nr_bytes == 0 || argc == 3) {
		fputs("usage: warm MIB [REST_MS TIMES]\n", stderr);
		return 2;
	}
	if (argc > 3) {
		refill(nr_bytes, (useconds_t)strtoul(argv[2], NULL, 10), atoi(argv[3]));
		return 0;
	}
	touch(nr_bytes, MADV_HUGEPAGE);
	touch(nr_bytes, MADV_NOHUGEPAGE);
	return 0;
}
