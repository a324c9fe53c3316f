/* Each call of the kernel's library, and the circumstances that it reports. */
#include <pthread.h>
#include <sys/mman.h>

#include "table.h"

static struct machine machine;

/* Destroys an allocator of which all pages are free. */
static void destroy(pagemill_allocator *frames, void *metadata)
{
	char wrong[256] = "";
	int32_t result = pagemill_kernel_validate(frames, wrong, sizeof wrong);

	if (result)
		fprintf(stderr, "%s\n", wrong);
	CHECK(result == PAGEMILL_OK && nr_irq_saves > 0 && nr_irq_off == 0);
	CHECK(pagemill_kernel_destroy(frames) == PAGEMILL_OK);
	free(metadata);
}

static void pages_and_blocks(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	pagemill_page pages[200] = { 0 }, first;
	void *metadata;
	pagemill_allocator *frames = create(&table, &config, &metadata);

	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES);
	memset(machine.memory, 0x55, (size_t)NR_FRAMES * PAGEMILL_PAGE_SIZE);
	pagemill_page page = pagemill_alloc_page(frames, KERNEL | PAGEMILL_GFP_ZERO);
	CHECK(page);
	char *bytes = pagemill_page_address(frames, page);
	CHECK(bytes == frame_address(&machine, pagemill_page_pfn(page)));
	for (size_t i = 0; i < PAGEMILL_PAGE_SIZE; i++)
		CHECK(bytes[i] == 0);
	CHECK(pagemill_kernel_destroy(frames) == PAGEMILL_EBUSY);
	pagemill_free_page(frames, page);
	for (uint32_t order = 0; order <= PAGEMILL_MAX_ORDER; order++) {
		pages[order] = pagemill_alloc_pages(frames, KERNEL, order);
		CHECK(pages[order] && pagemill_page_order(pages[order]) == order);
		CHECK(pagemill_page_pfn(pages[order]) % (order < 10 ? UINT64_C(1) << order : 512) == 0);
	}
	CHECK(pagemill_free_pages_bulk(frames, 200, pages) == 11);
	CHECK(pagemill_alloc_pages_bulk(frames, KERNEL, 0, NULL) == 0);
	CHECK(pagemill_alloc_pages_bulk(frames, KERNEL, 200, pages) > 0);
	CHECK(pagemill_fill(frames, KERNEL, 200, pages) == PAGEMILL_OK);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES - 200);
	CHECK(pagemill_free_pages_bulk(frames, 200, pages) == 200);
	CHECK(pagemill_alloc_contig(frames, KERNEL, 700, 64, 0, &first) == PAGEMILL_OK);
	CHECK(pagemill_page_pfn(first) % 64 == 0);
	pagemill_free_contig(frames, first, 700);
	CHECK(pagemill_alloc_contig(frames, KERNEL, NR_FRAMES + 1, 1, 0, &first) == PAGEMILL_ERANGE);
	CHECK(strcmp(pagemill_strerror(PAGEMILL_ENOTRESERVED), "unknown error code") != 0);
	CHECK(strstr(pagemill_strerror(PAGEMILL_ECONFIG), "config.message"));
	CHECK(strcmp(pagemill_strerror(PAGEMILL_ECORRUPT), "unknown error code") != 0);
	destroy(frames, metadata);
}

/* Every page of the memory is handed out once, and memory that is short is reported. */
static void all_of_memory(void)
{
	static pagemill_page pages[NR_FRAMES + 1];
	static unsigned char seen[NR_FRAMES];
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	void *metadata;
	pagemill_allocator *frames = create(&table, &config, &metadata);
	size_t nr = 0;

	CHECK(pagemill_fill(frames, KERNEL | PAGEMILL_GFP_MEMALLOC, NR_FRAMES + 1, pages) == PAGEMILL_ENOMEM);
	for (size_t i = 0; i <= NR_FRAMES; i++) {
		if (!pages[i])
			continue;
		uint64_t pfn = pagemill_page_pfn(pages[i]);
		CHECK(pfn >= FIRST_PFN && pfn < FIRST_PFN + NR_FRAMES && !seen[pfn - FIRST_PFN]++);
		nr++;
	}
	CHECK(nr == NR_FRAMES);
	CHECK(pagemill_alloc_page(frames, PAGEMILL_GFP_ATOMIC) == 0);
	CHECK(pagemill_alloc_exactly(frames, KERNEL, 1, &pages[NR_FRAMES]) == PAGEMILL_ENOMEM);
	CHECK(pagemill_free_pages_bulk(frames, NR_FRAMES + 1, pages) == NR_FRAMES);
	destroy(frames, metadata);
}

static void by_number(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	uint64_t pfns[150];
	void *metadata;
	pagemill_allocator *frames = create(&table, &config, &metadata);

	CHECK(pagemill_kernel_alloc_pfns_bulk(frames, KERNEL, 0, NULL) == 0);
	CHECK(pagemill_kernel_alloc_pfns_bulk(frames, KERNEL, 150, pfns) == 150);
	for (size_t i = 0; i < 150; i++)
		memset(frame_address(&machine, pfns[i]), (int)i, PAGEMILL_PAGE_SIZE);
	for (size_t i = 0; i < 150; i++)
		CHECK(*(unsigned char *)frame_address(&machine, pfns[i]) == i);
	pagemill_free_page(frames, pagemill_kernel_page_of_pfn(frames, pfns[149], 0));
	pagemill_kernel_free_pfn_range(frames, pfns[148], 1);
	/* The array is only read: it can be in memory that cannot be written. */
	uint64_t *constant = mmap(NULL, sizeof pfns, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(constant != MAP_FAILED);
	memcpy(constant, pfns, sizeof pfns);
	CHECK(mprotect(constant, sizeof pfns, PROT_READ) == 0);
	pagemill_kernel_free_pfns(frames, 148, constant);
	CHECK(munmap(constant, sizeof pfns) == 0);
	pagemill_page block = pagemill_alloc_pages(frames, KERNEL, 3);
	CHECK(pagemill_kernel_page_of_pfn(frames, pagemill_page_pfn(block), 3) == block);
	pagemill_kernel_free_pfn_range(frames, pagemill_page_pfn(block) + 4, 4);
	pagemill_kernel_free_pfn_range(frames, pagemill_page_pfn(block), 4);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES);
	destroy(frames, metadata);
}

static void reserved_and_handed_in(void)
{
	/* The first ends within a page, which is reserved then; the second lies elsewhere. */
	const struct pagemill_range ranges[] = {
		{ whole.start + 8192, 4097 }, { 1, 4096 }, { whole.start, 8192 },
	};
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	void *metadata;

	config.ranges = ranges;
	config.nr_ranges = 3;
	pagemill_allocator *frames = create(&table, &config, &metadata);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES - 4);
	CHECK(pagemill_kernel_hand_in(frames, FIRST_PFN, 5) == PAGEMILL_ENOTRESERVED);
	CHECK(pagemill_kernel_hand_in(frames, FIRST_PFN - 1, 2) == PAGEMILL_ENOTRESERVED);
	CHECK(pagemill_kernel_hand_in(frames, FIRST_PFN, 0) == PAGEMILL_OK);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES - 4);
	CHECK(pagemill_kernel_hand_in(frames, FIRST_PFN, 4) == PAGEMILL_OK);
	CHECK(pagemill_kernel_hand_in(frames, FIRST_PFN, 4) == PAGEMILL_ENOTRESERVED);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES);
	destroy(frames, metadata);
}

static void views(void)
{
	const struct pagemill_region halves[] = {
		{ .start = whole.start, .len_bytes = whole.len_bytes / 2 },
		{ .start = whole.start + whole.len_bytes / 2, .len_bytes = whole.len_bytes / 2, .node = 1 },
	};
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(halves, 2);
	struct pagemill_zone zone = { .size = sizeof zone };
	struct pagemill_list list = { .size = sizeof list };
	struct pagemill_vmstat vmstat = { .size = sizeof vmstat };
	struct pagemill_request request = { .size = sizeof request, .gfp = KERNEL, .node = 2, .order = 1 };
	pagemill_page pages[8] = { 0 };
	size_t nr_new = 0;
	void *metadata;

	config.flags = PAGEMILL_KERNEL_NO_ZONE_DMA32 | PAGEMILL_KERNEL_ZONE_DMA | PAGEMILL_KERNEL_PAGE_OWNER;
	config.min_free_bytes = 1 << 20;
	pagemill_allocator *frames = create(&table, &config, &metadata);
	uint64_t managed = 0, min = 0;
	for (size_t i = 0; pagemill_get_zone(frames, i, &zone); i++) {
		managed += zone.managed;
		min += zone.min;
	}
	CHECK(managed == NR_FRAMES && min >= 250 && min <= 256);
	CHECK(pagemill_alloc_request(frames, &request, 8, pages, &nr_new) == PAGEMILL_OK && nr_new == 8);
	for (size_t i = 0; i < 8; i++)
		CHECK(pagemill_page_pfn(pages[i]) >= FIRST_PFN + NR_FRAMES / 2);
	pagemill_free_pages_bulk(frames, 8, pages);
	CHECK(pagemill_get_list(frames, 0, &list) == 1 && list.cpu == 0 && list.high > 0);
	pagemill_drain(frames);
	pagemill_get_vmstat(frames, &vmstat);
	CHECK(vmstat.nr_free_pages == NR_FRAMES && vmstat.pgfree >= 16);
	destroy(frames, metadata);
}

static void refused(const struct pagemill_kernel_config *config, const char *why)
{
	static pagemill_allocator *const none = (pagemill_allocator *)(void *)&machine;
	struct pagemill_platform table = table_of(&machine);
	pagemill_allocator *frames = none;
	size_t size = 77, align = 77;
	char memory[1];

	message[0] = '\0';
	CHECK(pagemill_kernel_metadata_layout(&table, config, &size, &align) == PAGEMILL_ECONFIG);
	CHECK(size == 77 && align == 77);
	CHECK(pagemill_kernel_create(&table, config, memory, 1, &frames) == PAGEMILL_ECONFIG);
	CHECK(frames == none);
	if (config->message_size > 40 && !strstr(message, why)) {
		fprintf(stderr, "%s: %s\n", why, message);
		exit(1);
	}
}

static void wrong_configurations(void)
{
	const struct pagemill_region overlap[] = { whole, whole }, empty = { .start = 4096 };
	const struct pagemill_region odd = { .start = 4097, .len_bytes = 4096 };
	const struct pagemill_region far = { .start = 4096, .len_bytes = 4096, .node = 64 };
	const struct pagemill_region high = { .start = UINT64_MAX - 4095, .len_bytes = 4096 };
	struct pagemill_kernel_config config = config_of(NULL, 0);

	refused(&config, "the memory map is empty");
	config = config_of(overlap, 2);
	refused(&config, "overlap");
	config = config_of(&empty, 1);
	refused(&config, "has no bytes");
	config = config_of(&odd, 1);
	refused(&config, "multiple");
	config = config_of(&far, 1);
	refused(&config, "node");
	config = config_of(&high, 1);
	refused(&config, "0xff");
	/* A message that does not fit is cut off; no message is wanted. */
	memset(message, 'x', sizeof message);
	config.message_size = 10;
	refused(&config, "");
	CHECK(strlen(message) == 9 && message[10] == 'x');
	config.message = NULL;
	refused(&config, "");
}

static void wrong_metadata(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	pagemill_allocator *frames = NULL;
	size_t size, align;

	CHECK(pagemill_kernel_metadata_layout(&table, &config, &size, &align) == PAGEMILL_OK);
	CHECK(align >= 128 && (align & (align - 1)) == 0);
	size_t room = (size + 2 * align) / align * align;
	char *memory = aligned_alloc(align, room);
	CHECK(memory);
	memset(memory, 0x5a, room);
	CHECK(pagemill_kernel_create(&table, &config, memory, size - 1, &frames) == PAGEMILL_ECONFIG);
	CHECK(strstr(message, "bytes") && !frames);
	CHECK(pagemill_kernel_create(&table, &config, memory + align / 2, size, &frames) == PAGEMILL_ECONFIG);
	CHECK(strstr(message, "multiple") && !frames);
	for (size_t i = 0; i < room; i++)
		CHECK(memory[i] == 0x5a);
	CHECK(pagemill_kernel_create(&table, &config, memory, size, &frames) == PAGEMILL_OK);
	for (size_t i = size; i < room; i++)
		CHECK(memory[i] == 0x5a);
	pagemill_free_page(frames, pagemill_alloc_page(frames, KERNEL));
	destroy(frames, memory);
}

/* Metadata in the frames themselves is accepted only in frames that are reserved. */
static void metadata_in_a_region(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_region halves[] = { whole, whole };
	struct pagemill_range ranges[2];
	pagemill_allocator *frames = NULL;
	size_t size, align;

	halves[0].len_bytes = whole.len_bytes / 2;
	halves[1].start += whole.len_bytes / 2;
	halves[1].len_bytes = whole.len_bytes / 2;
	struct pagemill_kernel_config config = config_of(halves, 2);
	config.ranges = ranges;
	CHECK(pagemill_kernel_metadata_layout(&table, &config, &size, &align) == PAGEMILL_OK);
	CHECK(PAGEMILL_PAGE_SIZE % align == 0 && size > 2 * PAGEMILL_PAGE_SIZE);
	/* Frames before and behind those of the metadata; two of them are in the other region. */
	const uint64_t nr = (size + PAGEMILL_PAGE_SIZE - 1) / PAGEMILL_PAGE_SIZE, first = NR_FRAMES / 2 - 2;
	char *metadata = machine.memory + first * PAGEMILL_PAGE_SIZE;
	const uint64_t start = whole.start + first * PAGEMILL_PAGE_SIZE;

	memset(metadata, 0x5a, size);
	for (uint64_t missing = 0; missing < nr; missing++) {
		char frame[32];

		/* All but one of its frames are reserved. The ranges need not be in order. */
		ranges[1] = (struct pagemill_range){ start, missing * PAGEMILL_PAGE_SIZE };
		ranges[0] = (struct pagemill_range){ start + (missing + 1) * PAGEMILL_PAGE_SIZE,
		                                     (nr - missing - 1) * PAGEMILL_PAGE_SIZE };
		config.nr_ranges = 2;
		CHECK(pagemill_kernel_create(&table, &config, metadata, size, &frames) == PAGEMILL_ECONFIG);
		snprintf(frame, sizeof frame, "frame 0x%x,", (unsigned)(FIRST_PFN + first + missing));
		CHECK(strstr(message, frame) && strstr(message, "put the metadata in a range") && !frames);
	}
	for (size_t i = 0; i < size; i++)
		CHECK(metadata[i] == 0x5a);
	/* A range reserves each frame that it touches. */
	ranges[0] = (struct pagemill_range){ start, PAGEMILL_PAGE_SIZE + 1 };
	ranges[1] = (struct pagemill_range){ start + 2 * PAGEMILL_PAGE_SIZE, size - 2 * PAGEMILL_PAGE_SIZE };
	CHECK(pagemill_kernel_create(&table, &config, metadata, size, &frames) == PAGEMILL_OK);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES - nr);
	CHECK(pagemill_kernel_validate(frames, NULL, 0) == PAGEMILL_OK);
	CHECK(pagemill_kernel_destroy(frames) == PAGEMILL_OK);
}

/* The 65th allocator is refused; its metadata stays, and there is room again after an end. */
static void too_many(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	pagemill_allocator *all[64], *frames = NULL;
	void *metadata[64];
	size_t size, align;

	CHECK(pagemill_kernel_metadata_layout(&table, &config, &size, &align) == PAGEMILL_OK);
	char *more = aligned_alloc(align, (size + align - 1) / align * align);
	CHECK(more);
	memset(more, 0x5a, size);
	for (int i = 0; i < 64; i++)
		all[i] = create(&table, &config, &metadata[i]);
	CHECK(pagemill_kernel_create(&table, &config, more, size, &frames) == PAGEMILL_ECONFIG);
	CHECK(strstr(message, "64 allocators exist") && !frames);
	for (size_t i = 0; i < size; i++)
		CHECK(more[i] == 0x5a);
	destroy(all[17], metadata[17]);
	/* A creation that fails later takes no room. */
	config.min_free_bytes = UINT64_C(1) << 50;
	for (int i = 0; i < 3; i++)
		CHECK(pagemill_kernel_create(&table, &config, more, size, &frames) == PAGEMILL_ECONFIG);
	config.min_free_bytes = 0;
	CHECK(pagemill_kernel_create(&table, &config, more, size, &frames) == PAGEMILL_OK);
	CHECK(frames != all[17]);
	all[17] = frames;
	metadata[17] = more;
	for (int i = 0; i < 64; i++)
		destroy(all[i], metadata[i]);
}

/* The functions of the table that are optional. */

static struct {
	pagemill_allocator *frames;
	pagemill_page held;
	pthread_t thread;
	int nr_waits, nr_wakes, nr_zeroed, nr_events, nr_drains;
} hooks;

static void *frees(void *argument)
{
	(void)argument;
	pagemill_free_page(hooks.frames, hooks.held);
	return NULL;
}

static void waits(void *context, int (*still)(void *argument), void *argument)
{
	CHECK(context == &machine);
	if (hooks.nr_waits++ == 0) {
		CHECK(still(argument));
		CHECK(pthread_create(&hooks.thread, NULL, frees, NULL) == 0);
		CHECK(pthread_join(hooks.thread, NULL) == 0);
		CHECK(!still(argument));
	}
}

static void wakes(void *context)
{
	CHECK(context == &machine);
	hooks.nr_wakes++;
}

static void zeroes(void *context, uint64_t pfn, size_t nr)
{
	CHECK(context == &machine);
	memset(frame_address(context, pfn), 0, nr * PAGEMILL_PAGE_SIZE);
	hooks.nr_zeroed += (int)nr;
}

static void traces(void *context, const struct pagemill_event *event)
{
	CHECK(context == &machine);
	CHECK(strcmp(event->name, "") != 0);
	hooks.nr_events++;
	hooks.nr_drains += strcmp(event->name, "mm_page_pcpu_drain") == 0;
}

static void optional_functions(void)
{
	static pagemill_page pages[NR_FRAMES];
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_kernel_config config = config_of(&whole, 1);
	void *metadata;

	table.wait = waits;
	table.wake = wakes;
	table.zero_pages = zeroes;
	table.trace = traces;
	table.frame_address = NULL;
	table.pin = NULL;
	hooks.frames = create(&table, &config, &metadata);
	/* The library copied both. */
	memset(&table, 0, sizeof table);
	memset(&config, 0, sizeof config);
	pagemill_free_page(hooks.frames, pagemill_alloc_pages(hooks.frames, KERNEL | PAGEMILL_GFP_ZERO, 4));
	CHECK(hooks.nr_zeroed == 16);
	pagemill_free_page(hooks.frames, pagemill_alloc_page(hooks.frames, KERNEL));
	CHECK(pagemill_drain(hooks.frames) > 0);
	CHECK(hooks.nr_drains > 0 && hooks.nr_events > hooks.nr_drains);
	/* A request that waits gets the page that another thread frees meanwhile. */
	CHECK(pagemill_alloc_exactly(hooks.frames, KERNEL | PAGEMILL_GFP_MEMALLOC, NR_FRAMES, pages) == PAGEMILL_OK);
	hooks.held = pages[17];
	pages[17] = pagemill_alloc_page(hooks.frames, KERNEL | PAGEMILL_GFP_NOFAIL | PAGEMILL_GFP_MEMALLOC);
	CHECK(pages[17] && hooks.nr_waits > 0 && hooks.nr_wakes > 0);
	CHECK(pagemill_free_pages_bulk(hooks.frames, NR_FRAMES, pages) == NR_FRAMES);
	destroy(hooks.frames, metadata);
}

/* A stop callback cannot destroy the allocator of its request, even if no page is in use. */

static int nr_stops;

static int destroys(void *context)
{
	CHECK(pagemill_kernel_destroy(*(pagemill_allocator **)context) == PAGEMILL_EBUSY);
	nr_stops++;
	return 0;
}

static void destroyed_in_a_request(void)
{
	struct pagemill_platform table = table_of(&machine);
	struct pagemill_region small = whole;
	void *metadata;
	pagemill_page page = 0;
	struct pagemill_request request = { .size = sizeof request, .gfp = KERNEL, .order = 10, .stop = destroys };
	pagemill_allocator *frames;

	/* No block of this order is in 2 MiB. */
	small.len_bytes = 2 << 20;
	struct pagemill_kernel_config config = config_of(&small, 1);
	frames = create(&table, &config, &metadata);
	request.context = &frames;
	CHECK(pagemill_alloc_request(frames, &request, 1, &page, NULL) == PAGEMILL_ENOMEM);
	CHECK(nr_stops > 0 && page == 0);
	destroy(frames, metadata);
}

int main(void)
{
	make_machine(&machine);
	pages_and_blocks();
	all_of_memory();
	by_number();
	reserved_and_handed_in();
	views();
	wrong_configurations();
	wrong_metadata();
	metadata_in_a_region();
	too_many();
	optional_functions();
	destroyed_in_a_request();
	free(machine.memory);
	return 0;
}
