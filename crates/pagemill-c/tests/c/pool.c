/* Page pools: one thread takes pages, others return them. */
#include <pthread.h>

#include "check.h"

struct batch {
	pagemill_pool *pool;
	pagemill_page pages[100];
};

static void *returns(void *argument)
{
	struct batch *batch = argument;

	pagemill_pool_return(batch->pool, 100, batch->pages);
	return NULL;
}

static void *adopts(void *argument)
{
	pagemill_pool *pool = argument;

	pagemill_pool_adopt(pool);
	pagemill_pool_put(pool, pagemill_pool_alloc(pool));
	return NULL;
}

int main(void)
{
	pagemill_allocator *frames;
	struct batch batch = { 0 };
	struct pagemill_pool_params params = { .size = sizeof params, .ring_size = 256, .refill = 32 };
	struct pagemill_pool_stats stats = { .size = sizeof stats };
	pthread_t thread;

	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	CHECK(pagemill_pool_create(frames, NULL, &batch.pool) == PAGEMILL_OK);
	CHECK(pagemill_destroy(frames) == PAGEMILL_EBUSY);
	CHECK(pagemill_pool_destroy(batch.pool) == PAGEMILL_OK);
	params.refill = 65;
	CHECK(pagemill_pool_create(frames, &params, &batch.pool) == PAGEMILL_ECONFIG);
	CHECK(strstr(pagemill_last_error(), "use 1 to 64"));
	params.refill = 32;
	params.ring_size = 16385;
	CHECK(pagemill_pool_create(frames, &params, &batch.pool) == PAGEMILL_ECONFIG);
	CHECK(strstr(pagemill_last_error(), "ring_size 16385: allowed are 0 to 16384"));
	params.ring_size = 16384;
	CHECK(pagemill_pool_create(frames, &params, &batch.pool) == PAGEMILL_OK);

	for (int round = 0; round < 50; round++) {
		CHECK(pagemill_pool_alloc_bulk(batch.pool, 100, batch.pages) == 100);
		for (size_t i = 0; i < 100; i++)
			memset(pagemill_page_address(frames, batch.pages[i]), round, PAGEMILL_PAGE_SIZE);
		CHECK(pagemill_pool_destroy(batch.pool) == PAGEMILL_EBUSY);
		CHECK(pthread_create(&thread, NULL, returns, &batch) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
		CHECK(batch.pages[99] == 0);
	}
	pagemill_page page = pagemill_pool_alloc(batch.pool);
	pagemill_pool_get_stats(batch.pool, &stats);
	CHECK(stats.nr_out == 1 && stats.recycle_ring == 5000 && stats.alloc_slow >= 4);
	CHECK(stats.alloc_fast + stats.alloc_refill + stats.alloc_slow >= 5000);
	pagemill_pool_put(batch.pool, page);
	pagemill_pool_put(batch.pool, 0);
	CHECK(pthread_create(&thread, NULL, adopts, batch.pool) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	pagemill_pool_adopt(batch.pool);
	pagemill_pool_get_stats(batch.pool, &stats);
	CHECK(stats.nr_out == 0);
	CHECK(pagemill_pool_destroy(batch.pool) == PAGEMILL_OK);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	return 0;
}
