/* Requests, ranges, addresses, statistics and configurations. */
#include <pthread.h>

#include "check.h"

static int stop_after_three(void *context)
{
	return ++*(int *)context > 3;
}

static pagemill_allocator *in_callback;

static int destroys(void *context)
{
	*(int *)context = pagemill_destroy(in_callback);
	return 1;
}

/* A callback cannot destroy the allocator of its request, even if that has no pages yet. */
static void destruction_in_a_callback(void)
{
	pagemill_page block = 0;
	int result = PAGEMILL_OK;
	size_t nr_new = 7;
	struct pagemill_request request = {
		.size = sizeof request, .gfp = PAGEMILL_GFP_KERNEL, .order = PAGEMILL_MAX_ORDER,
		.stop = destroys, .context = &result,
	};

	CHECK(pagemill_create(2 << 20, &in_callback) == PAGEMILL_OK);
	CHECK(pagemill_alloc_request(in_callback, &request, 1, &block, &nr_new) == PAGEMILL_ESTOPPED);
	CHECK(result == PAGEMILL_EBUSY && nr_new == 0);
	CHECK(pagemill_destroy(in_callback) == PAGEMILL_OK);
}

/* Calls that fail where destructors of thread-local variables have run. */
static pthread_key_t at_end_of_thread;

static void fails(void *argument)
{
	pagemill_allocator *none;

	(void)argument;
	CHECK(pagemill_create(5, &none) == PAGEMILL_ECONFIG || pagemill_create(5, &none) == PAGEMILL_ESYSTEM);
	CHECK(*pagemill_last_error());
}

static void fails_at_exit(void)
{
	fails(NULL);
	puts("at exit: ok");
}

static void *sets_key(void *argument)
{
	fails(NULL);
	CHECK(pthread_setspecific(at_end_of_thread, argument) == 0);
	return NULL;
}

static void errors_at_the_end_of_a_thread(void)
{
	pthread_t thread;
	int any;

	CHECK(pthread_key_create(&at_end_of_thread, fails) == 0);
	CHECK(pthread_create(&thread, NULL, sets_key, &any) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(atexit(fails_at_exit) == 0);
	fails(NULL);
}

/* Frame numbers of an allocator begin behind those of the others, and those of the destroyed. */
static void frame_numbers(void)
{
	pagemill_allocator *frames;
	uint64_t seen[200];

	for (size_t i = 0; i < 200; i++) {
		struct pagemill_zone zone = { .size = sizeof zone };
		CHECK(pagemill_create(4 << 20, &frames) == PAGEMILL_OK);
		CHECK(pagemill_get_zone(frames, 0, &zone) == 1 && zone.kind == PAGEMILL_ZONE_NORMAL);
		seen[i] = zone.start_pfn;
		for (size_t j = 0; j < i; j++)
			CHECK(seen[j] != seen[i]);
		CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	}
}

static uint64_t in_lists(pagemill_allocator *frames)
{
	struct pagemill_list list = { .size = sizeof list };
	uint64_t sum = 0;

	for (size_t i = 0; pagemill_get_list(frames, i, &list); i++) {
		CHECK(list.count <= list.high && list.order <= 9 && list.kind == PAGEMILL_ZONE_NORMAL);
		sum += list.count;
	}
	return sum;
}

static void requests(pagemill_allocator *frames)
{
	static pagemill_page pages[1 << 14];
	size_t nr_new = 7;

	CHECK(pagemill_fill(frames, PAGEMILL_GFP_KERNEL, 0, NULL) == PAGEMILL_OK);
	CHECK(pagemill_fill(frames, PAGEMILL_GFP_KERNEL, 300, pages) == PAGEMILL_OK);
	CHECK(pages[299] != 0 && pages[300] == 0);
	CHECK(pagemill_alloc_exactly(frames, PAGEMILL_GFP_KERNEL, 1 << 14, pages) == PAGEMILL_ENOMEM);
	CHECK(pages[300] == 0);
	CHECK(pagemill_alloc_exactly(frames, PAGEMILL_GFP_KERNEL, 310, pages) == PAGEMILL_OK);
	CHECK(pagemill_fill(frames, PAGEMILL_GFP_KERNEL, 1 << 14, pages) == PAGEMILL_ENOMEM);
	CHECK(pages[2000] != 0);
	CHECK(pagemill_free_pages_bulk(frames, 1 << 14, pages) > 2000);

	struct pagemill_request blocks = {
		.size = sizeof blocks, .gfp = PAGEMILL_GFP_KERNEL, .order = 3, .node = 1,
		.effort = PAGEMILL_EFFORT_ALL_OR_NOTHING,
	};
	CHECK(pagemill_alloc_request(frames, &blocks, 20, pages, &nr_new) == PAGEMILL_OK && nr_new == 20);
	CHECK(pagemill_page_order(pages[19]) == 3);
	CHECK(pagemill_alloc_request(frames, &blocks, 1 << 14, pages, &nr_new) == PAGEMILL_ENOMEM);
	CHECK(nr_new == 0);
	CHECK(pagemill_free_pages_bulk(frames, 20, pages) == 20);

	int calls = 0;
	struct pagemill_request stopped = {
		.size = sizeof stopped, .gfp = PAGEMILL_GFP_KERNEL, .stop = stop_after_three, .context = &calls,
	};
	CHECK(pagemill_alloc_request(frames, &stopped, 1 << 14, pages, NULL) == PAGEMILL_ESTOPPED);
	CHECK(calls > 3);
	pagemill_free_pages_bulk(frames, 1 << 14, pages);
}

static void ranges(pagemill_allocator *frames)
{
	pagemill_page first;

	CHECK(pagemill_alloc_contig(frames, PAGEMILL_GFP_KERNEL, 700, 16, 0, &first) == PAGEMILL_OK);
	CHECK(pagemill_page_pfn(first) % 16 == 0);
	char *bytes = pagemill_page_address(frames, first);
	memset(bytes, 1, (size_t)700 * PAGEMILL_PAGE_SIZE);
	for (size_t i = 0; i < 700; i++)
		CHECK(pagemill_page_address(frames, first + i) == bytes + i * PAGEMILL_PAGE_SIZE);
	/* Split: the front by pages, the middle as a range, the end by its address. */
	for (size_t i = 0; i < 50; i++)
		pagemill_free_page(frames, first + i);
	pagemill_free_contig(frames, first + 50, 500);
	pagemill_free_at(frames, bytes + (size_t)550 * PAGEMILL_PAGE_SIZE, 150);
	pagemill_free_contig(frames, first, 0);
	pagemill_free_at(frames, NULL, 0);
	CHECK(pagemill_alloc_contig(frames, PAGEMILL_GFP_KERNEL, 1 << 20, 1, 0, &first) == PAGEMILL_ERANGE);
	CHECK(pagemill_alloc_contig(frames, PAGEMILL_GFP_KERNEL, 1, 1, 4096, &first) == PAGEMILL_ERANGE);

	pagemill_page page = pagemill_alloc_pages(frames, PAGEMILL_GFP_KERNEL, 2);
	CHECK(pagemill_page_at(frames, pagemill_page_address(frames, page), 2) == page);
	pagemill_free_page(frames, page);
}

static void statistics(pagemill_allocator *frames)
{
	struct pagemill_zone zone = { .size = sizeof zone };
	struct pagemill_vmstat before = { .size = sizeof before }, after = before;

	pagemill_drain(frames);
	CHECK(in_lists(frames) == 0);
	CHECK(pagemill_get_zone(frames, 0, &zone) == 1);
	CHECK(zone.kind == PAGEMILL_ZONE_NORMAL && zone.managed == 4096 && zone.present == 4096);
	CHECK(zone.nr_free_pages == 4096 && zone.min > 0 && zone.min < zone.low && zone.low < zone.high);
	CHECK(zone.free_blocks[10] == 4);
	CHECK(pagemill_get_zone(frames, 1, &zone) == 0);

	pagemill_get_vmstat(frames, &before);
	pagemill_page page = pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL);
	CHECK(pagemill_nr_free_pages(frames) == 4095 && in_lists(frames) > 0);
	pagemill_free_page(frames, page);
	pagemill_get_vmstat(frames, &after);
	CHECK(after.pgalloc[PAGEMILL_ZONE_NORMAL] == before.pgalloc[PAGEMILL_ZONE_NORMAL] + 1);
	CHECK(after.pgfree == before.pgfree + 1);
	CHECK(pagemill_nr_free_pages(frames) == 4096);

	/* A caller of an earlier version gets the fields that it knows, and no byte more. */
	struct pagemill_vmstat early;
	memset(&early, 0x77, sizeof early);
	early.size = 2 * sizeof(uint64_t);
	pagemill_get_vmstat(frames, &early);
	CHECK(early.nr_free_pages == pagemill_nr_free_pages(frames) - in_lists(frames));
	CHECK(early.pgalloc[0] == UINT64_C(0x7777777777777777));

	/* A caller of a later version gets zeroes in the fields that this version does not know. */
	struct {
		struct pagemill_vmstat known;
		uint64_t unknown[2], behind;
	} later;
	memset(&later, 0x77, sizeof later);
	later.known.size = sizeof later.known + sizeof later.unknown;
	pagemill_get_vmstat(frames, &later.known);
	CHECK(later.known.nr_free_pages == early.nr_free_pages);
	CHECK(later.unknown[0] == 0 && later.unknown[1] == 0);
	CHECK(later.behind == UINT64_C(0x7777777777777777));
}

/* Expects PAGEMILL_ECONFIG, and that the reason contains the text. */
static void refused(const struct pagemill_config *config, const char *text)
{
	pagemill_allocator *none = NULL;

	CHECK(pagemill_create_with(config, &none) == PAGEMILL_ECONFIG);
	CHECK(none == NULL && strstr(pagemill_last_error(), text));
}

/* A wrong value of each field is the caller's, not the system's. */
static void wrong_fields(void)
{
	const struct pagemill_config right = { .size = sizeof right, .len_bytes = 32 << 20 };
	struct pagemill_config config = right;
	pagemill_allocator *none;

	CHECK(pagemill_create(0, &none) == PAGEMILL_ECONFIG);
	CHECK(pagemill_create(4097, &none) == PAGEMILL_ECONFIG);
	config.len_bytes = 4097;
	refused(&config, "allowed are multiples of 4 KiB");
	config = right;
	config.min_free_bytes = UINT64_C(1) << 40;
	refused(&config, "must be less than the 33554432 bytes");
	config = right;
	config.movable_bytes = UINT64_C(1) << 50;
	refused(&config, "movable bytes for each node are not possible");
	config = right;
	config.nr_nodes = 65;
	refused(&config, "65 nodes: allowed are 1 to 8");
	config.nr_nodes = 2000;
	refused(&config, "nr_nodes 2000: allowed are 0 to 64");
	config = right;
	config.nr_cpus = 1u << 31;
	refused(&config, "allowed are 1 to");
}

static void configurations(void)
{
	pagemill_allocator *frames, *others[64];
	struct pagemill_config config = {
		.size = sizeof config, .len_bytes = 32 << 20, .min_free_bytes = 1 << 20, .movable_bytes = 8 << 20,
		.nr_nodes = 1, .flags = PAGEMILL_CONFIG_POISON | PAGEMILL_CONFIG_MEMFD | PAGEMILL_CONFIG_NO_HUGE,
	};
	struct pagemill_zone zone = { .size = sizeof zone };

	CHECK(pagemill_create_with(&config, &frames) == PAGEMILL_OK);
	CHECK(pagemill_get_zone(frames, 1, &zone) == 1 && zone.kind == PAGEMILL_ZONE_MOVABLE);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	config.nr_nodes = 200;
	CHECK(pagemill_create_with(&config, &frames) != PAGEMILL_OK);
	CHECK(strstr(pagemill_last_error(), "200 nodes"));
	config.nr_nodes = 2;
	config.min_free_bytes = UINT64_C(1) << 40;
	CHECK(pagemill_create_with(&config, &frames) == PAGEMILL_ECONFIG);
	CHECK(*pagemill_last_error());

	int32_t result = PAGEMILL_OK;
	int nr = 0;
	while (nr < 64 && (result = pagemill_create(4 << 20, &others[nr])) == PAGEMILL_OK)
		nr++;
	CHECK(nr >= 60 && (nr == 64 || result == PAGEMILL_ECONFIG));
	while (nr > 0)
		CHECK(pagemill_destroy(others[--nr]) == PAGEMILL_OK);
}

int main(void)
{
	pagemill_allocator *frames;

	CHECK(strcmp(pagemill_version(), PAGEMILL_VERSION) == 0);
	for (int32_t error = PAGEMILL_OK; error <= PAGEMILL_ESYSTEM; error++)
		CHECK(strcmp(pagemill_strerror(error), "unknown error code") != 0);
	CHECK(strcmp(pagemill_strerror(PAGEMILL_ESYSTEM + 1), "unknown error code") == 0);
	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	requests(frames);
	ranges(frames);
	statistics(frames);
	configurations();
	frame_numbers();
	destruction_in_a_callback();
	errors_at_the_end_of_a_thread();
	wrong_fields();
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	return 0;
}
