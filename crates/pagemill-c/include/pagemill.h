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
 * function, the value and what is allowed, then SIGABRT. That is so for a null, destroyed or unknown handle,
 * a null or misaligned array, a number of entries or an order out of range, unknown flags, and a page that
 * is not the allocator's. A page that is freed twice ends the process too, but often later: when its
 * per-CPU list is emptied. With PAGEMILL_CONFIG_PAGE_OWNER, it does so at once. Circumstances that a correct
 * program can meet are reported as results.
 *
 * THREADS. Any thread may call any function with any allocator and any page, at the same time, unless the
 * function says otherwise. A signal handler must not call any function.
 *
 * FORK. An allocator and its pages belong to the process that created it. In a child of fork(), allocating
 * returns no page, freeing does nothing, and destroying unmaps the child's copy. */
#ifndef PAGEMILL_H
#define PAGEMILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Constants. ------------------------------------------------------------------------------------------- */

/* Bytes of a page, and the base-two logarithm of that. */
#define PAGEMILL_PAGE_SIZE 4096
#define PAGEMILL_PAGE_SHIFT 12

/* The largest order: 2^10 pages are 4 MiB. */
#define PAGEMILL_MAX_ORDER 10

/* Results of functions that can fail. pagemill_strerror() has their texts. */
#define PAGEMILL_OK 0          /* success */
#define PAGEMILL_ENOMEM 1      /* memory is short: no zone has enough above its watermark */
#define PAGEMILL_EFRAGMENTED 2 /* enough pages are free, but not that many adjacent ones */
#define PAGEMILL_ESTOPPED 3    /* the stop callback ended the request */
#define PAGEMILL_EFORKED 4     /* the allocator belongs to the parent process */
#define PAGEMILL_ERANGE 5      /* no zone can ever have such a range */
#define PAGEMILL_EBUSY 6       /* pages are still in use */
#define PAGEMILL_ECONFIG 7     /* the configuration is invalid; see pagemill_last_error() */
#define PAGEMILL_ESYSTEM 8     /* the operating system refused; see pagemill_last_error() */

/* Flags of a request, with Linux's names. */
#define PAGEMILL_GFP_DMA 0x1u             /* frames below 16 MiB */
#define PAGEMILL_GFP_HIGHMEM 0x2u         /* with MOVABLE: zone Movable is allowed */
#define PAGEMILL_GFP_DMA32 0x4u           /* frames below 4 GiB */
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

/* Types. ----------------------------------------------------------------------------------------------- */

/* An allocator. A handle, not an address: never read through it. A destroyed handle is recognised. */
typedef struct pagemill_allocator pagemill_allocator;

/* A page, or a block of 2^order adjacent pages; zero for none. */
typedef uint64_t pagemill_page;

/* Functions that a process and a kernel share. --------------------------------------------------------- */

/* Allocates a page.
 * Returns 0 if memory is short, or in a child of fork().
 * Cost: what a Rust program pays, and about 45 instructions. */
pagemill_page pagemill_alloc_page(pagemill_allocator *allocator, uint32_t gfp);

/* Allocates a block of 2^order adjacent pages, order 0 to PAGEMILL_MAX_ORDER.
 * Returns 0 if memory is short or fragmented, or in a child of fork(). No page is moved to make room. Its
 * address is a multiple of its size, or of 2 MiB for a block of 4 MiB.
 * Cost: blocks of the orders 0 to 3 and 9 come from per-CPU lists, others take a lock. */
pagemill_page pagemill_alloc_pages(pagemill_allocator *allocator, uint32_t gfp, uint32_t order);

/* Frees a page or a block of any order; page 0 is ignored. */
void pagemill_free_page(pagemill_allocator *allocator, pagemill_page page);

/* Fills the slots of an array that are 0 with single pages, in order, and returns the length of the filled
 * prefix that it has seen: every slot below the result has a page. Slots that are not 0 are left alone, and
 * those behind the result may have pages. Allocates at least one page if pagemill_alloc_page() would, and
 * more only while the zone stays above its low watermark. A caller that needs all pages repeats the call as
 * long as the result grows, or calls pagemill_fill().
 * nr is 0 to 2^40 - 1; with 0, pages may be null.
 * Cost: what a Rust program pays, and at most 30 instructions for each call. */
size_t pagemill_alloc_pages_bulk(pagemill_allocator *allocator, uint32_t gfp, size_t nr, pagemill_page *pages);

/* Frees the pages and blocks of an array, sets its entries to 0, and returns how many there were. Entries
 * that are 0 are skipped.
 * nr is 0 to 2^40 - 1; with 0, pages may be null.
 * Cost: what a Rust program pays, and at most 30 instructions for each call, if the pages are single and of
 * one kind, as a bulk call returns them. */
size_t pagemill_free_pages_bulk(pagemill_allocator *allocator, size_t nr, pagemill_page *pages);

/* Returns the number of free pages, without those in per-CPU lists. */
uint64_t pagemill_nr_free_pages(pagemill_allocator *allocator);

/* Functions of a process. ------------------------------------------------------------------------------ */

/* Creates an allocator of len_bytes of memory, a multiple of PAGEMILL_PAGE_SIZE, and stores its handle in
 * *allocator. The memory is mapped now, and committed when it is first written to. A part of it, the min
 * watermark, is left free by ordinary requests: of 64 MiB, 1 MiB.
 * Returns PAGEMILL_OK, PAGEMILL_ECONFIG or PAGEMILL_ESYSTEM; *allocator is unchanged after an error. At most
 * 64 allocators exist at the same time. */
int32_t pagemill_create(uint64_t len_bytes, pagemill_allocator **allocator);

/* Destroys an allocator and unmaps its memory.
 * Returns PAGEMILL_OK, or PAGEMILL_EBUSY if pages are in use; the allocator is unchanged then.
 * No other thread may be in a call with the allocator. */
int32_t pagemill_destroy(pagemill_allocator *allocator);

/* Returns the address of the first byte of a page or block. The bytes of a block are adjacent. The address
 * is the same until the allocator is destroyed. */
void *pagemill_page_address(pagemill_allocator *allocator, pagemill_page page);

/* Returns the text of a result of another function. The text is constant. */
const char *pagemill_strerror(int32_t error);

/* Returns why the last call of this thread returned PAGEMILL_ECONFIG or PAGEMILL_ESYSTEM, with the value and
 * what is allowed; "" if none did. Valid until the next such call of this thread. */
const char *pagemill_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
