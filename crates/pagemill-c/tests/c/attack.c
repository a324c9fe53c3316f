/* Random calls of a process: see attack.h. */
#define LINE "pagemill: pagemill_"
#include "attack.h"

static pagemill_pool *pools[NR_HANDLES];
static pagemill_page pooled[NR_PAGES + 1];

#define POOL ((pagemill_pool *)handle((void **)pools, (void **)allocators))

static void **other_handles(void)
{
	return (void **)pools;
}

static void create(void)
{
	struct pagemill_config *config = structure(sizeof *config);

	if (config == (void *)room) {
		config->len_bytes = is_wrong() ? any() >> below(64) : (uint64_t)(1 + below(8)) << 22;
		config->movable_bytes = below(3) ? 0 : (uint64_t)below(3) << 22;
		config->min_free_bytes = below(3) ? 0 : any() >> (40 + below(20));
		config->nr_nodes = small(3);
		config->nr_cpus = (uint32_t)below(4);
		/* Owners, poison, a memfd; not what asks for memory that the machine may lack. */
		config->flags = (uint32_t)below(4) | (below(4) ? 0 : PAGEMILL_CONFIG_MEMFD);
	}
	pagemill_create_with(config, pointer(&allocators[below(NR_HANDLES)], 8));
}

static void pool_call(size_t first, size_t nr)
{
	struct pagemill_pool_params *params;
	pagemill_page *at = pointer(&pooled[first], 8);

	switch (below(8)) {
	case 0:
		if (below(50))
			break;
		params = structure(sizeof *params);
		if (params == (void *)room) {
			params->ring_size = small(100);
			params->refill = small(64);
		}
		pagemill_pool_create(ALLOCATOR, params, pointer(&pools[below(NR_HANDLES)], 8));
		break;
	case 1:
		if (below(100) == 0)
			pagemill_pool_destroy(POOL);
		break;
	case 2:
		pooled[first] = pagemill_pool_alloc(POOL);
		break;
	case 3:
		pagemill_pool_alloc_bulk(POOL, nr, at);
		break;
	case 4:
		pagemill_pool_put(POOL, page(is_wrong() ? pages[first] : pooled[first]));
		pooled[first] = 0;
		break;
	case 5:
		pagemill_pool_return(POOL, nr, at);
		break;
	case 6:
		pagemill_pool_adopt(POOL);
		break;
	default:
		pagemill_pool_get_stats(POOL, structure(sizeof(struct pagemill_pool_stats)));
	}
}

static void by_address(size_t first)
{
	pagemill_allocator *frames = ALLOCATOR;
	char *address;

	if (pages[first] == 0)
		return;
	address = pagemill_page_address(frames, page(pages[first]));
	address = is_wrong() ? (char *)(uintptr_t)any() : address;
	if (below(2))
		pages[first] = pagemill_page_at(frames, address, pagemill_page_order(pages[first]));
	else
		pagemill_free_at(frames, address, is_wrong() ? amount() : 1), pages[first] = 0;
}

static void other_call(size_t first, size_t nr)
{
	switch (below(100)) {
	case 0:
		create();
		break;
	case 1:
		pagemill_destroy(ALLOCATOR);
		break;
	case 2:
		CHECK(pagemill_last_error());
		break;
	default:
		if (below(3))
			pool_call(first, nr);
		else
			by_address(first);
	}
}

static void set_up(void)
{
	for (int i = 0; i < NR_HANDLES; i++) {
		struct pagemill_config config = {
			.size = sizeof config, .len_bytes = 32 << 20, .movable_bytes = 8 << 20, .nr_nodes = 1 + (i & 1),
			.flags = seed & 1 ? PAGEMILL_CONFIG_PAGE_OWNER : 0,
		};
		/* Of most sequences, one allocator, so that pages mostly return to the right one. */
		if (i == 0 || below(20) == 0)
			CHECK(pagemill_create_with(&config, &allocators[i]) == PAGEMILL_OK);
		else
			allocators[i] = allocators[0];
		CHECK(pagemill_pool_create(allocators[i], NULL, &pools[i]) == PAGEMILL_OK);
	}
}
