/* A store of records in pages: uses every function of pagemill.h at least once. */
#include <pagemill.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program with the reason unless a call succeeded. */
static void check(const char *what, int32_t result)
{
	if (result == PAGEMILL_OK)
		return;
	fprintf(stderr, "%s: %s", what, pagemill_strerror(result));
	if (result == PAGEMILL_ECONFIG || result == PAGEMILL_ESYSTEM)
		fprintf(stderr, ": %s", pagemill_last_error());
	fputc('\n', stderr);
	exit(1);
}

/* Single pages and blocks. Page 0 is no page. */
static void one_at_a_time(pagemill_allocator *frames)
{
	pagemill_page page = pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_ZERO);
	pagemill_page block = pagemill_alloc_pages(frames, PAGEMILL_GFP_KERNEL, 4); /* 16 pages */

	if (page == 0 || block == 0) {
		fprintf(stderr, "memory is short\n");
		exit(1);
	}
	memset(pagemill_page_address(frames, block), 'b', 16 * PAGEMILL_PAGE_SIZE);
	printf("a block of order %u begins at frame %#llx\n", pagemill_page_order(block),
	       (unsigned long long)pagemill_page_pfn(block));

	/* A program that keeps addresses frees by them, or turns them into pages. */
	char *address = pagemill_page_address(frames, page);
	if (pagemill_page_at(frames, address, 0) != page)
		exit(1);
	pagemill_free_at(frames, address, 1);
	pagemill_free_page(frames, block); /* of any order */
}

/* Many pages in one call. */
static void in_bulk(pagemill_allocator *frames)
{
	static const char record[] = "a record";
	pagemill_page pages[256] = { 0 }; /* empty slots */

	/* What can be had easily: at least one page if there is any, and no page of the low reserve. */
	size_t got = pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_NOWAIT, 64, pages);
	for (size_t i = 0; i < got; i++)
		memcpy(pagemill_page_address(frames, pages[i]), record, sizeof record);

	/* All of them, or the reason. Slots that have a page are left alone. */
	check("fill", pagemill_fill(frames, PAGEMILL_GFP_KERNEL, 128, pages));
	check("alloc_exactly", pagemill_alloc_exactly(frames, PAGEMILL_GFP_KERNEL, 256, pages));

	printf("freed %zu pages in one call\n", pagemill_free_pages_bulk(frames, 256, pages));
}

static int give_up(void *context)
{
	int *tries = context;

	return --*tries < 0;
}

/* A request with all options: blocks of 4 pages. It waits for others to free more until the callback ends that. */
static void with_options(pagemill_allocator *frames)
{
	static pagemill_page blocks[32768]; /* more than there are */
	int tries = 10;
	size_t nr_new;
	struct pagemill_request request = {
		.size = sizeof request,
		.gfp = PAGEMILL_GFP_KERNEL, /* may wait; NOWAIT never does */
		.order = 2,
		.effort = PAGEMILL_EFFORT_TRY_HARD,
		.stop = give_up,
		.context = &tries,
	};
	int32_t result = pagemill_alloc_request(frames, &request, 32768, blocks, &nr_new);

	printf("got %zu blocks of 4 pages: %s\n", nr_new, pagemill_strerror(result));
	pagemill_free_pages_bulk(frames, 32768, blocks);
}

/* Adjacent pages, any number of them. */
static void adjacent(pagemill_allocator *frames)
{
	pagemill_page first;

	check("alloc_contig", pagemill_alloc_contig(frames, PAGEMILL_GFP_KERNEL, 300, 16, 0, &first));
	memset(pagemill_page_address(frames, first), 0, 300 * PAGEMILL_PAGE_SIZE);
	/* Page i is first + i, so a range can be split anywhere. */
	pagemill_free_page(frames, first + 299);
	pagemill_free_contig(frames, first, 299);
}

struct packets {
	pagemill_pool *pool;
	pagemill_page pages[64];
};

/* Another thread: it may return pages, but not take them. */
static void *consume(void *argument)
{
	struct packets *packets = argument;

	pagemill_pool_return(packets->pool, 64, packets->pages);
	return NULL;
}

/* A page pool: one thread takes pages thousands of times per second, and others return them. */
static void recycled(pagemill_allocator *frames)
{
	struct pagemill_pool_params params = { .size = sizeof params, .gfp = PAGEMILL_GFP_NOWAIT };
	struct pagemill_pool_stats stats = { .size = sizeof stats };
	struct packets packets = { 0 };
	pthread_t thread;

	check("pool_create", pagemill_pool_create(frames, &params, &packets.pool));
	pagemill_pool_adopt(packets.pool); /* this thread is the owner already */
	for (int i = 0; i < 100; i++) {
		if (pagemill_pool_alloc_bulk(packets.pool, 64, packets.pages) != 64)
			exit(1);
		if (pthread_create(&thread, NULL, consume, &packets) != 0 || pthread_join(thread, NULL) != 0)
			exit(1);
	}
	pagemill_pool_put(packets.pool, pagemill_pool_alloc(packets.pool));
	pagemill_pool_get_stats(packets.pool, &stats);
	printf("the pool asked the allocator %llu times; %llu pages came back through the ring\n",
	       (unsigned long long)stats.alloc_slow, (unsigned long long)stats.recycle_ring);
	check("pool_destroy", pagemill_pool_destroy(packets.pool));
}

static void report(pagemill_allocator *frames)
{
	struct pagemill_zone zone = { .size = sizeof zone };
	struct pagemill_list list = { .size = sizeof list };
	struct pagemill_vmstat vmstat = { .size = sizeof vmstat };
	unsigned long long in_lists = 0;

	for (size_t i = 0; pagemill_get_list(frames, i, &list); i++)
		in_lists += list.count;
	pagemill_get_vmstat(frames, &vmstat);
	printf("%llu pages are in lists, %llu were allocated so far\n", in_lists,
	       (unsigned long long)vmstat.pgalloc[PAGEMILL_ZONE_NORMAL]);
	pagemill_drain(frames);
	for (size_t i = 0; pagemill_get_zone(frames, i, &zone); i++)
		printf("zone %zu: %llu of %llu pages are free, watermark %llu\n", i,
		       (unsigned long long)zone.nr_free_pages, (unsigned long long)zone.managed,
		       (unsigned long long)zone.min);
}

int main(void)
{
	pagemill_allocator *frames, *checked;
	struct pagemill_config config = {
		.size = sizeof config,
		.len_bytes = 16 << 20,
		.flags = PAGEMILL_CONFIG_PAGE_OWNER, /* finds every double free at once */
	};

	printf("pagemill %s\n", pagemill_version());
	check("create", pagemill_create(64 << 20, &frames));
	one_at_a_time(frames);
	in_bulk(frames);
	with_options(frames);
	adjacent(frames);
	recycled(frames);
	report(frames);
	printf("all %llu pages are free again\n", (unsigned long long)pagemill_nr_free_pages(frames));
	check("destroy", pagemill_destroy(frames));

	check("create_with", pagemill_create_with(&config, &checked));
	in_bulk(checked);
	check("destroy", pagemill_destroy(checked));
	return 0;
}
