/* The layout of the structures of pagemill_kernel.h. src/kernel/types.rs states the same. */
#include <pagemill_kernel.h>

#define OFFSET(type, field, value) \
	_Static_assert(offsetof(struct pagemill_##type, field) == (value), #type "." #field)
#define SIZE(type, value) _Static_assert(sizeof(struct pagemill_##type) == (value), #type)

SIZE(platform, 112);
OFFSET(platform, context, 8);
OFFSET(platform, fatal, 16);
OFFSET(platform, nr_cpus, 24);
OFFSET(platform, irq_save, 32);
OFFSET(platform, irq_restore, 40);
OFFSET(platform, pin, 48);
OFFSET(platform, unpin, 56);
OFFSET(platform, frame_address, 64);
OFFSET(platform, zero_pages, 72);
OFFSET(platform, relax, 80);
OFFSET(platform, wait, 88);
OFFSET(platform, wake, 96);
OFFSET(platform, trace, 104);
SIZE(kernel_config, 72);
OFFSET(kernel_config, regions, 8);
OFFSET(kernel_config, nr_regions, 16);
OFFSET(kernel_config, ranges, 24);
OFFSET(kernel_config, nr_ranges, 32);
OFFSET(kernel_config, message, 40);
OFFSET(kernel_config, message_size, 48);
OFFSET(kernel_config, min_free_bytes, 56);
OFFSET(kernel_config, flags, 64);
SIZE(region, 24);
OFFSET(region, len_bytes, 8);
OFFSET(region, node, 16);
SIZE(range, 16);
OFFSET(range, len_bytes, 8);
SIZE(event, 32);
OFFSET(event, nr_pages, 8);
OFFSET(event, pfn, 16);
OFFSET(event, gfp, 24);
OFFSET(event, order, 28);

int main(void)
{
	return 0;
}
