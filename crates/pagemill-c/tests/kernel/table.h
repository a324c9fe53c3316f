/* A kernel in a process: a table over memory of the C library. What the tests of the kernel's library share. */
#ifndef TABLE_H
#define TABLE_H

#include <pagemill_kernel.h>
#include <unistd.h>

#include "../c/check.h"

#define KERNEL PAGEMILL_GFP_KERNEL
/* The frames: 32 MiB, from 2 MiB on. */
#define FIRST_PFN 512u
#define NR_FRAMES 8192u

/* The context of the table: the memory of the frames. */
struct machine {
	char *memory;
};

static inline void fatal(const char *line, size_t length)
{
	if (write(2, line, length) < 0 || write(2, "\n", 1) < 0)
		_exit(9);
	abort();
}

/* How often this thread turned interrupts off, and did not yet restore them. */
static __thread size_t nr_irq_saves, nr_irq_off;

static inline size_t irq_save(void *context)
{
	(void)context;
	nr_irq_saves++;
	return ++nr_irq_off;
}

static inline void irq_restore(void *context, size_t state)
{
	(void)context;
	CHECK(state == nr_irq_off--);
}

static inline uint32_t pin(void *context)
{
	(void)context;
	return 0;
}

static inline void *frame_address(void *context, uint64_t pfn)
{
	struct machine *machine = context;

	CHECK(pfn >= FIRST_PFN && pfn < FIRST_PFN + NR_FRAMES);
	return machine->memory + (pfn - FIRST_PFN) * PAGEMILL_PAGE_SIZE;
}

static inline void make_machine(struct machine *machine)
{
	machine->memory = aligned_alloc(PAGEMILL_PAGE_SIZE, (size_t)NR_FRAMES * PAGEMILL_PAGE_SIZE);
	CHECK(machine->memory);
}

static inline struct pagemill_platform table_of(struct machine *machine)
{
	struct pagemill_platform table = {
		.size = sizeof table, .context = machine, .fatal = fatal, .nr_cpus = 1, .irq_save = irq_save,
		.irq_restore = irq_restore, .pin = pin, .frame_address = frame_address,
	};
	return table;
}

static const struct pagemill_region whole = {
	.start = (uint64_t)FIRST_PFN * PAGEMILL_PAGE_SIZE,
	.len_bytes = (uint64_t)NR_FRAMES * PAGEMILL_PAGE_SIZE,
};

static char message[256];

static inline struct pagemill_kernel_config config_of(const struct pagemill_region *regions, size_t nr)
{
	struct pagemill_kernel_config config = {
		.size = sizeof config, .regions = regions, .nr_regions = nr, .message = message,
		.message_size = sizeof message,
	};
	return config;
}

/* Creates an allocator; its metadata, which the caller frees, is stored in *metadata. */
static inline pagemill_allocator *create(const struct pagemill_platform *table,
                                         const struct pagemill_kernel_config *config, void **metadata)
{
	pagemill_allocator *frames;
	size_t size, align;

	CHECK(pagemill_kernel_metadata_layout(table, config, &size, &align) == PAGEMILL_OK);
	*metadata = aligned_alloc(align, (size + align - 1) / align * align);
	CHECK(*metadata);
	CHECK(pagemill_kernel_create(table, config, *metadata, size, &frames) == PAGEMILL_OK);
	return frames;
}

#endif
