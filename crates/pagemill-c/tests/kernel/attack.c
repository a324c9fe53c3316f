/* Random calls of a kernel: see attack.h. */
#include "table.h"

/* Not pagemill_: a double free that is found late names no function. */
#define LINE "pagemill: "
#include "../c/attack.h"

static struct machine machine;
static uint64_t pfns[NR_PAGES + 1];

static void **other_handles(void)
{
	static void *others[NR_HANDLES] = { pfns, &machine, message };

	return others;
}

static void set_up(void)
{
	const struct pagemill_range range = { whole.start + (1 << 20), 256 << PAGEMILL_PAGE_SHIFT };
	struct pagemill_platform table;
	struct pagemill_kernel_config config = config_of(&whole, 1);
	void *metadata;

	make_machine(&machine);
	table = table_of(&machine);
	config.ranges = &range;
	config.nr_ranges = 1;
	config.flags = seed & 1 ? PAGEMILL_KERNEL_PAGE_OWNER : 0;
	for (int i = 0; i < NR_HANDLES; i++)
		allocators[i] = i == 0 ? create(&table, &config, &metadata) : allocators[0];
}

static uint64_t pfn(uint64_t right)
{
	return is_wrong() ? any() >> below(64) : right;
}

static void other_call(size_t first, size_t nr)
{
	uint64_t *at = pointer(&pfns[first], 8);
	pagemill_allocator *frames = ALLOCATOR;
	size_t got;

	switch (below(50)) {
	case 0:
		pagemill_kernel_hand_in(frames, pfn(FIRST_PFN + 256 + below(256)), is_wrong() ? amount() : 1);
		break;
	case 1:
		pagemill_kernel_validate(frames, pointer(message, 8), is_wrong() ? 1 : sizeof message);
		break;
	case 2:
		pagemill_kernel_destroy(frames);
		break;
	case 3: case 4: case 5: case 6: case 7: case 8: case 9:
		if (pages[first] != 0) {
			pagemill_page_address(frames, page(pages[first]));
			pages[first] = pagemill_kernel_page_of_pfn(frames, pfn(pagemill_page_pfn(pages[first])),
			                                           pagemill_page_order(pages[first]));
		}
		break;
	case 10: case 11: case 12: case 13: case 14: case 15: case 16:
		if (pages[first] != 0) {
			got = (size_t)1 << pagemill_page_order(pages[first]);
			pagemill_kernel_free_pfn_range(frames, pfn(pagemill_page_pfn(pages[first])),
			                               is_wrong() ? amount() : got);
			pages[first] = 0;
		}
		break;
	default:
		got = pagemill_kernel_alloc_pfns_bulk(frames, gfp(), nr, at);
		if (got != 0 && is_wrong())
			pfns[first] = pfn(pfns[below(NR_PAGES)]);
		pagemill_kernel_free_pfns(frames, is_wrong() ? nr_from(first) : got, at);
	}
}
