/* Random sequences of calls, some with wrong arguments. Each sequence runs in a child, which must reach its end, or
 * end by SIGABRT with one line: no other signal, no wait for ever. Arguments: the first seed, the number of
 * sequences.
 *
 * What the tests of both libraries share. They define set_up(), other_call() and other_handles(). */
#ifndef ATTACK_H
#define ATTACK_H

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define NR_PAGES 600
#define NR_HANDLES 4
#define NR_CALLS 400
/* Waits until memory is free: no other thread frees any. */
#define NOFAIL PAGEMILL_GFP_NOFAIL

static uint64_t seed;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static size_t below(size_t end)
{
	return (size_t)(any() >> 11) % end;
}

/* Whether the next argument is wrong. */
static int is_wrong(void)
{
	return below(800) == 0;
}

static pagemill_allocator *allocators[NR_HANDLES];
/* Pages and blocks of allocators. */
static pagemill_page pages[NR_PAGES + 1];
/* Room for a structure of any size that the library accepts. */
static uint64_t room[4096 / 8];

/* Creates the allocators. */
static void set_up(void);
/* A call of a function that only one library has, with entries from first on. */
static void other_call(size_t first, size_t nr);
/* Handles of another kind, or other pointers. */
static void **other_handles(void);

static void *pointer(void *right, size_t align)
{
	if (!is_wrong())
		return right;
	return below(2) ? NULL : (char *)right + 1 + below(align - 1);
}

static void *handle(void **handles, void **others)
{
	uint64_t wrong[] = { 0, any(), (uint64_t)(uintptr_t)pages, (uint64_t)(uintptr_t)others[below(NR_HANDLES)] };

	if (!is_wrong())
		return handles[below(NR_HANDLES)];
	/* One bit of a right one, or none of it. */
	uint64_t near = (uint64_t)(uintptr_t)handles[0] ^ UINT64_C(1) << below(64);
	return (void *)(uintptr_t)(below(2) ? near : wrong[below(4)]);
}

#define ALLOCATOR ((pagemill_allocator *)handle((void **)allocators, other_handles()))

static uint32_t gfp(void)
{
	static const uint32_t kinds[] = {
		PAGEMILL_GFP_KERNEL, PAGEMILL_GFP_NOWAIT, PAGEMILL_GFP_ATOMIC, PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_ZERO,
		PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_MOVABLE | PAGEMILL_GFP_HIGHMEM,
	};

	if (below(8) == 0)
		return (uint32_t)any() & ((1u << 21) - 1) & ~NOFAIL;
	return is_wrong() ? (uint32_t)any() & ~NOFAIL : kinds[below(5)];
}

static uint32_t small(uint32_t most)
{
	return is_wrong() ? (uint32_t)any() : (uint32_t)below(most + 1);
}

/* A number of entries behind `first`. */
static size_t nr_from(size_t first)
{
	static const size_t wrong[] = { SIZE_MAX, SIZE_MAX / 8, (size_t)1 << 40, (size_t)1 << 63 };

	return is_wrong() ? wrong[below(4)] : below(below(3) ? 65 : NR_PAGES - first + 1) % (NR_PAGES - first + 1);
}

static pagemill_page page(pagemill_page right)
{
	if (!is_wrong())
		return right;
	return below(2) ? right ^ UINT64_C(1) << below(64) : any();
}

/* A number of pages or bytes, which no array has. */
static size_t amount(void)
{
	return is_wrong() ? (size_t)(any() >> below(64)) : below(700);
}

static int stops(void *context)
{
	return ++*(int *)context > 3;
}

static void *structure(size_t size)
{
	memset(room, 0, sizeof room);
	room[0] = is_wrong() ? below(5000) : size;
	if (is_wrong())
		room[1 + below(sizeof room / sizeof *room - 1)] = any();
	return pointer(room, 8);
}

static void request(pagemill_page *at, size_t nr)
{
	struct pagemill_request *request = structure(sizeof *request);
	int nr_stops = 0;
	size_t nr_new;

	if (request == (void *)room) {
		request->gfp = gfp();
		request->order = below(4) ? 0 : small(10);
		request->effort = small(2);
		request->node = below(4) ? 0 : small(1);
		request->stop = stops;
		request->context = &nr_stops;
	}
	pagemill_alloc_request(ALLOCATOR, request, nr, at, pointer(&nr_new, 8));
}

static void one_call(void)
{
	size_t first = below(NR_PAGES), nr = nr_from(first);
	pagemill_page *at = pointer(&pages[first], 8);

	switch (below(24)) {
	case 0:
		pages[first] = pagemill_alloc_page(ALLOCATOR, gfp());
		break;
	case 1:
		pages[first] = pagemill_alloc_pages(ALLOCATOR, gfp(), small(10));
		break;
	case 2:
		pagemill_free_page(ALLOCATOR, page(pages[first]));
		pages[first] = 0;
		break;
	case 3: case 4:
		pagemill_alloc_pages_bulk(ALLOCATOR, gfp(), nr, at);
		break;
	case 5: case 6:
		if (is_wrong())
			pages[first] = page(pages[below(NR_PAGES)]);
		pagemill_free_pages_bulk(ALLOCATOR, nr, at);
		break;
	case 7:
		pagemill_fill(ALLOCATOR, gfp(), nr, at);
		break;
	case 8:
		pagemill_alloc_exactly(ALLOCATOR, gfp(), nr, at);
		break;
	case 9:
		request(at, nr);
		break;
	case 10:
		pagemill_alloc_contig(ALLOCATOR, gfp(), 1 + amount(), is_wrong() ? amount() : (size_t)1 << below(12),
				      below(4) ? 0 : any() >> below(64), at);
		break;
	case 11:
		if (pages[first] != 0 && pagemill_page_order(pages[first]) == 0)
			pagemill_free_contig(ALLOCATOR, page(pages[first]), is_wrong() ? amount() : 1), pages[first] = 0;
		break;
	case 12:
		pagemill_drain(ALLOCATOR);
		break;
	case 13:
		pagemill_nr_free_pages(ALLOCATOR);
		break;
	case 14:
		pagemill_get_zone(ALLOCATOR, amount(), structure(sizeof(struct pagemill_zone)));
		break;
	case 15:
		pagemill_get_list(ALLOCATOR, amount(), structure(sizeof(struct pagemill_list)));
		break;
	case 16:
		pagemill_get_vmstat(ALLOCATOR, structure(sizeof(struct pagemill_vmstat)));
		break;
	case 17:
		CHECK(pagemill_strerror((int32_t)any())[0] && pagemill_version()[0]);
		break;
	default:
		other_call(first, nr);
	}
}

/* Returns whether the sequence of a seed ended as it may; counts those that a wrong call ended. */
static int ends_well(uint64_t of_seed, int *nr_aborted)
{
	static char line[2048];
	size_t len = 0;
	ssize_t got;
	int ends[2], status;

	CHECK(pipe(ends) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		alarm(300);
		seed = of_seed * UINT64_C(0x9e3779b97f4a7c15);
		set_up();
		for (int i = 0; i < NR_CALLS; i++)
			one_call();
		_exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], line + len, sizeof line - 1 - len)) > 0)
		len += (size_t)got;
	line[len] = '\0';
	close(ends[0]);
	CHECK(waitpid(child, &status, 0) == child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && len == 0)
		return 1;
	const char *end = strchr(line, '\n');
	int is_line = end && end[1] == '\0' && strncmp(line, LINE, sizeof LINE - 1) == 0;
	int is_rust = strstr(line, "::") || strstr(line, ".rs");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && is_line && !is_rust)
		return ++*nr_aborted;
	fprintf(stderr, "seed %llu: status %#x:\n%s\n", (unsigned long long)of_seed, (unsigned)status, line);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, nr = argc > 2 ? strtoull(argv[2], NULL, 10) : 300;
	int nr_aborted = 0, failed = 0;

	for (uint64_t i = first; i < first + nr; i++)
		failed += !ends_well(i, &nr_aborted);
	printf("%llu sequences, %d ended by a wrong call, %d wrongly\n", (unsigned long long)nr, nr_aborted, failed);
	return failed != 0;
}

#endif
