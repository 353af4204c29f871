/*
 * The unwinder uses no descriptors: a program that closes all it does not know and opens its
 * own gets every byte of what it writes, though it allocates in code without unwind tables,
 * where an unwinder has to guess.
 */
#define _GNU_SOURCE
#include "tests/preload/test.h"

#include <fcntl.h>
#include <sys/mman.h>

static void *allocate(void)
{
	void *p = malloc(4000);

	HIDE(p);
	free(p);
	return p;
}

/* From new pages each time: what an unwinder knows to be readable it does not try again. */
static void allocate_in_new_code(void)
{
	/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret: as a JIT compiler writes it. */
	static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };

	for (int i = 0; i < 200; i++) {
		unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		void *(*jitted)(void *(*call)(void));

		EXPECT(page != MAP_FAILED);
		memcpy(page, code, sizeof(code));
		memcpy(&jitted, &page, sizeof(jitted));
		(void)jitted(allocate);
	}
}

int main(void)
{
#if defined(__x86_64__)
	char buffer[1024];

	expect_library();
	allocate_in_new_code();
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	for (int round = 0; round < 8; round++) {
		int fds[2];

		EXPECT(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
		memset(buffer, 'a' + round, sizeof(buffer));
		EXPECT(write(fds[1], buffer, sizeof(buffer)) == (ssize_t)sizeof(buffer));
		allocate_in_new_code();
		EXPECT(read(fds[0], buffer, sizeof(buffer)) == (ssize_t)sizeof(buffer));
		for (size_t i = 0; i < sizeof(buffer); i++)
			EXPECT(buffer[i] == 'a' + round);
		EXPECT(read(fds[0], buffer, 1) == -1 && errno == EAGAIN);
	}
	return 0;
#else
	skip("x86-64 only");
	return 0;
#endif
}
