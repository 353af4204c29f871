/* What programs linked to tcmalloc call is answered here, and their blocks are ours. */
#include "tests/preload/test.h"

#include <malloc.h>

/* As <gperftools/malloc_extension_c.h> and tcmalloc.h have them. */
int MallocExtension_VerifyAllMemory(void);
int MallocExtension_VerifyNewMemory(const void *p);
int MallocExtension_GetNumericProperty(const char *property, size_t *value);
int MallocExtension_SetNumericProperty(const char *property, size_t value);
void MallocExtension_GetStats(char *buffer, int length);
void MallocExtension_MarkThreadIdle(void);
void MallocExtension_MarkThreadBusy(void);
void MallocExtension_ReleaseFreeMemory(void);
size_t MallocExtension_GetEstimatedAllocatedSize(size_t size);
size_t MallocExtension_GetAllocatedSize(const void *p);
int MallocExtension_GetOwnership(const void *p);
void *tc_malloc(size_t size);
void *tc_memalign(size_t align, size_t size);
void *tc_realloc(void *p, size_t size);
void tc_free(void *p);
void *tc_new(size_t size);
void tc_delete(void *p);
size_t tc_malloc_size(void *p);

static size_t get(const char *name)
{
	size_t value = 0;

	EXPECT(MallocExtension_GetNumericProperty(name, &value) == 1);
	return value;
}

int main(void)
{
	char text[4096], small[8];
	size_t before, value;
	int on_stack;

	expect_library();
	before = get("generic.current_allocated_bytes");
	char *p = malloc(64 << 20);

	HIDE(p);
	memset(p, 1, 64 << 20);
	EXPECT(get("generic.current_allocated_bytes") == before + (64 << 20));
	EXPECT(get("generic.heap_size") >= get("generic.current_allocated_bytes"));
	free(p);
	value = resident_bytes();
	MallocExtension_ReleaseFreeMemory();
	EXPECT(resident_bytes() <= value);
	EXPECT(get("tcmalloc.pageheap_unmapped_bytes") >= 60 << 20);
	EXPECT(MallocExtension_GetNumericProperty("no.such.thing", &value) == 0);
	EXPECT(MallocExtension_SetNumericProperty("no.such.thing", 1) == 0);
	EXPECT(MallocExtension_SetNumericProperty("tcmalloc.max_total_thread_cache_bytes",
						  1 << 20) == 1);

	p = tc_memalign(4096, 100);
	EXPECT((uintptr_t)p % 4096 == 0 && tc_malloc_size(p) == malloc_usable_size(p));
	EXPECT(MallocExtension_GetOwnership(p) == 1);
	EXPECT(MallocExtension_GetOwnership(&on_stack) == 2);
	p = tc_realloc(p, 1000);
	EXPECT(MallocExtension_VerifyNewMemory(p) == 1);
	EXPECT(MallocExtension_GetAllocatedSize(p) >= 1000);
	free(p);
	p = malloc(100);
	EXPECT(MallocExtension_GetEstimatedAllocatedSize(100) == malloc_usable_size(p));
	tc_free(p);
	tc_delete(tc_new(10));
	free(tc_malloc(10));
	MallocExtension_MarkThreadIdle();
	MallocExtension_MarkThreadBusy();
	EXPECT(MallocExtension_VerifyAllMemory() == 1);
	MallocExtension_GetStats(text, sizeof(text));
	EXPECT(strstr(text, "heaps") != NULL);
	MallocExtension_GetStats(small, sizeof(small));
	EXPECT(strlen(small) == sizeof(small) - 1);
	return 0;
}
