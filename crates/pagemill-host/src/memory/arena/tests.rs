//! Arenas of every kind, mapped for real.

use core::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::error::OsError;

const MIB: u64 = 1 << 20;

/// Writes a byte and reads it back.
fn write(arena: &Arena, offset_bytes: usize, value: u8) {
    assert!(offset_bytes < arena.len_bytes());
    // SAFETY:
    // 1. The offset is inside the arena.
    let byte = unsafe { arena.base().add(offset_bytes) };
    // SAFETY:
    // 1. The byte is writable (`arena-initialised`).
    // 2. No test shares its arena with another thread.
    unsafe { byte.write(value) };
}

fn read(arena: &Arena, offset_bytes: usize) -> u8 {
    assert!(offset_bytes < arena.len_bytes());
    // SAFETY:
    // 1. The offset is inside the arena.
    let byte = unsafe { arena.base().add(offset_bytes) };
    // SAFETY:
    // 1. The byte is readable and has a value (`arena-initialised`).
    // 2. No test shares its arena with another thread.
    unsafe { byte.read() }
}

fn assert_usable(arena: &Arena, len_bytes: u64) {
    assert_eq!(arena.len_bytes() as u64, len_bytes);
    assert_eq!(arena.nr_pages(), arena.len_bytes() / PAGE_SIZE);
    assert_eq!(arena.base().addr().get() as u64 % HUGE_PAGE_BYTES, 0);
    let last = arena.len_bytes() - 1;
    for offset_bytes in [0, last / 2, last] {
        assert_eq!(read(arena, offset_bytes), 0);
        write(arena, offset_bytes, 0xa5);
        assert_eq!(read(arena, offset_bytes), 0xa5);
    }
}

/// Returns the file behind an arena.
fn file_of(arena: &Arena) -> Option<BorrowedFd<'_>> {
    // SAFETY:
    // 1. No allocator uses the arenas of these tests, so their frames have no owners.
    unsafe { arena.memfd() }
}

#[test]
fn every_backing_is_aligned_zeroed_and_writable() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        for huge in [HugePages::Never, HugePages::Auto, HugePages::Transparent] {
            for prefault in [false, true] {
                for len_bytes in [PAGE_SIZE as u64, 3 * MIB, 4 * MIB] {
                    let arena = Arena::map(&ArenaConfig {
                        backing,
                        huge,
                        prefault,
                        ..ArenaConfig::new(len_bytes)
                    })
                    .unwrap();
                    assert_usable(&arena, len_bytes);
                    assert_eq!(arena.kind().backing, backing);
                    assert_eq!(arena.kind().prefaulted, prefault);
                    assert_eq!(file_of(&arena).is_some(), backing == Backing::Memfd);
                }
            }
        }
    }
}

#[test]
fn hugetlb_is_had_or_its_error_names_the_pool() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let mapped = Arena::map(&ArenaConfig {
            backing,
            huge: HugePages::HugeTlb,
            ..ArenaConfig::new(4 * MIB)
        });
        match mapped {
            Ok(arena) => {
                assert_usable(&arena, 4 * MIB);
                assert_eq!(arena.kind().pages, ArenaPages::HugeTlb);
            }
            Err(error) => {
                assert!(
                    matches!(error, HostError::HugeTlb { len_bytes, .. } if len_bytes == 4 * MIB)
                );
                let message = error.to_string();
                assert!(message.contains("4 MiB"), "{message}");
                assert!(message.contains("2 pages of 2 MiB"), "{message}");
                assert!(message.contains("/proc/sys/vm/nr_hugepages"), "{message}");
                assert!(error.source().is_some());
            }
        }
    }
}

#[test]
fn lengths_that_are_not_whole_pages_are_refused() {
    let refused = |len_bytes, huge| {
        let config = ArenaConfig { huge, ..ArenaConfig::new(len_bytes) };
        Arena::map(&config).unwrap_err()
    };
    for len_bytes in [0, 1, 4095, 4097, u64::MAX] {
        let expected = HostError::ArenaLength { len_bytes, multiple_of: 4096 };
        assert_eq!(refused(len_bytes, HugePages::Auto), expected);
    }
    for len_bytes in [0, 4096, 3 * MIB] {
        let expected = HostError::ArenaLength { len_bytes, multiple_of: 2 * MIB };
        assert_eq!(refused(len_bytes, HugePages::HugeTlb), expected);
    }
    assert_eq!(
        refused(3 * MIB, HugePages::HugeTlb).to_string(),
        "an arena cannot be 3 MiB long: allowed are multiples of 2 MiB, not zero"
    );
}

#[test]
fn absurd_length_is_refused_by_name() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        for prefault in [false, true] {
            let error = Arena::map(&ArenaConfig { backing, prefault, ..ArenaConfig::new(1 << 60) })
                .unwrap_err();
            let message = error.to_string();
            assert!(message.contains("an arena of 1 EiB "), "{message}");
            assert!(message.contains("Cannot allocate memory"), "{message}");
            let os = error.source().unwrap().downcast_ref::<OsError>().unwrap();
            assert_eq!(os.raw(), libc::ENOMEM);
        }
    }
    // The last page-aligned length there is; rounding it up for alignment must not wrap.
    let length = u64::MAX - (PAGE_SIZE as u64 - 1);
    assert!(matches!(Arena::map(&ArenaConfig::new(length)), Err(HostError::Anonymous { .. })));
}

#[test]
fn memfd_shows_what_the_arena_holds() {
    let arena =
        Arena::map(&ArenaConfig { backing: Backing::Memfd, ..ArenaConfig::new(4 * MIB) }).unwrap();
    let last = arena.len_bytes() - 1;
    write(&arena, 0, 1);
    write(&arena, last, 2);
    let file = File::from(file_of(&arena).unwrap().try_clone_to_owned().unwrap());
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [1]);
    file.read_exact_at(&mut byte, last as u64).unwrap();
    assert_eq!(byte, [2]);
    file.write_all_at(&[3], 4096).unwrap();
    assert_eq!(read(&arena, 4096), 3);
}

#[test]
fn memfd_keeps_its_length() {
    let arena =
        Arena::map(&ArenaConfig { backing: Backing::Memfd, ..ArenaConfig::new(4 * MIB) }).unwrap();
    let file = File::from(file_of(&arena).unwrap().try_clone_to_owned().unwrap());
    for len_bytes in [0, 8 * MIB] {
        let error = file.set_len(len_bytes).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
    assert_eq!(file.metadata().unwrap().len(), 4 * MIB);
}

/// Two processes must not own one page: neither a child nor a program that this one starts gets the
/// file or the memory behind it.
#[test]
#[cfg_attr(miri, ignore = "forks")]
fn a_memfd_arena_is_not_passed_on() {
    let arena =
        Arena::map(&ArenaConfig { backing: Backing::Memfd, ..ArenaConfig::new(4 * MIB) }).unwrap();
    let flags = rustix::io::fcntl_getfd(file_of(&arena).unwrap()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "a program that this one starts");
    let is_mapped = |base: NonNull<u8>, len_bytes: usize| {
        // SAFETY:
        // 1. The call reports ENOMEM if nothing is mapped there, and changes nothing.
        unsafe { libc::msync(base.as_ptr().cast(), len_bytes, libc::MS_ASYNC) == 0 }
    };
    let (base, len_bytes) = (arena.base(), arena.len_bytes());
    assert!(is_mapped(base, len_bytes), "in this process");
    // SAFETY:
    // 1. The child makes two system calls and ends, which needs no lock that another thread held.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let status = i32::from(is_mapped(base, len_bytes));
        // SAFETY:
        // 1. The call ends the child at once, and runs none of the parent's exit handlers.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY:
    // 1. The pointer is to a local integer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert!(libc::WIFEXITED(status), "status {status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child has the memory");
}

#[test]
fn locked_arena_says_so_or_its_error_names_the_limit() {
    for prefault in [false, true] {
        let mapped = Arena::map(&ArenaConfig { prefault, lock: true, ..ArenaConfig::new(2 * MIB) });
        match mapped {
            Ok(arena) => {
                assert_usable(&arena, 2 * MIB);
                assert!(arena.kind().to_string().ends_with(", locked"));
            }
            Err(error) => {
                assert!(matches!(error, HostError::Lock { .. }), "{error}");
                assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
            }
        }
    }
}

#[test]
fn metadata_is_sparse_zeroed_and_rounded_up() {
    // Metadata of 1 TiB of memory, at 16 bytes per frame.
    let metadata = Arena::metadata((4 << 30) + 1).unwrap();
    assert_usable(&metadata, (4 << 30) + PAGE_SIZE as u64);
    assert!(matches!(Arena::metadata(0), Err(HostError::ArenaLength { len_bytes: 0, .. })));
    assert!(matches!(
        Arena::metadata(u64::MAX),
        Err(HostError::ArenaLength { len_bytes: u64::MAX, .. })
    ));
}

#[test]
fn pages_asked_never_to_be_huge_are_not() {
    let arena = Arena::map(&ArenaConfig {
        huge: HugePages::Never,
        prefault: true,
        ..ArenaConfig::new(4 * MIB)
    })
    .unwrap();
    assert_eq!(arena.kind().pages, ArenaPages::Base);
    assert_eq!(arena.kind().to_string(), "anonymous, base pages, prefaulted");
}

#[test]
fn kind_is_shown_for_people() {
    let kind = ArenaKind {
        backing: Backing::Anonymous,
        pages: ArenaPages::Transparent,
        prefaulted: true,
        locked: true,
    };
    assert_eq!(kind.to_string(), "anonymous, transparent huge pages, prefaulted, locked");
    let kind = ArenaKind {
        backing: Backing::Memfd,
        pages: ArenaPages::HugeTlb,
        prefaulted: false,
        locked: false,
    };
    assert_eq!(kind.to_string(), "memfd, 2 MiB hugetlb pages");
}

#[test]
fn arenas_can_be_moved_and_shared_between_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Arena>();
}
