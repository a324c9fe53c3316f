/* Wrong calls: each ends the process with SIGABRT and one line that names the function and the value.
 * Each case runs in a child. */
#include <pthread.h>

#include "check.h"
#include "dies.h"

#define KERNEL PAGEMILL_GFP_KERNEL

static pagemill_allocator *frames, *other, *destroyed;
static pagemill_pool *pool;
static pagemill_page pages[64], one;

static void set_up(void)
{
	CHECK(pagemill_create(16 << 20, &destroyed) == PAGEMILL_OK);
	CHECK(pagemill_destroy(destroyed) == PAGEMILL_OK);
	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	CHECK(pagemill_create(64 << 20, &other) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(frames, NULL, &pool) == PAGEMILL_OK);
	CHECK(pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 64, pages) == 64);
	one = pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL);
	CHECK(one != 0);
}

static void *takes(void *argument)
{
	(void)argument;
	pagemill_pool_alloc(pool);
	return NULL;
}

static void from_another_thread(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, takes, NULL) == 0);
	pthread_join(thread, NULL);
}

static void free_twice(void)
{
	for (int i = 0; i < 3000; i++)
		pagemill_free_page(frames, one);
	pagemill_drain(frames);
}

static pagemill_allocator *recording(void)
{
	struct pagemill_config config = {
		.size = sizeof config, .len_bytes = 16 << 20, .flags = PAGEMILL_CONFIG_PAGE_OWNER,
	};
	pagemill_allocator *checked;

	CHECK(pagemill_create_with(&config, &checked) == PAGEMILL_OK);
	one = pagemill_alloc_page(checked, KERNEL);
	return checked;
}

static void free_twice_with_owners(void)
{
	pagemill_allocator *checked = recording();

	pagemill_free_page(checked, one);
	pagemill_free_page(checked, one);
}

static void free_bulk_twice_with_owners(void)
{
	pagemill_allocator *checked = recording();
	pagemill_page again[64];

	memset(pages, 0, sizeof pages);
	CHECK(pagemill_alloc_pages_bulk(checked, KERNEL, 64, pages) == 64);
	memcpy(again, pages, sizeof pages);
	CHECK(pagemill_free_pages_bulk(checked, 64, pages) == 64);
	pagemill_free_pages_bulk(checked, 64, again);
}

static void free_one_page_twice_in_an_array(void)
{
	pagemill_allocator *checked = recording();

	memset(pages, 0, sizeof pages);
	CHECK(pagemill_alloc_pages_bulk(checked, KERNEL, 64, pages) == 64);
	pages[40] = pages[30];
	pagemill_free_pages_bulk(checked, 64, pages);
}

static void free_contig_twice_with_owners(void)
{
	pagemill_allocator *checked = recording();

	CHECK(pagemill_alloc_contig(checked, KERNEL, 10, 1, 0, &one) == PAGEMILL_OK);
	pagemill_free_contig(checked, one + 5, 5);
	pagemill_free_contig(checked, one, 10);
}

static void free_at_twice_with_owners(void)
{
	pagemill_allocator *checked = recording();

	pagemill_free_page(checked, one);
	pagemill_free_at(checked, pagemill_page_address(checked, one), 1);
}

static void page_at_of_a_free_page_with_owners(void)
{
	pagemill_allocator *checked = recording();

	pagemill_free_page(checked, one);
	pagemill_page_at(checked, pagemill_page_address(checked, one), 0);
}

static void a_request_with(size_t size, uint32_t gfp, uint32_t order, uint32_t effort, uint32_t node)
{
	struct {
		struct pagemill_request known;
		uint64_t unknown;
	} request = { .known = { .size = size, .gfp = gfp, .order = order, .effort = effort, .node = node } };

	request.unknown = 1;
	pages[0] = 0;
	pagemill_alloc_request(frames, &request.known, 1, pages, NULL);
}

/* A page, block or range of an allocator like `frames`, which has the same number of pages, and of `other`. */
static pagemill_page foreign(uint32_t order)
{
	pagemill_allocator *like;
	pagemill_page page;

	CHECK(pagemill_create(16 << 20, &like) == PAGEMILL_OK);
	page = pagemill_alloc_pages(order == 1 ? other : like, KERNEL, order);
	CHECK(page != 0);
	return page;
}

static pagemill_page foreign_range(void)
{
	pagemill_page first;

	CHECK(pagemill_alloc_contig(other, KERNEL, 100, 1, 0, &first) == PAGEMILL_OK);
	return first;
}

static void free_foreign_pages(void)
{
	pagemill_page several[64] = { 0 };

	CHECK(pagemill_alloc_pages_bulk(other, KERNEL, 64, several) == 64);
	pagemill_free_pages_bulk(frames, 64, several);
}

/* The page of a pool of another allocator. */
static pagemill_page of_another_pool(void)
{
	pagemill_pool *like;

	CHECK(pagemill_pool_create(other, NULL, &like) == PAGEMILL_OK);
	return pagemill_pool_alloc(like);
}

/* The page of an allocator that was destroyed, passed to the next one. */
static void free_in_a_later_allocator(void)
{
	pagemill_allocator *frames;

	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	pagemill_page page = pagemill_alloc_page(frames, KERNEL);
	pagemill_free_page(frames, page);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	pagemill_free_page(frames, page);
}

static void a_config_with_reserved(uint32_t reserved)
{
	struct pagemill_config config = { .size = sizeof config, .len_bytes = 16 << 20, .reserved = reserved };
	pagemill_allocator *frames;

	pagemill_create_with(&config, &frames);
}

static void params_with_reserved(uint32_t reserved)
{
	struct pagemill_pool_params params = { .size = sizeof params, .reserved = reserved };
	pagemill_pool *pool;

	pagemill_pool_create(frames, &params, &pool);
}

static void a_request_that_stores_at(void *nr_new)
{
	struct pagemill_request request = { .size = sizeof request, .gfp = KERNEL };

	pages[0] = 0;
	pagemill_alloc_request(frames, &request, 1, pages, nr_new);
}

/* A wrong call where destructors of thread-local variables have run. */
static pthread_key_t at_end_of_thread;

static void frees_one_twice(void *argument)
{
	(void)argument;
	free_twice_with_owners();
}

static void *sets_key(void *argument)
{
	CHECK(pthread_setspecific(at_end_of_thread, pages) == 0);
	pagemill_create(1, &frames);
	return argument;
}

static void free_twice_at_the_end_of_a_thread(void)
{
	pthread_t thread;

	CHECK(pthread_key_create(&at_end_of_thread, frees_one_twice) == 0);
	CHECK(pthread_create(&thread, NULL, sets_key, NULL) == 0);
	pthread_join(thread, NULL);
}

/* Pools find what is wrong with a page that is returned to them if the allocator records owners. */
static pagemill_pool *with_owners, *beside;

static pagemill_page of_a_pool_with_owners(void)
{
	struct pagemill_config config = {
		.size = sizeof config, .len_bytes = 16 << 20, .flags = PAGEMILL_CONFIG_PAGE_OWNER,
	};
	pagemill_allocator *checked;

	CHECK(pagemill_create_with(&config, &checked) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(checked, NULL, &with_owners) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(checked, NULL, &beside) == PAGEMILL_OK);
	memset(pages, 0, sizeof pages);
	/* Returned once, in each way: each is right, also a second time after it was allocated again. */
	for (int i = 0; i < 3; i++) {
		CHECK(pagemill_pool_alloc_bulk(with_owners, 64, pages) == 64);
		pagemill_pool_put(with_owners, pages[0]);
		pages[0] = 0;
		pagemill_pool_return(with_owners, 64, pages);
	}
	pages[1] = pagemill_alloc_page(checked, PAGEMILL_GFP_KERNEL);
	pages[0] = pagemill_pool_alloc(with_owners);
	CHECK(pages[0] && pages[1]);
	return pages[0];
}

static void put_twice(void)
{
	pagemill_page page = of_a_pool_with_owners();

	pagemill_pool_put(with_owners, page);
	pagemill_pool_put(with_owners, page);
}

static void return_twice(void)
{
	pages[63] = of_a_pool_with_owners();
	pages[1] = 0;
	pagemill_pool_return(with_owners, 64, pages);
}

static void put_to_the_pool_beside(void)
{
	pagemill_page page = of_a_pool_with_owners();

	pagemill_pool_put(beside, page);
}

static void put_what_no_pool_allocated(void)
{
	of_a_pool_with_owners();
	pagemill_pool_put(with_owners, pages[1]);
}

static char *bytes(void)
{
	return pagemill_page_address(frames, one);
}

#define SIZE sizeof(struct pagemill_request)
#define FAKE ((pagemill_allocator *)(void *)pages)

/* A statement, the function that it names, and what the line contains. */
#define CASES(X)                                                                                          \
	X(pagemill_alloc_page(NULL, KERNEL), "pagemill_alloc_page: allocator 0x0 is null")                \
	X(pagemill_alloc_page(destroyed, KERNEL), "was destroyed")                                        \
	X(pagemill_destroy(destroyed), "pagemill_destroy: allocator 0x")                                  \
	X(pagemill_alloc_page(FAKE, KERNEL), "was not returned by pagemill_create")                       \
	X(pagemill_alloc_page((pagemill_allocator *)(void *)pool, KERNEL), "was not returned by")         \
	X(pagemill_pool_alloc((pagemill_pool *)(void *)frames), "pagemill_pool_alloc: pool 0x")           \
	X(pagemill_pool_alloc(NULL), "is null")                                                           \
	X(pagemill_create(16 << 20, NULL), "pagemill_create: allocator 0x0; allowed is")                  \
	X(pagemill_create(16 << 20, (pagemill_allocator **)(void *)((char *)pages + 1)), "allowed is")    \
	X(pagemill_alloc_page(frames, 1u << 31), "flags 0x80000000 have unknown bits 0x80000000")         \
	X(pagemill_alloc_page(frames, 1u << 21), "unknown bits 0x200000")                                 \
	X(pagemill_alloc_pages(frames, KERNEL, 11), "pagemill_alloc_pages: order 11; allowed are 0 to 10") \
	X(pagemill_alloc_pages(frames, KERNEL, 256), "order 256; allowed are 0 to 10")                    \
	X(pagemill_alloc_pages_bulk(frames, KERNEL, 64, NULL), "pages 0x0; allowed is an aligned array")  \
	X(pagemill_alloc_pages_bulk(frames, KERNEL, 2, (pagemill_page *)(void *)((char *)pages + 4)), "allowed is an aligned") \
	X(pagemill_alloc_pages_bulk(frames, KERNEL, SIZE_MAX, pages), "nr 18446744073709551615; allowed are 0 to 1099511627775") \
	X(pagemill_free_pages_bulk(frames, SIZE_MAX / 8, pages), "pagemill_free_pages_bulk: nr 23058430") \
	X(pagemill_free_pages_bulk(frames, 2, NULL), "pages 0x0")                                         \
	X(pagemill_fill(frames, KERNEL, SIZE_MAX, pages), "pagemill_fill: nr")                            \
	X(pagemill_alloc_exactly(frames, ~0u, 1, pages), "pagemill_alloc_exactly: flags 0xffffffff")      \
	X(pagemill_free_page(frames, 5), "pagemill_free_page: page 0x5 is not a page")                    \
	X(pagemill_free_page(frames, one + 4096), "is not in the zone")                                   \
	X(pagemill_free_page(frames, one ^ (UINT64_C(1) << 53)), "it is charged to an account")           \
	X(pagemill_free_page(frames, one | (UINT64_C(11) << 49)), "its order is 11; allowed are 0 to 10") \
	X(pagemill_free_page(frames, (uint64_t)(uintptr_t)bytes()), "is not a page")                      \
	X((pages[9] = 1, pagemill_free_pages_bulk(frames, 64, pages)), "pagemill_free_pages_bulk: page 0x1 ") \
	X((pages[9] = one + 100000, pagemill_free_pages_bulk(frames, 64, pages)), "is not in the zone")   \
	X(free_twice(), "double free")                                                                    \
	X(put_twice(), "pagemill_pool_put: page 0x")                                                      \
	X(put_twice(), "is not out of the pool: it was returned already")                                 \
	X(return_twice(), "pagemill_pool_return: page 0x")                                                \
	X(put_to_the_pool_beside(), "is not out of the pool")                                             \
	X(put_what_no_pool_allocated(), "is not out of the pool")                                         \
	X(free_twice_with_owners(), "pagemill_free_page: frame 0x")                                       \
	X(free_bulk_twice_with_owners(), "pagemill_free_pages_bulk: frame 0x")                            \
	X(free_one_page_twice_in_an_array(), "pagemill_free_pages_bulk: frame 0x")                        \
	X(free_contig_twice_with_owners(), "pagemill_free_contig: frame 0x")                              \
	X(free_at_twice_with_owners(), "pagemill_free_at: frame 0x")                                      \
	X(page_at_of_a_free_page_with_owners(), "pagemill_page_at: frame 0x")                             \
	X(free_twice_at_the_end_of_a_thread(), "freed twice")                                             \
	X(pagemill_free_page(frames, foreign(0)), "pagemill_free_page: page 0x")                          \
	X(pagemill_free_page(frames, foreign(0)), "is not in the zone")                                   \
	X(pagemill_free_page(frames, foreign(1)), "is not in the zone")                                   \
	X(pagemill_free_page(frames, foreign(10)), "is not in the zone")                                  \
	X(free_foreign_pages(), "pagemill_free_pages_bulk: page 0x")                                      \
	X(free_foreign_pages(), "is not in the zone")                                                     \
	X(pagemill_free_contig(frames, foreign_range(), 100), "is not in the zone")                       \
	X(pagemill_page_address(frames, foreign(0)), "is not in the zone")                                \
	X(pagemill_pool_put(pool, of_another_pool()), "pagemill_pool_put: page 0x")                       \
	X(pagemill_pool_put(pool, of_another_pool()), "is not in the zone")                               \
	X((pages[0] = of_another_pool(), pagemill_pool_return(pool, 1, pages)), "is not in the zone")     \
	X(free_in_a_later_allocator(), "is not in the zone")                                              \
	X(a_config_with_reserved(3), "pagemill_create_with: config.reserved 3; allowed is 0")             \
	X(params_with_reserved(7), "pagemill_pool_create: params.reserved 7; allowed is 0")               \
	X(a_request_that_stores_at((char *)pages + 4), "pagemill_alloc_request: nr_new 0x")               \
	X(pagemill_page_address(frames, 0), "pagemill_page_address: page 0x0 is not a page")              \
	X(pagemill_page_address(frames, one + 5000), "is not in the zone")                                \
	X(pagemill_page_at(frames, NULL, 0), "pagemill_page_at: address 0x0; allowed are addresses")      \
	X(pagemill_page_at(frames, bytes() + 1, 0), "multiples of 4096")                                  \
	X(pagemill_page_at(frames, pages, 0), "allowed are addresses of pages")                           \
	X(pagemill_page_at(frames, pagemill_page_address(frames, (one & ~UINT64_C(0x3ff)) + 3), 3), "begins no block of order 3") \
	X(pagemill_free_at(frames, bytes() + 8, 1), "pagemill_free_at: address 0x")                       \
	X(pagemill_free_at(frames, pages, 1), "allowed are addresses of pages")                           \
	X(pagemill_free_at(NULL, NULL, 0), "pagemill_free_at: allocator 0x0 is null")                     \
	X(pagemill_free_at(frames, NULL, 1), "address 0x0")                                               \
	X(pagemill_free_at(frames, bytes(), 5000), "is not in the allocator's memory map")                \
	X(pagemill_free_at(frames, bytes(), SIZE_MAX), "is not in the allocator's memory map")            \
	X(pagemill_free_contig(frames, one, SIZE_MAX), "pagemill_free_contig: frame 0x")                  \
	X(pagemill_free_contig(frames, one + 77777, 1), "is not in the zone")                             \
	X(pagemill_free_contig(frames, pagemill_alloc_pages(frames, KERNEL, 1), 2), "is a block")         \
	X(pagemill_alloc_contig(frames, KERNEL, 0, 1, 0, pages), "pagemill_alloc_contig: nr 0; allowed are 1 to") \
	X(pagemill_alloc_contig(frames, KERNEL, SIZE_MAX, 1, 0, pages), "nr 18446744073709551615")        \
	X(pagemill_alloc_contig(frames, KERNEL, 1, 0, 0, pages), "align 0; allowed are powers of two")    \
	X(pagemill_alloc_contig(frames, KERNEL, 1, 3, 0, pages), "align 3; allowed")                      \
	X(pagemill_alloc_contig(frames, KERNEL, 1, 1, 0, NULL), "first 0x0; allowed is")                  \
	X(pagemill_alloc_request(frames, NULL, 1, pages, NULL), "request 0x0; allowed is")                \
	X(a_request_with(0, KERNEL, 0, 0, 0), "request has the size 0; set the field size to sizeof")     \
	X(a_request_with(5000, KERNEL, 0, 0, 0), "request has the size 5000")                             \
	X(a_request_with(SIZE + 8, KERNEL, 0, 0, 0), "has a field that this version does not know")       \
	X(a_request_with(SIZE, KERNEL, 0, 3, 0), "effort 3; allowed are 0 to 2")                          \
	X(a_request_with(SIZE, KERNEL, 0, 0, 2), "node 2; allowed are 0, for the caller's, to 1")         \
	X(a_request_with(SIZE, KERNEL, 11, 0, 0), "order 11")                                             \
	X(a_request_with(SIZE, 1u << 30, 0, 0, 0), "flags 0x40000000")                                    \
	X(pagemill_get_zone(frames, 0, NULL), "pagemill_get_zone: zone 0x0")                              \
	X(pagemill_get_vmstat(frames, NULL), "vmstat 0x0")                                                \
	X(pagemill_pool_create(frames, NULL, NULL), "pagemill_pool_create: pool 0x0")                     \
	X(pagemill_pool_put(pool, 3), "pagemill_pool_put: page 0x3 is not a page")                        \
	X((pages[0] = 3, pagemill_pool_return(pool, 1, pages)), "pagemill_pool_return: page 0x3")         \
	X(from_another_thread(), "pagemill_pool_alloc: another thread owns the pool")

RUN_CASES(CASES)

/* A wrong call whose line cannot be written: still ends with SIGABRT, not with SIGPIPE. */
static int ends_without_a_reader(int has_pipe)
{
	int ends[2], status;

	CHECK(pipe(ends) == 0);
	/* Before the child writes. */
	close(ends[0]);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (has_pipe)
			dup2(ends[1], 2);
		else
			close(2);
		pagemill_alloc_page(NULL, KERNEL);
		_exit(3);
	}
	close(ends[1]);
	CHECK(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int main(void)
{
	CHECK(ends_without_a_reader(1) == SIGABRT);
	CHECK(ends_without_a_reader(0) == SIGABRT);
	return all_cases_die("pagemill: pagemill_");
}
