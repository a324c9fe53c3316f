/* A kernel in C whose only allocator is pagemill: it boots under QEMU, allocates, prints, and powers off. */
#include <pagemill_kernel.h>

#define MIB ((uint64_t)1 << 20)
/* The end of what boot.s maps, at its own addresses. */
#define MAPPED_END (1024 * MIB)
#define NR_REGIONS_MAX 32
#define NR_PAGES 64

/* 1. The console and the end. */

static void out(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void print(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		out(0x3f8, (uint8_t)text[i]); /* QEMU's COM1, which needs no setup */
}

static void print_text(const char *text)
{
	while (*text)
		print(text++, 1);
}

static void print_number(uint64_t number)
{
	char digits[20];
	size_t first = sizeof digits;

	do
		digits[--first] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	print(digits + first, sizeof digits - first);
}

/* Ends QEMU by its device isa-debug-exit, with the status 2 * code + 1. */
static void end(uint8_t code)
{
	out(0xf4, code);
	for (;;)
		__asm__ volatile("hlt");
}

/* The end after a wrong call, or after a contradiction that the allocator found. */
static void fatal(const char *line, size_t length)
{
	print(line, length);
	print_text("\n");
	end(17);
}

static void check(int is_right, const char *what)
{
	if (is_right)
		return;
	print_text("failed: ");
	print_text(what);
	print_text("\n");
	end(18);
}

/* 2. The machine. */

static size_t irq_save(void *context)
{
	size_t flags;

	(void)context;
	__asm__ volatile("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
	return flags;
}

static void irq_restore(void *context, size_t flags)
{
	(void)context;
	if (flags & 0x200)
		__asm__ volatile("sti" : : : "memory");
}

/* This machine has one CPU and no preemption. Otherwise: turn preemption off and return the CPU's number. */
static uint32_t pin(void *context)
{
	(void)context;
	return 0;
}

static void *frame_address(void *context, uint64_t pfn)
{
	(void)context;
	return (void *)(pfn << PAGEMILL_PAGE_SHIFT);
}

static const struct pagemill_platform platform = {
	.size = sizeof platform,
	.fatal = fatal,
	.nr_cpus = 1,
	.irq_save = irq_save,
	.irq_restore = irq_restore,
	.pin = pin,
	.frame_address = frame_address,
};

/* 3. The memory map of the loader: hvm_start_info and hvm_memmap_table_entry of PVH. */

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, command_line, rsdp, map;
	uint32_t nr_entries, reserved;
};

struct entry {
	uint64_t start, len_bytes;
	uint32_t kind, reserved;
};

static size_t read_map(const struct start_info *info, struct pagemill_region *regions)
{
	const struct entry *entries = (const struct entry *)info->map;
	size_t nr = 0;

	for (uint32_t i = 0; i < info->nr_entries && nr < NR_REGIONS_MAX; i++) {
		uint64_t first = (entries[i].start + 4095) / 4096;
		uint64_t end = entries[i].start + entries[i].len_bytes;

		end = (end < MAPPED_END ? end : MAPPED_END) / 4096;
		if (entries[i].kind == 1 && first < end)
			regions[nr++] = (struct pagemill_region){
				.start = first * 4096,
				.len_bytes = (end - first) * 4096,
			};
	}
	return nr;
}

/* 4. The allocator, whose metadata is behind the image, in memory that it manages. */

extern char __executable_start[], _end[]; /* of the linker */

static pagemill_allocator *create(const struct start_info *info)
{
	static struct pagemill_region regions[NR_REGIONS_MAX];
	static char message[256];
	pagemill_allocator *frames = NULL;
	size_t size = 0, align = 0;
	uint64_t image = (uint64_t)__executable_start, image_end = (uint64_t)_end;
	/* The map calls memory usable that is in use: the first MiB has the start info and the map. */
	struct pagemill_range ranges[] = { { 0, MIB }, { image, image_end - image } };
	struct pagemill_kernel_config config = {
		.size = sizeof config,
		.regions = regions,
		.nr_regions = read_map(info, regions),
		.ranges = ranges,
		.nr_ranges = 2,
		.message = message,
		.message_size = sizeof message,
	};

	check(!pagemill_kernel_metadata_layout(&platform, &config, &size, &align), message);
	uint64_t metadata = (image_end + align - 1) / align * align;
	/* Reserving the metadata does not change its size. */
	ranges[1].len_bytes = metadata + size - image;
	check(!pagemill_kernel_create(&platform, &config, (void *)metadata, size, &frames), message);
	return frames;
}

/* 5. What the kernel does with it. */

/* Ticks of the time stamp counter; under QEMU's -icount shift=0, instructions. */
static uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static void measure(pagemill_allocator *frames)
{
	pagemill_page pages[NR_PAGES] = { 0 };
	uint64_t allocating = 0, freeing = 0;

	/* Not the first rounds, which fill the lists. */
	for (int round = 0; round < 24; round++) {
		uint64_t start = ticks();
		size_t nr = pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, NR_PAGES, pages);
		uint64_t middle = ticks();

		check(nr == NR_PAGES, "memory is free");
		pagemill_free_pages_bulk(frames, NR_PAGES, pages);
		if (round >= 8) {
			allocating += middle - start;
			freeing += ticks() - middle;
		}
	}
	print_text("64 pages in one call: ");
	print_number(allocating / 16);
	print_text(" ticks to allocate, ");
	print_number(freeing / 16);
	print_text(" to free\n");
}

void kernel_main(const struct start_info *info)
{
	pagemill_page pages[NR_PAGES] = { 0 }, first = 0;
	pagemill_allocator *frames = create(info);
	uint64_t nr_free = pagemill_nr_free_pages(frames);
	size_t nr;

	print_number(nr_free);
	print_text(" free pages\n");

	/* 64 pages in one call; each is memory, and filled with zeroes. */
	nr = pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_ZERO, NR_PAGES, pages);
	for (size_t i = 0; i < nr; i++) {
		char *bytes = pagemill_page_address(frames, pages[i]);

		check(bytes[0] == 0 && bytes[PAGEMILL_PAGE_SIZE - 1] == 0, "pages are filled with zeroes");
		bytes[0] = 1;
	}
	check(pagemill_free_pages_bulk(frames, NR_PAGES, pages) == nr, "all pages are freed");
	print_number(nr);
	print_text(" pages allocated in one call, and freed in another\n");

	/* A block of 2 MiB, aligned to its size; 257 pages in one piece, below 16 MiB, for a device. */
	pagemill_page block = pagemill_alloc_pages(frames, PAGEMILL_GFP_KERNEL, 9);

	check(block && pagemill_page_pfn(block) % 512 == 0, "memory is free");
	check(!pagemill_alloc_contig(frames, PAGEMILL_GFP_KERNEL, 257, 1, 16 * MIB, &first), "low memory is free");
	pagemill_free_contig(frames, first, 257);
	pagemill_free_page(frames, block);

	/* A page as a number, for a page table entry. */
	uint64_t pfn = pagemill_page_pfn(pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL));

	pagemill_kernel_free_pfn_range(frames, pfn, 1);

	/* A part of the first MiB, which this kernel needs no more. */
	check(!pagemill_kernel_hand_in(frames, 16, 64), "the frames are reserved");
	nr_free += 64;

	measure(frames);
	pagemill_drain(frames);
	check(!pagemill_kernel_validate(frames, NULL, 0), "the data agree");
	check(pagemill_nr_free_pages(frames) == nr_free, "all pages are free");
	print_text("all pages are free again\n");
	end(16);
}
