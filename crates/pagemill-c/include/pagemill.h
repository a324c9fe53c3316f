/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * pagemill: a page allocator. Allocates and frees pages of 4 KiB, one at a time, many in one call, in blocks
 * of 2^n adjacent pages, and in ranges of any number of adjacent pages.
 *
 * PAGES. A page is an integer, pagemill_page, and so is a block. Zero is no page, so an array of zeroes is
 * an array of empty slots. The integer names the first page frame, the order of the block and the list that
 * the block returns to. So one function frees blocks of every order, and none is freed with a wrong size.
 * pagemill_page_address() returns where the bytes are.
 *
 * WRONG CALLS. A call that breaks a rule of this header ends the process: one line on stderr that names the
 * function, the value and what is allowed, then SIGABRT. That is so for a null, destroyed or unknown handle, a
 * null or misaligned array, a number of entries or an order out of range, a wrong size of a structure, unknown
 * flags (of a request, a configuration or a pool), and a page that is not the allocator's. A page that is freed
 * twice ends the process too, but often later: when its per-CPU list is emptied. With
 * PAGEMILL_CONFIG_PAGE_OWNER, it does so at once, in the call that frees it for the second time, and so does a
 * page that is returned to its pool twice, or to another pool; without the flag, neither is found. No line says
 * which call of the program allocated a page; a backtrace of SIGABRT shows the call that freed it. A page of a
 * pool that is freed by another function than the pool's is not found in either case. Conditions that a correct
 * program can meet are returned as results.
 *
 * THREADS. Any thread may call any function with any allocator and any page, at the same time, unless the
 * function says otherwise. A signal handler must not call any function.
 *
 * FORK. An allocator and its pages belong to the process that created it. In a child of fork(), allocating
 * returns no page, freeing does nothing, and destroying unmaps the child's copy. A child of vfork(), clone() or
 * _Fork() must call no function before it calls exec or _exit: the library does not notice that it is a child. */
#ifndef PAGEMILL_H
#define PAGEMILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; pagemill_version() returns that of the library. */
#define PAGEMILL_VERSION "0.1.0"

/* Constants. ------------------------------------------------------------------------------------------- */

/* Bytes of a page, and the base-two logarithm of that. */
#define PAGEMILL_PAGE_SIZE 4096u
#define PAGEMILL_PAGE_SHIFT 12u

/* The largest order: 2^10 pages are 4 MiB. */
#define PAGEMILL_MAX_ORDER 10u

/* Results of functions that can fail. pagemill_strerror() has their texts. */
#define PAGEMILL_OK 0          /* success */
#define PAGEMILL_ENOMEM 1      /* memory is short: no zone has enough above its watermark */
#define PAGEMILL_EFRAGMENTED 2 /* enough pages are free, but not that many adjacent ones */
#define PAGEMILL_ESTOPPED 3    /* the stop callback ended the request */
#define PAGEMILL_EFORKED 4     /* the allocator belongs to the parent process */
#define PAGEMILL_ERANGE 5      /* no zone can ever have such a range */
#define PAGEMILL_EBUSY 6       /* pages are still in use */
#define PAGEMILL_ECONFIG 7     /* a length or number is out of range; see pagemill_last_error() */
#define PAGEMILL_ESYSTEM 8     /* the operating system refused; see pagemill_last_error() */

/* Flags of a request, with Linux's names. */
#define PAGEMILL_GFP_DMA 0x1u             /* frames below 16 MiB; in a process, there are none */
#define PAGEMILL_GFP_HIGHMEM 0x2u         /* with MOVABLE: zone Movable is allowed */
#define PAGEMILL_GFP_DMA32 0x4u           /* frames below 4 GiB; in a process, there are none */
#define PAGEMILL_GFP_MOVABLE 0x8u         /* group with movable pages */
#define PAGEMILL_GFP_RECLAIMABLE 0x10u    /* group with reclaimable pages */
#define PAGEMILL_GFP_HIGH 0x20u           /* may use half of the min watermark */
#define PAGEMILL_GFP_IO 0x40u             /* reclaim may start I/O */
#define PAGEMILL_GFP_FS 0x80u             /* reclaim may call the file system */
#define PAGEMILL_GFP_ZERO 0x100u          /* fill the pages with zeroes */
#define PAGEMILL_GFP_DIRECT_RECLAIM 0x200u /* may reclaim, and wait */
#define PAGEMILL_GFP_KSWAPD_RECLAIM 0x400u /* wakes background reclaim */
#define PAGEMILL_GFP_WRITE 0x800u         /* no effect */
#define PAGEMILL_GFP_NOWARN 0x1000u       /* no effect */
#define PAGEMILL_GFP_RETRY_MAYFAIL 0x2000u /* retries hard, but may fail */
#define PAGEMILL_GFP_NOFAIL 0x4000u       /* waits until other threads free enough */
#define PAGEMILL_GFP_NORETRY 0x8000u      /* gives up after one round of reclaim */
#define PAGEMILL_GFP_MEMALLOC 0x10000u    /* may use all reserves */
#define PAGEMILL_GFP_COMP 0x20000u        /* no effect */
#define PAGEMILL_GFP_NOMEMALLOC 0x40000u  /* may not use reserves */
#define PAGEMILL_GFP_HARDWALL 0x80000u    /* no effect */
#define PAGEMILL_GFP_THISNODE 0x100000u   /* no node but the requested one */

/* The usual requests: one that may reclaim and wait for shrinkers; one that must not wait; one that must not
 * wait and may use a part of the reserve. */
#define PAGEMILL_GFP_KERNEL \
	(PAGEMILL_GFP_DIRECT_RECLAIM | PAGEMILL_GFP_KSWAPD_RECLAIM | PAGEMILL_GFP_IO | PAGEMILL_GFP_FS)
#define PAGEMILL_GFP_NOWAIT (PAGEMILL_GFP_KSWAPD_RECLAIM | PAGEMILL_GFP_NOWARN)
#define PAGEMILL_GFP_ATOMIC (PAGEMILL_GFP_HIGH | PAGEMILL_GFP_KSWAPD_RECLAIM)

/* How hard a request tries; pagemill_request.effort. */
#define PAGEMILL_EFFORT_TRY_HARD 0u       /* below the low watermark, with reclaim; keeps what it got */
#define PAGEMILL_EFFORT_FAST 1u           /* what the lists and zones above their low watermark can give */
#define PAGEMILL_EFFORT_ALL_OR_NOTHING 2u /* as TRY_HARD, but frees a short result */

/* Kinds of zones and migrate types, in the structures that describe them. */
#define PAGEMILL_ZONE_DMA 0u
#define PAGEMILL_ZONE_DMA32 1u
#define PAGEMILL_ZONE_NORMAL 2u
#define PAGEMILL_ZONE_MOVABLE 3u
#define PAGEMILL_MIGRATE_UNMOVABLE 0u
#define PAGEMILL_MIGRATE_MOVABLE 1u
#define PAGEMILL_MIGRATE_RECLAIMABLE 2u

/* Types. ----------------------------------------------------------------------------------------------- */

/* An allocator. A handle, not an address: never read through it. A destroyed handle is recognised. */
typedef struct pagemill_allocator pagemill_allocator;

/* A page, or a block of 2^order adjacent pages; zero for none. The lowest 40 bits are the number of the
 * first page frame, so the page behind a single page p is p + 1. */
typedef uint64_t pagemill_page;

/* Each structure begins with its size: set it to sizeof(struct ...). A later version of the library may add
 * fields at the end, and then accepts both sizes. Other fields that are zero have their default. Fields named
 * reserved must be 0. A function that fills in a structure sets fields that it does not know to 0. */

/* A bulk request. */
struct pagemill_request {
	size_t size;
	uint32_t gfp;    /* PAGEMILL_GFP flags */
	uint32_t order;  /* of each block */
	uint32_t effort; /* PAGEMILL_EFFORT */
	uint32_t node;   /* preferred node, plus 1; 0 for the caller's node */
	/* Ends the request, and its waiting, when it returns another value than 0; or null. With a callback and
	 * PAGEMILL_GFP_DIRECT_RECLAIM, the request waits for other threads to free pages, and calls it before each
	 * wait of at most approximately 10 ms. Also called before the request reclaims, and approximately once for
	 * every 512 pages; sometimes more often, also after it returned another value than 0. Never called for an
	 * ALL_OR_NOTHING request that is larger than what the allocator can ever have: it fails at once. Called
	 * by the thread that made the request, without a lock of the allocator held. The callback may call
	 * any function with this allocator, but pagemill_destroy() returns PAGEMILL_EBUSY. It must return, and must
	 * not use the array of the request. */
	int (*stop)(void *context);
	void *context; /* passed to stop */
};

/* A zone. Numbers of pages. */
struct pagemill_zone {
	size_t size;
	uint32_t node;
	uint32_t kind;          /* PAGEMILL_ZONE */
	uint64_t start_pfn;     /* number of the first frame */
	uint64_t spanned;       /* from the first to the last, holes included */
	uint64_t present;       /* in the memory map */
	uint64_t managed;       /* that the allocator can hand out */
	uint64_t nr_free_pages; /* without those in per-CPU lists */
	uint64_t min;           /* watermarks */
	uint64_t low;
	uint64_t high;
	uint64_t free_blocks[PAGEMILL_MAX_ORDER + 1]; /* by order; each frame counts once */
};

/* A CPU's list of free blocks. Numbers of pages. */
struct pagemill_list {
	size_t size;
	uint32_t cpu;
	uint32_t node;
	uint32_t kind;        /* PAGEMILL_ZONE */
	uint32_t migratetype; /* PAGEMILL_MIGRATE */
	uint32_t order;
	uint32_t reserved;
	uint64_t count;
	uint64_t high;  /* the most that it can hold */
	uint64_t batch; /* moved to or from the zone at a time */
};

/* Counters with the names of /proc/vmstat. */
struct pagemill_vmstat {
	size_t size;
	uint64_t nr_free_pages; /* without those in per-CPU lists */
	uint64_t pgalloc[4]; /* by PAGEMILL_ZONE */
	uint64_t pgfree;
	uint64_t numa_hit;
	uint64_t numa_miss;
	uint64_t numa_foreign;
	uint64_t numa_local;
	uint64_t numa_other;
};

/* Functions that a process and a kernel share. --------------------------------------------------------- */

/* Allocates a page.
 * Returns 0 if memory is short, or in a child of fork().
 * Cost: what a Rust program pays, and approximately 10 instructions. */
pagemill_page pagemill_alloc_page(pagemill_allocator *allocator, uint32_t gfp);

/* Allocates a block of 2^order adjacent pages, order 0 to PAGEMILL_MAX_ORDER.
 * Returns 0 if memory is short or fragmented, or in a child of fork(). No page is moved to make room. Its
 * address is a multiple of its size, or of 2 MiB for a block of 4 MiB.
 * Cost: blocks of the orders 0 to 3 and 9 come from per-CPU lists, others take a lock. */
pagemill_page pagemill_alloc_pages(pagemill_allocator *allocator, uint32_t gfp, uint32_t order);

/* Frees a page or a block of any order; page 0 is ignored.
 * Cost: what a Rust program pays, and approximately 50 instructions, which check the page. */
void pagemill_free_page(pagemill_allocator *allocator, pagemill_page page);

/* Fills the slots of an array that are 0 with single pages, in order, and returns the length of the filled
 * prefix that it has seen: every slot below the result has a page. Slots that are not 0 are left alone, and
 * those behind the result may have pages. Allocates at least one page if pagemill_alloc_page() would, and
 * more only while the zone stays above its low watermark. A caller that needs all pages repeats the call as
 * long as the result grows, or calls pagemill_fill().
 * nr is 0 to 2^40 - 1; with 0, pages may be null.
 * Cost: what a Rust program pays, and at most 30 instructions; 40 for more than 256 pages. */
size_t pagemill_alloc_pages_bulk(pagemill_allocator *allocator, uint32_t gfp, size_t nr, pagemill_page *pages);

/* Frees the pages and blocks of an array, sets its entries to 0, and returns how many there were. Entries
 * that are 0 are skipped.
 * nr is 0 to 2^40 - 1; with 0, pages may be null.
 * Cost: what a Rust program pays, and at most 30 instructions, if the pages are single and of one zone and
 * kind, as a bulk call returns them. */
size_t pagemill_free_pages_bulk(pagemill_allocator *allocator, size_t nr, pagemill_page *pages);

/* Fills all slots of an array that are 0 with single pages. Continues below the low watermark, and reclaims
 * where gfp allows it.
 * Returns PAGEMILL_OK, or why there are not more: PAGEMILL_ENOMEM or PAGEMILL_EFORKED. Pages that it got
 * stay in the array. */
int32_t pagemill_fill(pagemill_allocator *allocator, uint32_t gfp, size_t nr, pagemill_page *pages);

/* Does what pagemill_fill() does, but allocates no page unless it can fill all slots. */
int32_t pagemill_alloc_exactly(pagemill_allocator *allocator, uint32_t gfp, size_t nr, pagemill_page *pages);

/* Fills the slots of an array that are 0 with blocks, as the request says, and stores the number of new
 * blocks in *nr_new, unless that is null.
 * Returns PAGEMILL_OK, or why there are not more: PAGEMILL_ENOMEM, PAGEMILL_ESTOPPED or PAGEMILL_EFORKED.
 * Cost: what a Rust program pays, and approximately 150 instructions, which check the request. */
int32_t pagemill_alloc_request(pagemill_allocator *allocator, const struct pagemill_request *request, size_t nr,
                               pagemill_page *pages, size_t *nr_new);

/* Allocates nr adjacent pages, the first at a multiple of align frames (a power of two), all below the
 * physical address limit (0 for none), and stores the first page in *first. Page i of the range is
 * *first + i. All are single pages: each part of the range can be freed by pagemill_free_contig(), and each
 * page by pagemill_free_page().
 * In a process, a frame's physical address means its number times PAGEMILL_PAGE_SIZE, from 4 GiB on.
 * Returns PAGEMILL_OK; PAGEMILL_ENOMEM; PAGEMILL_EFRAGMENTED; PAGEMILL_ERANGE if no zone can ever have such a
 * range; or PAGEMILL_EFORKED. nr is 1 to 2^40 - 1.
 * Cost: a search that is linear in the number of pageblocks of 512 pages, at worst. */
int32_t pagemill_alloc_contig(pagemill_allocator *allocator, uint32_t gfp, size_t nr, size_t align,
                              uint64_t limit, pagemill_page *first);

/* Frees nr adjacent pages, the first of which is first: a range, a part of one, or adjacent single pages. */
void pagemill_free_contig(pagemill_allocator *allocator, pagemill_page first, size_t nr);

/* Moves the pages in the lists of all CPUs to their zones, and returns how many. Lists that are in use at the
 * moment are left alone. */
size_t pagemill_drain(pagemill_allocator *allocator);

/* Returns the number of free pages, in zones and in per-CPU lists. */
uint64_t pagemill_nr_free_pages(pagemill_allocator *allocator);

/* Describes zone index in *zone and returns 1; returns 0 and leaves *zone alone if there is no such zone.
 * Cost: reads every pageblock of the zones that is partly free. */
int pagemill_get_zone(pagemill_allocator *allocator, size_t index, struct pagemill_zone *zone);

/* Describes list index in *list and returns 1; returns 0 and leaves *list alone if there is no such list.
 * Lists that are in use at the moment are skipped, so another call may number them differently. */
int pagemill_get_list(pagemill_allocator *allocator, size_t index, struct pagemill_list *list);

/* Stores the counters of all zones and CPUs in *vmstat. */
void pagemill_get_vmstat(pagemill_allocator *allocator, struct pagemill_vmstat *vmstat);

/* Returns the text of a result of another function. The text is constant. */
const char *pagemill_strerror(int32_t error);

/* Returns the version of the library, such as "0.1.0". */
const char *pagemill_version(void);

/* Returns the number of the first page frame of a page or block. */
static inline uint64_t pagemill_page_pfn(pagemill_page page)
{
	return page & ((UINT64_C(1) << 40) - 1);
}

/* Returns the order of a block; 0 for a single page. */
static inline uint32_t pagemill_page_order(pagemill_page page)
{
	return (uint32_t)(page >> 49) & 15u;
}

/* Functions of a process. ------------------------------------------------------------------------------ */

/* Creates an allocator of len_bytes of memory, a multiple of PAGEMILL_PAGE_SIZE, and stores its handle in
 * *allocator. The memory is mapped now, and committed when it is first written to. A part of it, the min
 * watermark, is left free by ordinary requests: of 64 MiB, 1 MiB.
 * Returns PAGEMILL_OK, PAGEMILL_ECONFIG or PAGEMILL_ESYSTEM; *allocator is unchanged after an error. At most
 * 64 allocators exist at the same time, each of at most 64 TiB less 4 GiB.
 * No two allocators have the same frame numbers, so a page of one is never taken for a page of another. The
 * first begins at frame 2^20; the others begin at multiples of that. */
int32_t pagemill_create(uint64_t len_bytes, pagemill_allocator **allocator);

/* Flags of a configuration. */
#define PAGEMILL_CONFIG_PAGE_OWNER 0x1u /* find every double free at once; 8 bytes for each page */
#define PAGEMILL_CONFIG_POISON 0x2u     /* fill free pages with 0xaa, and find writes to them */
#define PAGEMILL_CONFIG_PREFAULT 0x4u   /* commit all memory now */
#define PAGEMILL_CONFIG_LOCK 0x8u       /* lock the memory: no swapping */
#define PAGEMILL_CONFIG_MEMFD 0x10u     /* memory of a memfd, which another process can map */
#define PAGEMILL_CONFIG_HUGETLB 0x20u   /* pages of 2 MiB from the hugetlb pool, or an error */
#define PAGEMILL_CONFIG_NO_HUGE 0x40u   /* no pages of 2 MiB */

/* The configuration of an allocator. */
struct pagemill_config {
	size_t size;
	uint64_t len_bytes;      /* of the memory; a multiple of PAGEMILL_PAGE_SIZE */
	uint64_t min_free_bytes; /* that ordinary requests leave; 0 for Linux's formula */
	uint64_t movable_bytes;  /* at the top of each node, for movable pages only */
	uint32_t nr_nodes;       /* equal parts of the memory; 0 for 1 */
	uint32_t nr_cpus;        /* with lists of their own; 0 for all that the machine can have */
	uint32_t flags;          /* PAGEMILL_CONFIG flags */
	uint32_t reserved;
};

/* Does what pagemill_create() does, with all options. */
int32_t pagemill_create_with(const struct pagemill_config *config, pagemill_allocator **allocator);

/* Destroys an allocator and unmaps its memory.
 * Returns PAGEMILL_OK, or PAGEMILL_EBUSY if pages or pools are in use, or a stop callback of the allocator
 * runs; the allocator is unchanged then.
 * No other thread may be in a call with the allocator. */
int32_t pagemill_destroy(pagemill_allocator *allocator);

/* Returns why the last call of this thread returned PAGEMILL_ECONFIG or PAGEMILL_ESYSTEM, with the value and
 * what is allowed; "" if none did. Valid until the next such call of this thread. */
const char *pagemill_last_error(void);

/* Returns the address of the first byte of a page or block. The bytes of a block or range are adjacent. The
 * address is the same until the allocator is destroyed. */
void *pagemill_page_address(pagemill_allocator *allocator, pagemill_page page);

/* Returns the block of an order that begins at an address: the opposite of pagemill_page_address(), for a
 * program that keeps addresses. The address must be that of a block that the caller has. */
pagemill_page pagemill_page_at(pagemill_allocator *allocator, const void *address, uint32_t order);

/* Frees nr adjacent pages from an address on, whatever they were allocated as. A null address is allowed if
 * nr is 0.
 * Cost: 20 to 30 instructions more than pagemill_free_page() for one page. */
void pagemill_free_at(pagemill_allocator *allocator, void *address, size_t nr);

/* Page pools. ------------------------------------------------------------------------------------------ */

/* A pool recycles single pages between one thread that takes them (the owner: a poll loop) and any threads
 * that return them, as Linux's page_pool does. The owner neither takes a lock nor uses an atomic operation.
 * The owner is the thread that created the pool, or that called pagemill_pool_adopt() last. A page of a pool
 * returns to it by pagemill_pool_put() or pagemill_pool_return(), and in no other way. */
typedef struct pagemill_pool pagemill_pool;

/* The parameters of a pool. */
struct pagemill_pool_params {
	size_t size;
	uint32_t ring_size; /* places for pages that other threads return; 0 for 1024, at most 16384 */
	uint32_t refill;    /* pages for one call to the allocator, 1 to 64; 0 for 64 */
	uint32_t gfp;       /* PAGEMILL_GFP flags; 0 for PAGEMILL_GFP_ATOMIC */
	uint32_t reserved;
};

/* The counters of a pool, with the names of Linux's page_pool. */
struct pagemill_pool_stats {
	size_t size;
	uint64_t alloc_fast;         /* pages from the owner's cache */
	uint64_t alloc_slow;         /* refills from the allocator */
	uint64_t alloc_empty;        /* refills that found the ring empty */
	uint64_t alloc_refill;       /* refills from the ring */
	uint64_t recycle_cached;     /* pages that the owner put into its cache */
	uint64_t recycle_cache_full; /* pages that the cache had no room for */
	uint64_t recycle_ring;       /* pages that came back through the ring */
	uint64_t recycle_ring_full;  /* times that the ring had no room */
	uint64_t nr_out;             /* pages that are out; approximate while other threads return some */
};

/* Creates a pool of pages of an allocator, owned by this thread, and stores its handle in *pool. params may be
 * null.
 * Returns PAGEMILL_OK or PAGEMILL_ECONFIG. At most 64 pools exist at the same time. */
int32_t pagemill_pool_create(pagemill_allocator *allocator, const struct pagemill_pool_params *params,
                             pagemill_pool **pool);

/* Destroys a pool and frees the pages in it. Owner only.
 * Returns PAGEMILL_OK, or PAGEMILL_EBUSY if pages are out; the pool is unchanged then.
 * No other thread may be in a call with the pool. */
int32_t pagemill_pool_destroy(pagemill_pool *pool);

/* Makes this thread the owner. The earlier owner must have finished its last call before. */
void pagemill_pool_adopt(pagemill_pool *pool);

/* Takes a page. Owner only. Returns 0 if memory is short. */
pagemill_page pagemill_pool_alloc(pagemill_pool *pool);

/* Fills the slots of an array that are 0 with pages, in order, and returns the length of the filled prefix.
 * Owner only. */
size_t pagemill_pool_alloc_bulk(pagemill_pool *pool, size_t nr, pagemill_page *pages);

/* Returns a page to the pool. Owner only; page 0 is ignored. */
void pagemill_pool_put(pagemill_pool *pool, pagemill_page page);

/* Returns the pages of an array to the pool, and sets its entries to 0. Any thread.
 * Cost: one atomic operation for 64 pages. */
void pagemill_pool_return(pagemill_pool *pool, size_t nr, pagemill_page *pages);

/* Stores the counters in *stats. Owner only. */
void pagemill_pool_get_stats(pagemill_pool *pool, struct pagemill_pool_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
