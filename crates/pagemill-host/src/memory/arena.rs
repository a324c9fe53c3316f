//! Arena: mapped memory for frames and metadata, with huge pages, prefaulting and locking.
//!
//! An arena is one range of addresses that begins at a multiple of 2 MiB, so that a pageblock can be
//! one huge page. It is accessible as a pointer and a length, never as a slice: only the allocator
//! knows who owns each page.

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pagemill::units::{PAGE_SIZE, PAGEBLOCK_NR_PAGES};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::cpu::sysfs;
use crate::error::{HUGE_PAGE_BYTES, HostError};
use crate::memory::mapping::{Commit, Mapping};
use crate::memory::pins::{ArenaPin, Pins};

/// The configuration of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaConfig {
    /// The length: a multiple of [`PAGE_SIZE`], of 2 MiB for [`HugePages::HugeTlb`], and not zero.
    pub len_bytes: u64,
    /// The kind of memory behind the addresses.
    pub backing: Backing,
    /// Whether to use pages of 2 MiB.
    pub huge: HugePages,
    /// Whether to allocate all pages now, instead of by page faults on first access.
    ///
    /// Without it the system does not commit memory either (`MAP_NORESERVE`): the arena may be larger
    /// than the machine's memory, and a process that uses too much is killed.
    pub prefault: bool,
    /// Whether to lock pages in memory: all of them, or without [`prefault`](Self::prefault) each from
    /// its first access on.
    pub lock: bool,
}

impl ArenaConfig {
    /// Configures `len_bytes` of anonymous memory, in huge pages if available, allocated on first
    /// access.
    #[must_use]
    pub const fn new(len_bytes: u64) -> Self {
        Self {
            len_bytes,
            backing: Backing::Anonymous,
            huge: HugePages::Auto,
            prefault: false,
            lock: false,
        }
    }

    /// Returns the length if it is valid for an arena.
    ///
    /// # Errors
    /// [`HostError::ArenaLength`] for zero, or not a multiple of the page size.
    pub(crate) fn checked_len(&self) -> Result<usize, HostError> {
        let multiple_of = match self.huge {
            HugePages::HugeTlb => HUGE_PAGE_BYTES,
            HugePages::Never | HugePages::Auto | HugePages::Transparent => PAGE_SIZE as u64,
        };
        let len_bytes = self.len_bytes;
        match usize::try_from(len_bytes) {
            Ok(len) if len != 0 && len_bytes.is_multiple_of(multiple_of) => Ok(len),
            _ => Err(HostError::ArenaLength { len_bytes, multiple_of }),
        }
    }
}

/// The memory behind an arena's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// Memory of this process alone.
    Anonymous,
    /// A memfd, which can be passed to another process and mapped there.
    Memfd,
}

/// Whether an arena uses pages of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Pages of the base size, even if the system would use larger ones.
    Never,
    /// Pages from the hugetlb pool if it has enough and the length fits, else as with
    /// [`Transparent`](Self::Transparent).
    Auto,
    /// Huge pages when the kernel has some, advised but not promised; [`Arena::kind`] returns whether
    /// the system's settings rule them out.
    Transparent,
    /// Pages from the hugetlb pool, or an error.
    HugeTlb,
}

/// The kind of pages that an arena has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArenaPages {
    /// Pages of the system's base size.
    Base,
    /// Huge pages when the kernel has some; it was advised, and its settings permit it.
    Transparent,
    /// Pages of 2 MiB from the hugetlb pool, each of them reserved.
    HugeTlb,
}

/// The actual properties of an arena, which may be less than configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaKind {
    /// The memory behind the addresses.
    pub backing: Backing,
    /// The kind of pages.
    pub pages: ArenaPages,
    /// Whether all pages were allocated when the arena was made.
    pub prefaulted: bool,
    /// Whether pages stay in memory once allocated.
    pub locked: bool,
}

impl fmt::Display for ArenaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.backing {
            Backing::Anonymous => "anonymous",
            Backing::Memfd => "memfd",
        })?;
        f.write_str(match self.pages {
            ArenaPages::Base => ", base pages",
            ArenaPages::Transparent => ", transparent huge pages",
            ArenaPages::HugeTlb => ", 2 MiB hugetlb pages",
        })?;
        if self.prefaulted {
            f.write_str(", prefaulted")?;
        }
        if self.locked {
            f.write_str(", locked")?;
        }
        Ok(())
    }
}

/// A range of mapped memory, unmapped on drop.
///
/// Upholds `arena-initialised`. After a `fork`, the child has its own copy of an anonymous arena
/// and no part of a memfd arena, which it must neither use nor drop: so two processes never own
/// one page.
#[derive(Debug)]
pub struct Arena {
    mapping: Mapping,
    memfd: Option<OwnedFd>,
    len_bytes: usize,
    kind: ArenaKind,
    pins: Arc<Pins>,
}

impl Arena {
    /// Maps the memory that `config` describes.
    ///
    /// # Errors
    /// [`HostError::ArenaLength`] before anything is mapped; else the variant for the system call that
    /// failed. Nothing stays mapped then.
    pub fn map(config: &ArenaConfig) -> Result<Self, HostError> {
        let len_bytes = config.checked_len()?;
        let mut arena = match config.huge {
            HugePages::HugeTlb => Self::from_hugetlb(len_bytes, config.backing)?,
            HugePages::Auto if config.len_bytes.is_multiple_of(HUGE_PAGE_BYTES) => {
                // Only an attempt shows whether it works: the number of free pages may change before
                // the result is used, and the pool may be allowed to grow.
                Self::from_hugetlb(len_bytes, config.backing)
                    .or_else(|_none_left| Self::from_base_pages(len_bytes, config))?
            }
            HugePages::Auto | HugePages::Transparent | HugePages::Never => {
                Self::from_base_pages(len_bytes, config)?
            }
        };
        if config.prefault {
            arena.prefault()?;
        }
        if config.lock {
            arena.lock()?;
        }
        Ok(arena)
    }

    /// Maps zeroed memory for the metadata of frames, at least `len_bytes` of it.
    ///
    /// Pages are allocated on first access, so metadata about unused memory costs only addresses. The
    /// length is rounded up to a multiple of [`PAGE_SIZE`].
    ///
    /// # Errors
    /// [`HostError::ArenaLength`] for zero, [`HostError::Anonymous`] for more than can be mapped.
    pub fn metadata(len_bytes: u64) -> Result<Self, HostError> {
        let rounded = len_bytes.checked_next_multiple_of(PAGE_SIZE as u64);
        Self::map(&ArenaConfig {
            huge: HugePages::Transparent,
            ..ArenaConfig::new(rounded.unwrap_or(len_bytes))
        })
    }

    /// Returns the first byte, at a multiple of 2 MiB.
    #[inline]
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    /// Returns the number of bytes, a multiple of [`PAGE_SIZE`].
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Returns the number of frames.
    #[inline]
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.len_bytes / PAGE_SIZE
    }

    /// Returns the arena's actual properties.
    #[must_use]
    pub fn kind(&self) -> ArenaKind {
        self.kind
    }

    /// Keeps all memory of the arena from being returned to the system, until the pin is dropped.
    ///
    /// To be called before the arena is registered with a device or with the kernel.
    pub fn pin(&self) -> ArenaPin {
        ArenaPin::new(&self.pins)
    }

    /// Returns a part of the arena to the system: its bytes are zeroes afterwards (`arena-initialised`), and
    /// take no memory until they are written.
    ///
    /// # Errors
    /// [`HostError::Pinned`] while the arena is [pinned](Self::pin); [`HostError::Discard`].
    ///
    /// # Safety
    /// 1. The part is within the arena, at multiples of the size of its pages.
    /// 2. The caller owns all frames in it.
    pub(crate) unsafe fn discard(
        &self,
        offset_bytes: usize,
        len_bytes: usize,
    ) -> Result<(), HostError> {
        let is_shared = self.memfd.is_some();
        let discard = || {
            // SAFETY:
            // 1. Within the mapping, which is at least as long as the arena: guaranteed by the caller.
            // 2. The caller owns the frames.
            unsafe { self.mapping.discard(offset_bytes, len_bytes, is_shared) }
        };
        // `pinned-resident`: no registration begins or exists meanwhile.
        let discarded = self.pins.unless_pinned(discard);
        let discarded = discarded.map_err(|nr_pins| HostError::Pinned { nr_pins })?;
        discarded
            .map_err(|errno| HostError::Discard { len_bytes: len_bytes as u64, os: errno.into() })
    }

    /// Returns the file behind a [`Backing::Memfd`] arena, which begins at its offset zero.
    ///
    /// It can be mapped elsewhere, and is sealed against growing and shrinking.
    ///
    /// # Safety
    /// Writing to the file or punching holes into it, in this process or in one that the file was
    /// passed to, changes the bytes of pages regardless of their owners, and safe code can do both.
    /// All code that can reach the file must change only bytes of frames that it owns.
    #[must_use]
    pub unsafe fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.memfd.as_ref().map(AsFd::as_fd)
    }

    fn from_hugetlb(len_bytes: usize, backing: Backing) -> Result<Self, HostError> {
        let map = || -> rustix::io::Result<(Mapping, Option<OwnedFd>)> {
            match backing {
                Backing::Anonymous => Ok((Mapping::huge_pages(len_bytes)?, None)),
                Backing::Memfd => {
                    let file = new_memfd(len_bytes, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB)?;
                    let mut mapping = Mapping::huge_file(file.as_fd(), len_bytes)?;
                    mapping.keep_from_children()?;
                    Ok((mapping, Some(file)))
                }
            }
        };
        let (mapping, memfd) = map().map_err(|errno| HostError::HugeTlb {
            len_bytes: len_bytes as u64,
            os: errno.into(),
        })?;
        Ok(Self::new(mapping, memfd, len_bytes, ArenaPages::HugeTlb))
    }

    fn from_base_pages(len_bytes: usize, config: &ArenaConfig) -> Result<Self, HostError> {
        let commit = if config.prefault { Commit::AtOnce } else { Commit::Lazily };
        let map = || -> rustix::io::Result<(Mapping, Option<OwnedFd>)> {
            match config.backing {
                Backing::Anonymous => {
                    let mapping = Mapping::reserve(len_bytes, ALIGN, commit)?;
                    mapping.make_writable()?;
                    Ok((mapping, None))
                }
                Backing::Memfd => {
                    // Addresses first: that fails for an absurd length, where a file would not.
                    let reserved = Mapping::reserve(len_bytes, ALIGN, Commit::Lazily)?;
                    let file = new_memfd(len_bytes, MemfdFlags::empty())?;
                    let mut mapping = reserved.replace_with_file(file.as_fd())?;
                    mapping.keep_from_children()?;
                    Ok((mapping, Some(file)))
                }
            }
        };
        let (mapping, memfd) = map().map_err(|errno| {
            let (len_bytes, os) = (len_bytes as u64, errno.into());
            match config.backing {
                Backing::Anonymous => HostError::Anonymous { len_bytes, os },
                Backing::Memfd => HostError::Memfd { len_bytes, os },
            }
        })?;
        let pages = if config.huge == HugePages::Never {
            // A kernel that refuses this advice has no huge pages to avoid.
            let _only_advice = mapping.advise_base_pages();
            ArenaPages::Base
        } else if mapping.advise_huge_pages().is_ok() && permits_huge_pages(config.backing) {
            ArenaPages::Transparent
        } else {
            ArenaPages::Base
        };
        Ok(Self::new(mapping, memfd, len_bytes, pages))
    }

    fn new(mapping: Mapping, memfd: Option<OwnedFd>, len_bytes: usize, pages: ArenaPages) -> Self {
        let kind = ArenaKind {
            backing: match memfd {
                Some(_) => Backing::Memfd,
                None => Backing::Anonymous,
            },
            pages,
            prefaulted: false,
            locked: false,
        };
        Self { mapping, memfd, len_bytes, kind, pins: Arc::default() }
    }

    fn prefault(&mut self) -> Result<(), HostError> {
        match self.mapping.populate() {
            Ok(()) => {}
            Err(Errno::INVAL) => {
                // SAFETY:
                // 1. Every arena is mapped readable and writable.
                // 2. The caller has just mapped it and given no other code access to it. The
                //    descriptor of a new file has not left this process either.
                unsafe { self.mapping.touch() };
            }
            Err(errno) => {
                return Err(HostError::Prefault {
                    len_bytes: self.len_bytes as u64,
                    os: errno.into(),
                });
            }
        }
        self.kind.prefaulted = true;
        Ok(())
    }

    fn lock(&mut self) -> Result<(), HostError> {
        let locked =
            if self.kind.prefaulted { self.mapping.lock() } else { self.mapping.lock_on_touch() };
        locked.map_err(|errno| HostError::Lock {
            len_bytes: self.len_bytes as u64,
            limit_bytes: getrlimit(Resource::Memlock).current,
            os: errno.into(),
        })?;
        self.kind.locked = true;
        Ok(())
    }
}

/// Makes a memfd of fixed length.
fn new_memfd(len_bytes: usize, flags: MemfdFlags) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | flags;
    let file = memfd_create("pagemill", flags)?;
    ftruncate(&file, len_bytes as u64)?;
    // A process that could shrink the file would turn our next access into SIGBUS (`mapping-owned`).
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Returns whether the system's settings permit transparent huge pages of 2 MiB for advised memory.
fn permits_huge_pages(backing: Backing) -> bool {
    const DIRECTORY: &str = "/sys/kernel/mm/transparent_hugepage";

    let name = match backing {
        Backing::Anonymous => "enabled",
        Backing::Memfd => "shmem_enabled",
    };
    let chosen = |path: String| {
        let text = sysfs::read(&path)?;
        sysfs::selected(&text).map(str::to_owned)
    };
    // Since Linux 6.8 each size has its own setting, which may defer to the general one.
    let of_size = chosen(format!("{DIRECTORY}/hugepages-2048kB/{name}"));
    let choice = match of_size.as_deref() {
        None | Some("inherit") => chosen(format!("{DIRECTORY}/{name}")),
        Some(_) => of_size,
    };
    choice.is_some_and(|choice| !matches!(choice.as_str(), "never" | "deny"))
}

/// Alignment of an arena's address.
const ALIGN: usize = PAGEBLOCK_NR_PAGES * PAGE_SIZE;
// So that a pageblock can be one huge page.
const _: () = assert!(ALIGN as u64 == HUGE_PAGE_BYTES);

#[cfg(test)]
mod tests;
