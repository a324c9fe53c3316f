//! An allocator that is built when the first memory is added, with its metadata in that memory.

use core::fmt;
use core::ptr::NonNull;

use pagemill::machine::DirectMap;
use pagemill::setup::ConfigError;
use pagemill::source::OnceAllocator;
use pagemill::units::{PAGE_SIZE, Pfn};
use pagemill::{Config, PageAllocator, Platform};

/// Why an allocator was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// The memory that was added first is too small for the metadata.
    TooSmall {
        /// Number of frames added.
        nr: usize,
        /// Number of frames needed.
        needed: usize,
    },
    /// The static has an allocator already.
    Built,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::TooSmall { nr, needed } => write!(
                f,
                "{nr} frames are too few for the metadata: add a piece of memory of {needed} frames or \
                 more first"
            ),
            Self::Built => write!(f, "the static has an allocator already: build it once"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            _ => None,
        }
    }
}

/// Builds the allocator of a static with the `nr` frames from `first` on, the first that were added, and
/// returns those of them that the metadata does not need.
///
/// `config` reserves all memory of its map. The frames of the metadata stay reserved. The caller hands the
/// returned frames in.
///
/// # Errors
/// See [`BuildError`]; nothing was written then.
///
/// # Safety
/// 1. Nothing uses the frames, and the direct map of `platform` shows them for as long as the static lives.
/// 2. `config` reserves all memory of its map, or nothing uses the memory that it does not reserve.
///
/// # Examples
/// A frame allocator for `ostd`. `ostd` calls `add_free_memory` on one CPU during its start, before it
/// allocates.
/// ```
/// use core::alloc::Layout;
///
/// use pagemill::setup::{MemoryRegion, ReservedRange};
/// use pagemill::units::{Pfn, PhysAddr};
/// use pagemill::{Config, Gfp, Platform};
/// use pagemill_adapters::asterinas::{GlobalFrameAllocator, OstdFrames, Paddr};
/// use pagemill_adapters::late;
/// # use pagemill_testkit::Machine;
/// # fn machine() -> Machine { unimplemented!() }
/// # fn regions() -> &'static [MemoryRegion] { unimplemented!() }
///
/// pagemill::static_allocator! {
///     static ALLOCATOR: Machine; // implements Platform and DirectMap
///     type Frames;
/// }
///
/// /// The adapter, once there is an allocator.
/// // SAFETY: `ostd` frees what it allocated, and adds memory that nothing uses, which is reserved.
/// static OSTD: OstdFrames<Frames> = unsafe { OstdFrames::new(Frames::new(), Gfp::ATOMIC) };
///
/// struct KernelFrames;
///
/// impl GlobalFrameAllocator for KernelFrames {
///     fn alloc(&self, layout: Layout) -> Option<Paddr> {
///         OSTD.alloc(layout)
///     }
///
///     fn dealloc(&self, addr: Paddr, size: usize) {
///         OSTD.dealloc(addr, size);
///     }
///
///     fn add_free_memory(&self, addr: Paddr, size: usize) {
///         if ALLOCATOR.get().is_some() {
///             return OSTD.add_free_memory(addr, size);
///         }
///         let (first, nr) = Pfn::within(PhysAddr::new(addr as u64), size as u64);
///         let memory = regions(); // from the boot information: usable memory, sorted
///         let all = [ReservedRange { start: PhysAddr::new(0), len_bytes: 1 << 52 }];
///         let machine = machine();
///         let config = Config { reserved: &all, ..Config::new(memory, machine.nr_cpus()) };
///         // SAFETY: `ostd` adds memory that nothing uses, and maps all of it from its start on.
///         let rest = unsafe { late::build(&ALLOCATOR, machine, &config, first, nr) };
///         let (first, nr) = rest.unwrap_or_else(|error| panic!("add_free_memory: {error}"));
///         OSTD.add_free_memory(first.start().value() as usize, nr << 12);
///     }
/// }
/// ```
pub unsafe fn build<P: Platform + DirectMap>(
    allocator: &OnceAllocator<P>,
    platform: P,
    config: &Config<'_>,
    first: Pfn,
    nr: usize,
) -> Result<(Pfn, usize), BuildError> {
    if allocator.get().is_some() {
        return Err(BuildError::Built);
    }
    let layout = PageAllocator::<P>::metadata_layout(config).map_err(BuildError::Config)?;
    let needed = layout.size().div_ceil(PAGE_SIZE);
    if nr < needed {
        return Err(BuildError::TooSmall { nr, needed });
    }
    // A frame is aligned to more than the metadata needs.
    let metadata = NonNull::slice_from_raw_parts(platform.frame_ptr(first), layout.size());
    // SAFETY: 1. metadata mapped for as long as the allocator lives, initialised (memory has some value),
    // and used by nothing else: obligation 1 of the caller, who keeps these frames reserved. 2. no frame
    // that is not reserved is in use: obligation 2.
    let built = unsafe { PageAllocator::new(config, metadata, platform) };
    let built = built.map_err(BuildError::Config)?;
    allocator.set(built).map_err(|_| BuildError::Built)?;
    Ok((first.offset(needed as u64), nr - needed))
}
