/*
 * warm MIB: writes to so much memory, by huge pages and then by small ones, and ends.
 *
 * On a virtual machine whose free memory is reported to the host, memory that nobody has
 * used for a moment is taken away and faulted in again by the host at the next use, which
 * costs more than all that is to be measured.  What runs at once after this one finds
 * memory that the host has in place, whichever allocator it uses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

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

int main(int argc, char **argv)
{
	size_t nr_bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;

	if (nr_bytes == 0) {
		fputs("usage: warm MIB\n", stderr);
		return 2;
	}
	touch(nr_bytes, MADV_HUGEPAGE);
	touch(nr_bytes, MADV_NOHUGEPAGE);
	return 0;
}
