/* Wrong calls: each passes one line to fatal, which names the function and the value, and never returns.
 * Each case runs in a child. */
#include "table.h"

#include "../c/dies.h"

static struct machine machine;
static struct pagemill_platform table;
static struct pagemill_kernel_config config;
static pagemill_allocator *frames, *destroyed;
static pagemill_page pages[64], one;
static uint64_t pfns[4];
static size_t size, align;
static void *metadata;

static void set_up(void)
{
	make_machine(&machine);
	table = table_of(&machine);
	config = config_of(&whole, 1);
	destroyed = create(&table, &config, &metadata);
	CHECK(pagemill_kernel_destroy(destroyed) == PAGEMILL_OK);
	frames = create(&table, &config, &metadata);
	one = pagemill_alloc_page(frames, KERNEL);
	CHECK(one);
	CHECK(pagemill_kernel_metadata_layout(&table, &config, &size, &align) == PAGEMILL_OK);
}

static void free_twice(void)
{
	for (int i = 0; i < 3000; i++)
		pagemill_free_page(frames, one);
	pagemill_drain(frames);
}

static pagemill_allocator *with_owners(void)
{
	config.flags = PAGEMILL_KERNEL_PAGE_OWNER;
	return create(&table, &config, &metadata);
}

static void free_twice_with_owners(void)
{
	pagemill_allocator *checked = with_owners();

	one = pagemill_alloc_page(checked, KERNEL);
	pagemill_free_page(checked, one);
	pagemill_free_page(checked, one);
}

static void free_number_twice_with_owners(void)
{
	pagemill_allocator *checked = with_owners();

	pfns[0] = pagemill_page_pfn(pagemill_alloc_page(checked, KERNEL));
	pagemill_kernel_free_pfn_range(checked, pfns[0], 1);
	pagemill_kernel_free_pfns(checked, 1, pfns);
}

static void free_one_number_twice_in_an_array(void)
{
	pagemill_allocator *checked = with_owners();

	CHECK(pagemill_kernel_alloc_pfns_bulk(checked, KERNEL, 4, pfns) == 4);
	pfns[3] = pfns[1];
	pagemill_kernel_free_pfns(checked, 4, pfns);
}

static void free_range_twice_with_owners(void)
{
	pagemill_allocator *checked = with_owners();

	CHECK(pagemill_alloc_contig(checked, KERNEL, 10, 1, 0, &one) == PAGEMILL_OK);
	pagemill_free_page(checked, one + 9);
	pagemill_kernel_free_pfn_range(checked, pagemill_page_pfn(one), 10);
}

static void page_of_a_free_pfn_with_owners(void)
{
	pagemill_kernel_page_of_pfn(with_owners(), FIRST_PFN + 100, 0);
}

static void free_reserved(void)
{
	const struct pagemill_range range = { whole.start, 8192 };

	config.ranges = &range;
	config.nr_ranges = 1;
	pagemill_kernel_free_pfn_range(create(&table, &config, &metadata), FIRST_PFN, 1);
}

#define CREATE pagemill_kernel_create(&table, &config, metadata, size, &frames)
#define LAYOUT pagemill_kernel_metadata_layout(&table, &config, &size, &align)
#define ODD(pointer) ((void *)((char *)(pointer) + 1))

/* A statement, and what the line contains. */
#define CASES(X)                                                                                              \
	X(pagemill_kernel_create(NULL, &config, metadata, size, &frames), "create: platform 0x0; allowed is") \
	X(pagemill_kernel_create(ODD(&table), &config, metadata, size, &frames), "create: platform 0x")       \
	X((table.size = 0, CREATE), "platform has the size 0; set the field size to sizeof, which is 112")    \
	X((table.size = 8, CREATE), "platform has the size 8;")                                               \
	X((table.size = SIZE_MAX, CREATE), "platform has the size 18446744073709551615")                      \
	X((table.size = 16, CREATE), "platform.fatal is null; it is required")                                \
	X((table.size = 32, CREATE), "platform.irq_save or irq_restore is null; both are required")           \
	X((table.fatal = NULL, CREATE), "platform.fatal is null; it is required")                             \
	X((table.fatal = NULL, LAYOUT), "layout: platform.fatal is null; it is required")                     \
	X((table.irq_save = NULL, CREATE), "platform.irq_save or irq_restore is null")                        \
	X((table.irq_restore = NULL, LAYOUT), "platform.irq_save or irq_restore is null")                     \
	X((table.nr_cpus = 0, CREATE), "platform.nr_cpus is 0; allowed")                                      \
	X((table.nr_cpus = 2, table.pin = NULL, CREATE), "platform.pin is null; it is required")              \
	X((table.unpin = table.wake = (void (*)(void *))set_up, table.pin = NULL, CREATE), "platform.unpin")  \
	X((table.frame_address = NULL, CREATE), "platform.frame_address and zero_pages are null")             \
	X((table.wake = (void (*)(void *))set_up, CREATE), "platform.wait or wake is null; set both")         \
	X(pagemill_kernel_create(&table, NULL, metadata, size, &frames), "create: config 0x0; allowed")       \
	X((config.size = 1, CREATE), "config has the size 1; set the field size to sizeof, which is 72")      \
	X((config.flags = 8, CREATE), "create: config.flags 0x8; allowed are the bits of 0x7")                \
	X((config.regions = NULL, CREATE), "config.regions 0x0; allowed is an aligned array of 1")            \
	X((config.regions = ODD(&whole), CREATE), "config.regions 0x")                                        \
	X((config.nr_regions = SIZE_MAX, CREATE), "config.nr_regions 18446744073709551615; allowed are 0 to") \
	X((config.nr_ranges = 70000, CREATE), "config.nr_ranges 70000; allowed are 0 to 65536")               \
	X((config.nr_ranges = 1, CREATE), "config.ranges 0x0; allowed")                                       \
	X(pagemill_kernel_create(&table, &config, NULL, size, &frames), "create: metadata is null")           \
	X(pagemill_kernel_create(&table, &config, metadata, size, NULL), "create: allocator 0x0; allowed is") \
	X(pagemill_kernel_create(&table, &config, metadata, size, ODD(&frames)), "create: allocator 0x")      \
	X(pagemill_kernel_metadata_layout(&table, &config, NULL, &align), "layout: size 0x0; allowed is")     \
	X(pagemill_kernel_metadata_layout(&table, &config, &size, ODD(&align)), "layout: align 0x")           \
	X((table.reserved = 5, CREATE), "create: platform.reserved 5; allowed is 0")                          \
	X((table.reserved = 1u << 31, LAYOUT), "layout: platform.reserved 2147483648; allowed is 0")          \
	X((config.reserved = 7, CREATE), "create: config.reserved 7; allowed is 0")                           \
	X(pagemill_alloc_page(NULL, KERNEL), "pagemill_alloc_page: allocator 0x0 is null")                    \
	X(pagemill_alloc_page(destroyed, KERNEL), "was destroyed")                                            \
	X(pagemill_kernel_destroy(destroyed), "pagemill_kernel_destroy: allocator 0x")                        \
	X(pagemill_kernel_validate(destroyed, NULL, 0), "pagemill_kernel_validate: allocator 0x")             \
	X(pagemill_kernel_hand_in(NULL, 0, 0), "pagemill_kernel_hand_in: allocator 0x0 is null")              \
	X(pagemill_alloc_page(metadata, KERNEL), "was not returned by pagemill_kernel_create")                \
	X(pagemill_alloc_page(frames, 1u << 31), "flags 0x80000000 have unknown bits 0x80000000")             \
	X(pagemill_alloc_pages(frames, KERNEL, 11), "pagemill_alloc_pages: order 11; allowed are 0 to 10")    \
	X(pagemill_alloc_pages_bulk(frames, KERNEL, 64, NULL), "pages 0x0; allowed is an aligned array")      \
	X(pagemill_alloc_pages_bulk(frames, KERNEL, SIZE_MAX, pages), "nr 18446744073709551615; allowed")     \
	X(pagemill_free_pages_bulk(frames, 2, ODD(pages)), "pagemill_free_pages_bulk: pages 0x")              \
	X(pagemill_free_page(frames, 5), "pagemill_free_page: page 0x5 is not a page")                        \
	X(pagemill_free_page(frames, one + NR_FRAMES), "is not in the zone")                                  \
	X(free_twice(), "double free")                                                                        \
	X(free_twice_with_owners(), "pagemill: pagemill_free_page: frame 0x")                                 \
	X(free_number_twice_with_owners(), "pagemill_kernel_free_pfns: frame 0x")                             \
	X(free_one_number_twice_in_an_array(), "pagemill_kernel_free_pfns: frame 0x")                         \
	X(free_range_twice_with_owners(), "pagemill_kernel_free_pfn_range: frame 0x")                         \
	X(page_of_a_free_pfn_with_owners(), "pagemill_kernel_page_of_pfn: frame 0x")                          \
	X((table.frame_address = NULL, table.zero_pages = (void (*)(void *, uint64_t, size_t))set_up,         \
	   pagemill_page_address(create(&table, &config, &metadata), one)), "platform.frame_address is null") \
	X(pagemill_page_address(frames, 0), "pagemill_page_address: page 0x0 is not a page")                  \
	X(pagemill_kernel_page_of_pfn(frames, UINT64_MAX, 0), "page_of_pfn: pfn 0xffffffffffffffff; allowed") \
	X(pagemill_kernel_page_of_pfn(frames, 5, 0), "page_of_pfn: frame 0x5 is not in the allocator's")      \
	X(pagemill_kernel_page_of_pfn(frames, FIRST_PFN + 1, 1), "begins no block of order 1")                \
	X(pagemill_kernel_page_of_pfn(frames, FIRST_PFN, 11), "page_of_pfn: order 11")                        \
	X(pagemill_kernel_alloc_pfns_bulk(frames, KERNEL, 3, NULL), "alloc_pfns_bulk: pfns 0x0; allowed is")  \
	X(pagemill_kernel_alloc_pfns_bulk(frames, KERNEL, SIZE_MAX, pfns), "alloc_pfns_bulk: nr 18446744")    \
	X(pagemill_kernel_alloc_pfns_bulk(frames, 1u << 30, 1, pfns), "flags 0x40000000")                     \
	X(pagemill_kernel_free_pfns(frames, 4, pfns), "free_pfns: frame 0x0 is not in the allocator's")       \
	X(pagemill_kernel_free_pfns(frames, 1, ODD(pfns)), "free_pfns: pfns 0x")                              \
	X((pfns[0] = UINT64_MAX, pagemill_kernel_free_pfns(frames, 1, pfns)), "free_pfns: pfn 0xffffffffff")  \
	X(pagemill_kernel_free_pfn_range(frames, UINT64_MAX, 1), "free_pfn_range: pfn 0xffffffffffffffff")    \
	X(pagemill_kernel_free_pfn_range(frames, FIRST_PFN, SIZE_MAX), "free_pfn_range: frame 0x")            \
	X(pagemill_kernel_free_pfn_range(frames, 1, 1), "frame 0x1 is not in the allocator's memory map")     \
	X(free_reserved(), "frame 0x200 is reserved; allowed are frames that pagemill_kernel")                \
	X(pagemill_kernel_hand_in(frames, UINT64_MAX, 1), "pagemill_kernel_hand_in: pfn 0xffffffffffffffff")

RUN_CASES(CASES)

/* Runs a call in a child that has passed no table, and returns the signal that ended it. */
static int before_the_first_table(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		pagemill_alloc_page(NULL, KERNEL);
		_exit(3);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void expects_size(const char *line, size_t length)
{
	static const char start[] = "pagemill: pagemill_kernel_create: platform has the size 0;";

	_exit(length >= sizeof start - 1 && memcmp(line, start, sizeof start - 1) == 0 ? 7 : 8);
}

/* The first table has a wrong size: its fatal gets the line. Returns the exit status of the child. */
static int wrong_size_of_the_first_table(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		table = (struct pagemill_platform){ .size = 0, .fatal = expects_size };
		(void)CREATE;
		_exit(3);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static void returns(const char *line, size_t length)
{
	(void)line;
	(void)length;
}

/* A fatal that returns: the call raises an exception and never returns. Returns the signal. */
static int after_fatal_returned(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		set_up();
		table.fatal = returns;
		(void)LAYOUT;
		alarm(60);
		pagemill_alloc_page(NULL, KERNEL);
		_exit(3);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int main(void)
{
	CHECK(before_the_first_table() == SIGILL);
	CHECK(after_fatal_returned() == SIGILL);
	CHECK(wrong_size_of_the_first_table() == 7);
	return all_cases_die("pagemill: ");
}
