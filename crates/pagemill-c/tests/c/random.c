/* Random calls, compared with a naive model: a table that says which block each frame belongs to, and the
 * bytes that were written into each block. Argument: the seed. */
#include "check.h"

#define NR_FRAMES 4096
#define NR_SLOTS 600

static uint64_t seed;

static size_t below(size_t end)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (size_t)(seed >> 11) % end;
}

/* The model: for each frame, the number of the block that has it, or 0. */
static uint32_t owner[NR_FRAMES];
static uint32_t last_owner;
static size_t nr_out;

static pagemill_allocator *frames;
static uint64_t first_pfn;
static pagemill_page slots[NR_SLOTS];
static uint32_t owners[NR_SLOTS];

static size_t frame_of(pagemill_page page)
{
	uint64_t pfn = pagemill_page_pfn(page);

	CHECK(pfn >= first_pfn && pfn < first_pfn + NR_FRAMES);
	return (size_t)(pfn - first_pfn);
}

/* Notes that nr frames from page on are in use, and marks them. */
static uint32_t taken(pagemill_page page, size_t nr)
{
	size_t frame = frame_of(page);
	char *bytes = pagemill_page_address(frames, page);

	last_owner++;
	for (size_t i = 0; i < nr; i++) {
		CHECK(frame + i < NR_FRAMES && owner[frame + i] == 0);
		owner[frame + i] = last_owner;
		memcpy(bytes + i * PAGEMILL_PAGE_SIZE, &last_owner, sizeof last_owner);
	}
	nr_out += nr;
	return last_owner;
}

/* Notes that nr frames from page on are given up; each has its mark. */
static void given_up(pagemill_page page, size_t nr, uint32_t by)
{
	size_t frame = frame_of(page);
	char *bytes = pagemill_page_address(frames, page);

	for (size_t i = 0; i < nr; i++) {
		CHECK(owner[frame + i] == by);
		owner[frame + i] = 0;
		CHECK(memcmp(bytes + i * PAGEMILL_PAGE_SIZE, &by, sizeof by) == 0);
	}
	nr_out -= nr;
}

static size_t nr_pages_of(pagemill_page page)
{
	return (size_t)1 << pagemill_page_order(page);
}

static void note_new(const pagemill_page *before, size_t start, size_t end)
{
	for (size_t i = start; i < end; i++) {
		if (before[i] != 0)
			CHECK(slots[i] == before[i]);
		else if (slots[i] != 0)
			owners[i] = taken(slots[i], nr_pages_of(slots[i]));
	}
}

static void step(void)
{
	static const uint32_t kinds[] = {
		PAGEMILL_GFP_KERNEL, PAGEMILL_GFP_NOWAIT, PAGEMILL_GFP_ATOMIC,
		PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_MOVABLE, PAGEMILL_GFP_KERNEL | PAGEMILL_GFP_RECLAIMABLE,
	};
	pagemill_page before[NR_SLOTS];
	uint32_t gfp = kinds[below(5)];
	size_t start = below(NR_SLOTS), end = start + 1 + below(below(2) ? 4 : 200), nr = 0;

	if (end > NR_SLOTS)
		end = NR_SLOTS;
	memcpy(before, slots, sizeof slots);
	switch (below(9)) {
	case 0:
		nr = pagemill_alloc_pages_bulk(frames, gfp, end - start, slots + start);
		for (size_t i = start; i < start + nr; i++)
			CHECK(slots[i] != 0);
		note_new(before, start, end);
		break;
	case 1:
		if (slots[start] == 0)
			slots[start] = pagemill_alloc_page(frames, gfp);
		note_new(before, start, start + 1);
		break;
	case 2:
		if (slots[start] == 0)
			slots[start] = pagemill_alloc_pages(frames, gfp, (uint32_t)below(5));
		note_new(before, start, start + 1);
		break;
	case 3: {
		int32_t result = pagemill_fill(frames, gfp, end - start, slots + start);
		for (size_t i = start; i < end; i++)
			nr += slots[i] == 0;
		CHECK(result == (nr ? PAGEMILL_ENOMEM : PAGEMILL_OK));
		note_new(before, start, end);
		break;
	}
	case 4: {
		struct pagemill_request request = {
			.size = sizeof request, .gfp = gfp, .order = (uint32_t)below(4), .effort = (uint32_t)below(3),
		};
		size_t nr_new = 0, seen = 0;
		pagemill_alloc_request(frames, &request, end - start, slots + start, &nr_new);
		for (size_t i = start; i < end; i++)
			seen += before[i] == 0 && slots[i] != 0;
		CHECK(seen == nr_new);
		note_new(before, start, end);
		break;
	}
	case 5: {
		pagemill_page first;
		nr = 1 + below(300);
		if (pagemill_alloc_contig(frames, gfp, nr, (size_t)1 << below(6), 0, &first) == PAGEMILL_OK) {
			uint32_t by = taken(first, nr);
			size_t front = below(nr + 1);
			given_up(first, nr, by);
			pagemill_free_contig(frames, first, front);
			if (front < nr)
				pagemill_free_at(frames, pagemill_page_address(frames, first + front), nr - front);
		}
		break;
	}
	case 6:
		for (size_t i = start; i < end; i++) {
			if (slots[i] == 0)
				continue;
			given_up(slots[i], nr_pages_of(slots[i]), owners[i]);
			nr++;
		}
		CHECK(pagemill_free_pages_bulk(frames, end - start, slots + start) == nr);
		for (size_t i = start; i < end; i++)
			CHECK(slots[i] == 0);
		break;
	case 7:
		if (slots[start] != 0) {
			void *address = pagemill_page_address(frames, slots[start]);
			uint32_t order = pagemill_page_order(slots[start]);
			CHECK(frame_of(pagemill_page_at(frames, address, order)) == frame_of(slots[start]));
			given_up(slots[start], nr_pages_of(slots[start]), owners[start]);
			pagemill_free_at(frames, address, (size_t)1 << order);
			slots[start] = 0;
		}
		break;
	default:
		if (slots[start] != 0)
			given_up(slots[start], nr_pages_of(slots[start]), owners[start]);
		pagemill_free_page(frames, slots[start]);
		slots[start] = 0;
	}
	CHECK(pagemill_nr_free_pages(frames) == NR_FRAMES - nr_out);
}

int main(int argc, char **argv)
{
	struct pagemill_zone zone = { .size = sizeof zone };

	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	int nr_steps = argc > 2 ? atoi(argv[2]) : 20000;
	printf("seed %llu\n", (unsigned long long)seed);
	CHECK(pagemill_create((uint64_t)NR_FRAMES * PAGEMILL_PAGE_SIZE, &frames) == PAGEMILL_OK);
	CHECK(pagemill_get_zone(frames, 0, &zone) == 1);
	first_pfn = zone.start_pfn;
	for (int i = 0; i < nr_steps; i++)
		step();
	pagemill_free_pages_bulk(frames, NR_SLOTS, slots);
	CHECK(pagemill_destroy(frames) == PAGEMILL_OK);
	return 0;
}
