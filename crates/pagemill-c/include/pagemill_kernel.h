/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * pagemill in a kernel: creates an allocator of page frames in memory that the kernel supplies. The library
 * for this header, libpagemill_kernel.a, needs no operating system, no heap and no C library.
 * make -C crates/pagemill-c kernel TARGET=x86_64-unknown-none builds it.
 *
 * Of pagemill.h, it has all functions under "Functions that a process and a kernel share", and
 * pagemill_page_address(). A program links either this library or that of a process, not both.
 *
 * WRONG CALLS. A call that breaks a rule of the headers, and a contradiction that the allocator finds in its
 * data, end the kernel: the function fatal of the table gets one line, and the call never returns. Before the
 * first table, and if fatal returns, the call raises the exception of an undefined instruction; if the handler
 * of the exception returns, the call never does. Nothing unwinds.
 * The line names the function, the value and what is allowed. With PAGEMILL_KERNEL_PAGE_OWNER, that of a double
 * free names the function that frees the page for the second time. Without it, a double free is found later, by
 * the call that empties the page's list: its line, and that of a contradiction in the data, names the frame and not
 * the function. fatal runs on the stack of the call, so a backtrace in it shows the function.
 *
 * INTERRUPTS. A handler may allocate with PAGEMILL_GFP_ATOMIC and free at any moment if irq_save keeps every
 * such handler away. A handler that irq_save cannot keep away, such as that of an NMI, must not call any
 * function.
 *
 * COST. A bulk call of 64 pages costs what a Rust program pays, and at most 30 instructions, without those of
 * the functions pin and unpin.
 *
 * FRAMES. No two allocators may have a frame in common: each would hand it out, and would accept the other's
 * pages.
 *
 * MEMORY. The library defines memcpy, memmove, memset and memcmp as weak symbols: those of the kernel
 * take precedence. pagemill_kernel_create() needs at most 12 KiB of stack, and every other call at
 * most 6 KiB. The library does not use floating-point or vector registers on x86-64. */
#ifndef PAGEMILL_KERNEL_H
#define PAGEMILL_KERNEL_H

#include "pagemill.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Further results. */
#define PAGEMILL_ENOTRESERVED 9 /* a frame of the range is not in the memory map, or is not reserved */
#define PAGEMILL_ECORRUPT 10    /* the allocator's data contradict each other */

/* What happened in an allocator. The fields that an event does not have are 0. */
struct pagemill_event {
	const char *name; /* of Linux's tracepoint, such as "mm_page_pcpu_drain" */
	uint64_t nr_pages;
	uint64_t pfn;
	uint32_t gfp;
	uint32_t order;
};

/* What the kernel supplies. Set all fields that are not used to 0. The library copies the table. context is
 * passed to each function that has it. Functions are called on any CPU, also at the same time. None of them
 * may call the library. None but wait may sleep: a call from an interrupt handler calls them in that handler.
 *
 * A wrong table ends the kernel: by its own fatal, if it has one. The fields up to fatal are at the same place
 * in every version, so fatal is called even if size is wrong. */
struct pagemill_platform {
	/* sizeof(struct pagemill_platform), so that later versions can add fields. */
	size_t size;
	void *context;
	/* Required. Reports a line of length bytes, without a line break and without a zero at its end, and does
	 * not return. Called in any context, also with interrupts off and locks held. For all allocators, it is the
	 * function of the table that was passed to the library last. */
	void (*fatal)(const char *line, size_t length);
	/* The largest number of CPUs, at least 1. The size of the metadata, which grows with it, is the only upper
	 * limit. */
	uint32_t nr_cpus;
	uint32_t reserved; /* 0 */
	/* Required. Turns the interrupts of this CPU off and returns their earlier state; restores that state.
	 * Without them, an interrupt handler that allocates can wait for the code that it interrupted. Called in any
	 * context, also with interrupts off already. Pairs may nest: irq_restore turns interrupts on only if state
	 * says that they were on. */
	size_t (*irq_save)(void *context);
	void (*irq_restore)(void *context, size_t state);
	/* Required if nr_cpus is above 1. Turns preemption off and returns the number of this CPU, from 0 on. A
	 * wrong number costs time, and is no error. Called in any context, also with interrupts off. Pairs of pin
	 * and unpin may nest, for instance in an interrupt handler: count them. */
	uint32_t (*pin)(void *context);
	/* Optional. Reverts one pin: preemption is on again after the last. */
	void (*unpin)(void *context);
	/* One of these two is required. Returns the address of the first byte of a frame, at which it stays
	 * mapped; frames with adjacent numbers have adjacent addresses. The address must not be null: if frame 0 is
	 * mapped at address 0, put it into config.ranges. Fills nr frames with zeroes; if it is null, the library
	 * does so at their addresses. Both are called in the context of the call that allocates. */
	void *(*frame_address)(void *context, uint64_t pfn);
	void (*zero_pages)(void *context, uint64_t pfn, size_t nr);
	/* Optional. Called between two attempts to take a lock that another CPU holds, spins times so far. Called
	 * in any context, also with interrupts off. */
	void (*relax)(void *context, uint32_t spins);
	/* Optional, both or none. wait: register the thread as a waiter. Then call still(argument). If it returns
	 * 0, return at once. Otherwise block until wake is called, or for approximately 10 ms. Only requests with
	 * PAGEMILL_GFP_DIRECT_RECLAIM wait: in the context of the call, which may sleep, without a lock of the
	 * allocator and outside of pin and irq_save. wake: wake all threads in wait. Called in any context in which
	 * pages are freed, also in interrupt handlers, without a lock of the allocator. Without the two functions,
	 * requests that wait spin. */
	void (*wait)(void *context, int (*still)(void *argument), void *argument);
	void (*wake)(void *context);
	/* Optional. Receives events, except those of single pages. Called in any context, also with interrupts off
	 * and locks held: it must return soon. The event is valid during the call. */
	void (*trace)(void *context, const struct pagemill_event *event);
};

/* Usable memory of one node: in whole pages. */
struct pagemill_region {
	uint64_t start;     /* physical address, in bytes */
	uint64_t len_bytes; /* not 0 */
	uint8_t node;       /* 0 to 63 */
	uint8_t reserved[7];
};

/* Memory that must not be handed out. */
struct pagemill_range {
	uint64_t start;
	uint64_t len_bytes;
};

/* Flags of a configuration. */
#define PAGEMILL_KERNEL_PAGE_OWNER 1u    /* find every double free at once; 8 bytes for each page */
#define PAGEMILL_KERNEL_ZONE_DMA 2u      /* frames below 16 MiB are a zone */
#define PAGEMILL_KERNEL_NO_ZONE_DMA32 4u /* frames below 4 GiB are not a zone */

/* The memory that an allocator manages. Set all fields that are not used to 0. */
struct pagemill_kernel_config {
	/* sizeof(struct pagemill_kernel_config) */
	size_t size;
	/* The memory map: sorted by address, without overlaps, at most 65,536 regions, and 2^32 - 1 frames in all.
	 * Two nodes may not share 2 MiB of which the address is a multiple of 2 MiB. */
	const struct pagemill_region *regions;
	size_t nr_regions;
	/* Ranges that are in use: the kernel's image, what the loader left, the allocator's metadata. In any
	 * order; they may overlap, and lie outside of the regions. At most 65,536. */
	const struct pagemill_range *ranges;
	size_t nr_ranges;
	/* Optional: a buffer of message_size bytes, which receives the reason for PAGEMILL_ECONFIG, ends with a
	 * zero, and is cut off if it does not fit. */
	char *message;
	size_t message_size;
	/* The sum of the zones' min watermarks; 0 for Linux's rule, 4 * sqrt(KiB of memory) KiB. */
	uint64_t min_free_bytes;
	uint32_t flags; /* PAGEMILL_KERNEL flags */
	uint32_t reserved; /* 0 */
};

/* Stores how many bytes an allocator needs for itself, and the power of two of which their address is a
 * multiple. Depends on the regions, the flags and nr_cpus, and not on the ranges.
 * Returns PAGEMILL_OK or PAGEMILL_ECONFIG. */
int32_t pagemill_kernel_metadata_layout(const struct pagemill_platform *platform,
                                        const struct pagemill_kernel_config *config, size_t *size,
                                        size_t *align);

/* Creates an allocator of all frames of the regions that no range touches, and stores its handle in
 * *allocator. metadata has size bytes, at least those of pagemill_kernel_metadata_layout(). The allocator is
 * in them, and nothing else may use them until pagemill_kernel_destroy(). If they lie in a region, they must
 * lie in a range too; the library checks that if the table has frame_address, which it calls for the first
 * frame of each region.
 * Returns PAGEMILL_OK or PAGEMILL_ECONFIG: also if the metadata is misaligned, too small or not in a range, and
 * if 64 allocators exist. After an error, *allocator and the metadata are unchanged.
 * Cost: a few instructions for each 2 MiB. */
int32_t pagemill_kernel_create(const struct pagemill_platform *platform,
                               const struct pagemill_kernel_config *config, void *metadata, size_t size,
                               pagemill_allocator **allocator);

/* Ends an allocator; its metadata and its frames belong to the caller again.
 * Returns PAGEMILL_OK, or PAGEMILL_EBUSY if pages are in use, or in the stop callback of a request; the
 * allocator is unchanged then.
 * No other call with the allocator may run at the same time. */
int32_t pagemill_kernel_destroy(pagemill_allocator *allocator);

/* Compares all data of an allocator with each other. No other call with the allocator may run at the same
 * time, or it reports differences that are none.
 * Returns PAGEMILL_OK, or PAGEMILL_ECORRUPT and the first contradiction in message, which may be null and has
 * size bytes.
 * Cost: linear in the number of frames. */
int32_t pagemill_kernel_validate(pagemill_allocator *allocator, char *message, size_t size);

/* Frees the nr reserved frames from number first on: they can be allocated from now on. For memory that is in
 * use while the kernel starts.
 * Returns PAGEMILL_OK, or PAGEMILL_ENOTRESERVED if one of them is not in the memory map or not reserved;
 * nothing is changed then. */
int32_t pagemill_kernel_hand_in(pagemill_allocator *allocator, uint64_t first, size_t nr);

/* Frames by number. A frame's number is its physical address divided by PAGEMILL_PAGE_SIZE. Each page can be
 * freed by its integer or by its number, but only once. pagemill_page_pfn() returns the number of a page. */

/* Returns the page, or the block of 2^order pages, whose first frame has that number and which the caller
 * owns. From then on, it must not be freed by its number. */
pagemill_page pagemill_kernel_page_of_pfn(pagemill_allocator *allocator, uint64_t pfn, uint32_t order);

/* Allocates up to nr single pages, writes the numbers of their frames to the first entries of the array, and
 * returns how many it wrote. Does not read the array. */
size_t pagemill_kernel_alloc_pfns_bulk(pagemill_allocator *allocator, uint32_t gfp, size_t nr, uint64_t *pfns);

/* Frees single frames by their numbers, in any order. A number may be in the array once. */
void pagemill_kernel_free_pfns(pagemill_allocator *allocator, size_t nr, const uint64_t *pfns);

/* Frees the nr frames from number first on, whatever they were allocated as: pages, blocks, ranges, or pieces
 * of them. */
void pagemill_kernel_free_pfn_range(pagemill_allocator *allocator, uint64_t first, size_t nr);

#ifdef __cplusplus
}
#endif

#endif
