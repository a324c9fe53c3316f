//! The allocator interfaces of other frameworks, implemented on pagemill.
//!
//! | framework | interface | adapter |
//! | --- | --- | --- |
//! | crate `x86_64` | `FrameAllocator`, `FrameDeallocator` | [`paging::PagingFrames`] |
//! | ArceOS, crate `axallocator` 0.2 | `BaseAllocator`, `PageAllocator` | [`arceos::ArceosPages`] |
//! | Asterinas, crate `ostd` | `GlobalFrameAllocator` | [`asterinas::OstdFrames`] |
//!
//! Each adapter is a source of pages and the flags of its requests, and nothing else. What the
//! frameworks hand back is an address and a size, of which [`ranges`] makes frames again: pagemill keeps
//! what it needs for that (the zone, the migrate type) itself, so no adapter has a table.
//!
//! # Memory that is added later
//! Two of the interfaces receive their memory after they were made (`init`, `add_memory`,
//! `add_free_memory`). Describe all memory of the machine in [`Config::memory`](pagemill::Config::memory)
//! and all of it as reserved too: adding memory hands reserved frames in.
//!
//! # Long ranges in little memory
//! The lists of a CPU hand the page freed last to the next that wants one, wherever it lies. In a zone of a
//! few thousand frames this leaves fewer long ranges free than a bitmap that takes the lowest page first.
//! [`Config::pcp_high`](pagemill::Config::pcp_high) `= Some(1)` turns the lists off: pagemill then refuses
//! fewer ranges than axallocator's bitmap, as a test of this crate checks; with lists of the default
//! length, more.
#![no_std]

#[cfg(feature = "axallocator")]
pub mod arceos;
pub mod asterinas;
#[cfg(feature = "x86_64")]
pub mod paging;
pub mod ranges;
