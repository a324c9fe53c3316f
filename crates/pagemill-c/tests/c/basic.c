/* The calls that allocate and free: single pages, blocks, arrays. */
#include "check.h"

static void single_pages_and_blocks(pagemill_allocator *frames)
{
	for (uint32_t order = 0; order <= PAGEMILL_MAX_ORDER; order++) {
		pagemill_page block = pagemill_alloc_pages(frames, PAGEMILL_GFP_KERNEL, order);
		CHECK(block != 0);
		size_t len = (size_t)PAGEMILL_PAGE_SIZE << order;
		char *bytes = pagemill_page_address(frames, block);
		CHECK((uintptr_t)bytes % (len < 2 << 20 ? len : 2 << 20) == 0);
		memset(bytes, 0x5a, len);
		pagemill_free_page(frames, block);
	}
	pagemill_page page = pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_ZERO);
	char *bytes = pagemill_page_address(frames, page);
	for (size_t i = 0; i < PAGEMILL_PAGE_SIZE; i++)
		CHECK(bytes[i] == 0);
	pagemill_free_page(frames, page);
	pagemill_free_page(frames, 0);
}

static void arrays(pagemill_allocator *frames)
{
	pagemill_page pages[100] = { 0 };

	CHECK(pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 0, NULL) == 0);
	CHECK(pagemill_free_pages_bulk(frames, 0, NULL) == 0);
	CHECK(pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 100, pages) == 100);
	pagemill_page kept = pages[41];
	CHECK(pagemill_free_pages_bulk(frames, 10, pages + 50) == 10);
	CHECK(pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 100, pages) == 100);
	CHECK(pages[41] == kept);
	CHECK(pagemill_free_pages_bulk(frames, 100, pages) == 100);
	for (size_t i = 0; i < 100; i++)
		CHECK(pages[i] == 0);
	CHECK(pagemill_free_pages_bulk(frames, 100, pages) == 0);
}

static void shortage(pagemill_allocator *frames)
{
	static pagemill_page pages[1 << 14];
	size_t got = 0, now;

	while ((now = pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 1 << 14, pages)) > got)
		got = now;
	CHECK(got > 3000 && got < 4096);
	CHECK(pagemill_alloc_page(frames, PAGEMILL_GFP_NOWAIT) == 0);
	CHECK(pagemill_alloc_pages(frames, PAGEMILL_GFP_KERNEL, 3) == 0);
	CHECK(pagemill_destroy(frames) == PAGEMILL_EBUSY);
	CHECK(pagemill_free_pages_bulk(frames, 1 << 14, pages) == got);
}

int main(void)
{
	pagemill_allocator *frames;

	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	single_pages_and_blocks(frames);
	arrays(frames);
	shortage(frames);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	CHECK(pagemill_create(1, &frames) == PAGEMILL_ECONFIG);
	CHECK(strstr(pagemill_last_error(), "allowed are multiples of 4 KiB"));
	return 0;
}
