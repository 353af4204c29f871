/* Runs with and without the library, as pageblock.h shows it. */
#define PB_OPTIONAL
#include <pageblock.h>

#include <stdio.h>

int main(void)
{
	if (!pb_version) {
		puts("without");
		return 0;
	}
	printf("with %s %d\n", pb_version(), PAGEBLOCK_VERSION_NUMBER);
	printf("header %d.%d.%d\n", PAGEBLOCK_VERSION_MAJOR, PAGEBLOCK_VERSION_MINOR,
	       PAGEBLOCK_VERSION_PATCH);
	if (pb_check)
		pb_check();
	if (pb_trim)
		pb_trim();
	if (pb_alloc_contig && pb_deadline) {
		void *p = pb_alloc_contig(PB_PAGEBLOCK_BYTES, PB_CONTIG_HARD, pb_deadline(1000));

		if (p == NULL || pb_free_contig(p) != 0)
			return 1;
	}
	if (pb_handle_alloc && pb_handle_pin && pb_handle_unpin && pb_handle_free) {
		pb_handle_t handle = pb_handle_alloc(100);

		if (pb_handle_pin(handle) == NULL || pb_handle_unpin(handle) != 0 ||
		    pb_handle_free(handle) != 0)
			return 1;
	}
	if (pb_compact)
		pb_compact(0);
	if (pb_offline && pb_online)
		pb_online(pb_offline(PB_PAGEBLOCK_BYTES, 0));
	if (pb_defrag_hint && pb_defrag_hint(""))
		return 1;
	return 0;
}
