/* Two threads as two CPUs: they allocate, exchange and free pages of one allocator. */
#include <pthread.h>

#include "table.h"

#define NR_CPUS 2
#define NR_ROUNDS 500

static struct machine machine;
static pagemill_allocator *frames;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pagemill_page shelf[64]; /* pages that one thread leaves and the other frees */
static __thread uint32_t cpu;
static __thread int nr_pinned;

static uint32_t pins(void *context)
{
	(void)context;
	nr_pinned++;
	return cpu;
}

static void unpins(void *context)
{
	(void)context;
	nr_pinned--;
}

static void *works(void *argument)
{
	pagemill_page pages[64] = { 0 };
	pagemill_page block;

	cpu = (uint32_t)(uintptr_t)argument;
	for (int round = 0; round < NR_ROUNDS; round++) {
		size_t nr = pagemill_alloc_pages_bulk(frames, KERNEL, 64, pages);
		for (size_t i = 0; i < nr; i++)
			memset(pagemill_page_address(frames, pages[i]), (int)cpu + 1, 64);
		for (size_t i = 0; i < nr; i++) {
			unsigned char *bytes = pagemill_page_address(frames, pages[i]);
			for (size_t at = 0; at < 64; at++)
				CHECK(bytes[at] == cpu + 1);
		}
		block = pagemill_alloc_pages(frames, KERNEL, (uint32_t)round % 11);
		CHECK(pthread_mutex_lock(&lock) == 0);
		for (size_t i = 0; i < 64; i++) {
			pagemill_page page = shelf[i];
			shelf[i] = pages[i];
			pages[i] = page;
		}
		CHECK(pthread_mutex_unlock(&lock) == 0);
		pagemill_free_page(frames, block);
		if (round % 3 == 0)
			pagemill_drain(frames);
		pagemill_free_pages_bulk(frames, 64, pages);
		CHECK(nr_pinned == 0 && nr_irq_off == 0);
	}
	CHECK(nr_irq_saves > NR_ROUNDS);
	return NULL;
}

int main(void)
{
	struct pagemill_platform table;
	struct pagemill_kernel_config config = config_of(&whole, 1);
	pthread_t threads[NR_CPUS];
	void *metadata;

	make_machine(&machine);
	table = table_of(&machine);
	table.nr_cpus = NR_CPUS;
	table.pin = pins;
	table.unpin = unpins;
	frames = create(&table, &config, &metadata);
	for (uintptr_t i = 0; i < NR_CPUS; i++)
		CHECK(pthread_create(&threads[i], NULL, works, (void *)i) == 0);
	for (size_t i = 0; i < NR_CPUS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	pagemill_free_pages_bulk(frames, 64, shelf);
	CHECK(pagemill_kernel_validate(frames, NULL, 0) == PAGEMILL_OK);
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES);
	CHECK(pagemill_kernel_destroy(frames) == PAGEMILL_OK);
	free(metadata);
	free(machine.memory);
	return 0;
}
