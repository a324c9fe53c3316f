//! The allocator interfaces of other frameworks, implemented on pagemill.
//!
//! | framework | interface | adapter |
//! | --- | --- | --- |
//! | crate `x86_64` | `FrameAllocator`, `FrameDeallocator` | [`paging::PagingFrames`] |
//! | ArceOS, crate `axallocator` 0.2 | `BaseAllocator`, `PageAllocator` | [`arceos::ArceosPages`] |
//! | Asterinas, crate `ostd` | `GlobalFrameAllocator` | [`asterinas::OstdFrames`] |
//!
//! An adapter holds a source of pages and the flags of its requests. Frameworks free by address and size;
//! [`ranges`] converts these to frame numbers.
//!
//! # Memory that is added later
//! ostd and ArceOS add memory piece by piece (`init`, `add_memory`, `add_free_memory`), and their first
//! call comes before a kernel could build an allocator. Describe all memory of the machine in
//! [`Config::memory`](pagemill::Config::memory) and reserve all of it: adding memory hands reserved frames
//! in. [`late::build`] builds the allocator in the first call, with its metadata in the memory of that call.
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
pub mod late;
#[cfg(feature = "x86_64")]
pub mod paging;
pub mod ranges;
