/* Threads that allocate, exchange and free pages of one allocator; children of fork. */
#include <pthread.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define NR_THREADS 4
#define NR_ROUNDS 400

static pagemill_allocator *frames;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pagemill_page shelf[64]; /* pages that one thread leaves and another frees */

static void *works(void *argument)
{
	unsigned char mark = (unsigned char)(uintptr_t)argument;
	pagemill_page pages[64] = { 0 };

	for (int round = 0; round < NR_ROUNDS; round++) {
		size_t nr = pagemill_alloc_pages_bulk(frames, PAGEMILL_GFP_KERNEL, 64, pages);
		for (size_t i = 0; i < nr; i++)
			memset(pagemill_page_address(frames, pages[i]), mark, 64);
		for (size_t i = 0; i < nr; i++) {
			unsigned char *bytes = pagemill_page_address(frames, pages[i]);
			for (size_t at = 0; at < 64; at++)
				CHECK(bytes[at] == mark);
		}
		CHECK(pthread_mutex_lock(&lock) == 0);
		for (size_t i = 0; i < 64; i++) {
			pagemill_page page = shelf[i];
			shelf[i] = pages[i];
			pages[i] = page;
		}
		CHECK(pthread_mutex_unlock(&lock) == 0);
		if (round % 3 == 0)
			pagemill_free_pages_bulk(frames, 64, pages);
		else
			for (size_t i = 0; i < 64; i++) {
				pagemill_free_page(frames, pages[i]);
				pages[i] = 0;
			}
	}
	return NULL;
}

/* In a child of fork, an allocator of the parent refuses, and one of the child's own works. */
static int in_a_child(void)
{
	pagemill_allocator *own;
	pagemill_page page = pagemill_alloc_page(frames, PAGEMILL_GFP_KERNEL);

	CHECK(page == 0);
	CHECK(pagemill_alloc_exactly(frames, PAGEMILL_GFP_KERNEL, 1, &page) == PAGEMILL_EFORKED);
	pagemill_free_pages_bulk(frames, 64, shelf);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	CHECK(pagemill_create(16 << 20, &own) == PAGEMILL_OK);
	page = pagemill_alloc_page(own, PAGEMILL_GFP_KERNEL);
	CHECK(page != 0);
	pagemill_free_page(own, page);
	CHECK(pagemill_destroy(own) == PAGEMILL_OK);
	return 0;
}

int main(void)
{
	pthread_t threads[NR_THREADS];
	int status;

	CHECK(pagemill_create(16 << 20, &frames) == PAGEMILL_OK);
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, works, (void *)(i + 1)) == 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	fflush(NULL);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0)
		_exit(in_a_child());
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	pagemill_free_pages_bulk(frames, 64, shelf);
	CHECK(pagemill_nr_free_pages(frames) == 4096);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	return 0;
}
