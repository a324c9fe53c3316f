/* The calls that ci/c.sh counts, from C. Arguments: OP NR ROUNDS; a round is count_alloc_OP and then
 * count_free_OP, for NR pages. examples/count.rs has the same calls from Rust. */
#include "check.h"

#define KERNEL PAGEMILL_GFP_KERNEL
#define MOVABLE (KERNEL | PAGEMILL_GFP_HARDWALL | PAGEMILL_GFP_HIGHMEM | PAGEMILL_GFP_MOVABLE)
/* A function by itself, so that the count of its instructions begins and ends. */
#define COUNTED __attribute__((noinline)) static void

static pagemill_page pages[512];
static pagemill_allocator *frames;
static pagemill_pool *pool;

COUNTED count_alloc_array(size_t nr)
{
	CHECK(pagemill_alloc_pages_bulk(frames, KERNEL, nr, pages) == nr);
}

COUNTED count_free_array(size_t nr)
{
	CHECK(pagemill_free_pages_bulk(frames, nr, pages) == nr);
}

COUNTED count_alloc_movable(size_t nr)
{
	CHECK(pagemill_alloc_pages_bulk(frames, MOVABLE, nr, pages) == nr);
}

COUNTED count_alloc_fill(size_t nr)
{
	CHECK(pagemill_fill(frames, KERNEL, nr, pages) == PAGEMILL_OK);
}

COUNTED count_alloc_exactly(size_t nr)
{
	CHECK(pagemill_alloc_exactly(frames, KERNEL, nr, pages) == PAGEMILL_OK);
}

COUNTED count_alloc_node1(size_t nr)
{
	struct pagemill_request request = { .size = sizeof request, .gfp = KERNEL, .node = 1 };

	CHECK(pagemill_alloc_request(frames, &request, nr, pages, NULL) == PAGEMILL_OK);
}

COUNTED count_alloc_node2(size_t nr)
{
	struct pagemill_request request = { .size = sizeof request, .gfp = KERNEL, .node = 2 };

	CHECK(pagemill_alloc_request(frames, &request, nr, pages, NULL) == PAGEMILL_OK);
}

COUNTED count_alloc_single(size_t nr)
{
	pages[nr - 1] = pagemill_alloc_page(frames, KERNEL);
	CHECK(pages[nr - 1]);
}

COUNTED count_free_single(size_t nr)
{
	pagemill_free_page(frames, pages[nr - 1]);
	pages[nr - 1] = 0;
}

COUNTED count_alloc_pool(size_t nr)
{
	pages[nr - 1] = pagemill_pool_alloc(pool);
	CHECK(pages[nr - 1]);
}

COUNTED count_free_pool(size_t nr)
{
	pagemill_pool_put(pool, pages[nr - 1]);
	pages[nr - 1] = 0;
}

static const struct op {
	const char *name;
	void (*alloc)(size_t nr), (*free)(size_t nr);
	uint64_t movable_bytes;
	uint32_t nr_nodes;
} ops[] = {
	{ "array", count_alloc_array, count_free_array, 0, 1 },
	{ "movable", count_alloc_movable, count_free_array, 256 << 20, 1 },
	{ "node1", count_alloc_node1, count_free_array, 0, 2 },
	{ "node2", count_alloc_node2, count_free_array, 0, 2 },
	{ "fill", count_alloc_fill, count_free_array, 0, 1 },
	{ "exactly", count_alloc_exactly, count_free_array, 0, 1 },
	{ "single", count_alloc_single, count_free_single, 0, 1 },
	{ "pool", count_alloc_pool, count_free_pool, 0, 1 },
};

int main(int argc, char **argv)
{
	const struct op *op = ops;

	CHECK(argc == 4);
	while (strcmp(op->name, argv[1]) != 0)
		CHECK(++op < ops + sizeof ops / sizeof *ops);
	size_t nr = strtoul(argv[2], NULL, 10), rounds = strtoul(argv[3], NULL, 10);
	CHECK(nr >= 1 && nr <= 512);
	struct pagemill_config config = {
		.size = sizeof config, .len_bytes = 1 << 30, .movable_bytes = op->movable_bytes,
		.nr_nodes = op->nr_nodes,
	};
	CHECK(pagemill_create_with(&config, &frames) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(frames, NULL, &pool) == PAGEMILL_OK);
	for (size_t round = 0; round < rounds; round++) {
		op->alloc(nr);
		op->free(nr);
	}
	return 0;
}
