/* mallinfo, mallinfo2, pb_get_stats agree with what was allocated; malloc_info's XML goes to
 * standard output and malloc_stats to standard error, for the runner. */
#include "tests/preload/test.h"

#include <malloc.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

int main(void)
{
	struct pb_stats s = { .size = sizeof(s) }, t = s;
	struct mallinfo2 a, b;
	struct mallinfo m;
	_Alignas(struct pb_stats) char big[sizeof(s) + 64];

	expect_library();
	a = mallinfo2();
	EXPECT(pb_get_stats(&s) == 0);
	for (int i = 0; i < 10000; i++)
		EXPECT(malloc(1000) != NULL);
	void *large = malloc(30 << 20);

	HIDE(large);
	b = mallinfo2();
	m = mallinfo();
	EXPECT(pb_get_stats(&t) == 0);
	EXPECT(b.uordblks - a.uordblks >= 10000000 && b.uordblks - a.uordblks < 15000000);
	EXPECT(b.hblkhd - a.hblkhd >= 30 << 20 && b.hblks == 1);
	EXPECT(b.arena == b.uordblks + b.fordblks);
	EXPECT((size_t)m.hblkhd == b.hblkhd && (size_t)m.arena == b.arena);
	EXPECT(t.live_bytes - s.live_bytes >= (30 << 20) + 10000000);
	EXPECT(t.large_bytes - s.large_bytes >= 30 << 20);
	EXPECT(t.committed_bytes >= t.live_bytes && t.nr_heaps >= 1);

	/* Callers of other versions. */
	memset(big, 0xff, sizeof(big));
	((struct pb_stats *)(void *)big)->size = sizeof(big);
	EXPECT(pb_get_stats((struct pb_stats *)(void *)big) == 0);
	for (size_t i = sizeof(s); i < sizeof(big); i++)
		EXPECT(big[i] == 0);
	memset(&s, 0xff, sizeof(s));
	s.size = offsetof(struct pb_stats, large_bytes);
	EXPECT(pb_get_stats(&s) == 0 && s.live_bytes != UINT64_MAX &&
	       s.large_bytes == UINT64_MAX);
	s.size = 3;
	errno = 0;
	EXPECT(pb_get_stats(&s) == -1 && errno == EINVAL);

	EXPECT(malloc_info(0, stdout) == 0);
	malloc_stats();
	free(large);
	return 0;
}
