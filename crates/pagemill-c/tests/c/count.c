/* The hot paths from C, and nothing else: for counting instructions. Arguments as for hot_path, the example
 * of pagemill-host: OP N ROUNDS. */
#include "check.h"

int main(int argc, char **argv)
{
	static pagemill_page pages[512];
	pagemill_allocator *frames;
	pagemill_pool *pool;

	CHECK(argc == 4);
	size_t nr = strtoul(argv[2], NULL, 10), rounds = strtoul(argv[3], NULL, 10);
	CHECK(nr <= 512 && pagemill_create(1 << 30, &frames) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(frames, NULL, &pool) == PAGEMILL_OK);
	for (size_t round = 0; round < rounds; round++) {
		switch (argv[1][0]) {
		case 'a': /* array */
			pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, nr, pages);
			pagemill_free_pages_bulk(frames, nr, pages);
			break;
		case 's': /* single */
			pagemill_free_page(frames, pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL));
			break;
		default: /* pool */
			pagemill_pool_put(pool, pagemill_pool_alloc(pool));
		}
	}
	return 0;
}
