//! A read cache: blocks of a file in pages, read 64 at a time, freed when memory is short.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fs, thread};

use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Gfp, Page, Shortage};
use pagemill_host::{Host, HostAllocator};

// A static allocator makes a page handle one word.
pagemill::static_allocator! {
    static ALLOCATOR: Host;
    type Frames;
}
const FRAMES: Frames = Frames::new();

const ARENA_BYTES: u64 = 64 << 20;
const EXTENT_PAGES: usize = 64;
const EXTENT_BYTES: u64 = (EXTENT_PAGES * PAGE_SIZE) as u64;

/// 256 KiB of the file, in pages that need not be adjacent. Dropping it frees them.
type Extent = [Option<Page<Frames>>; EXTENT_PAGES];

/// The extents in memory, by their number in the file.
struct Cache(Mutex<BTreeMap<u64, Extent>>);

static CACHE: Cache = Cache(Mutex::new(BTreeMap::new()));

impl Cache {
    fn extents(&self) -> MutexGuard<'_, BTreeMap<u64, Extent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes extents until `nr` pages are free, and returns how many pages that were.
    fn evict(extents: &mut BTreeMap<u64, Extent>, nr: usize) -> usize {
        let mut freed = 0;
        while freed < nr
            && let Some((_, mut extent)) = extents.pop_first()
        {
            freed += FRAMES.release_pages(&mut extent); // 64 pages in one call
        }
        freed
    }

    /// Returns the first byte of an extent, read from `file` if it is not in memory.
    fn first_byte(&self, file: &mut File, number: u64) -> Result<u8, Box<dyn Error>> {
        if let Some(extent) = self.extents().get(&number) {
            return Ok(first_byte_of(extent));
        }
        // No lock is held here: the call may ask the cache for pages.
        let extent = read(file, number)?;
        let byte = first_byte_of(&extent);
        self.extents().insert(number, extent);
        Ok(byte)
    }
}

/// The allocator asks the cache for pages when a request finds too few free ones.
impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        self.0.try_lock().map_or(0, |extents| extents.len() * EXTENT_PAGES)
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        // Not `lock`: the thread that holds it could be waiting for this call.
        self.0.try_lock().map_or(0, |mut extents| Self::evict(&mut extents, nr))
    }
}

fn first_byte_of(extent: &Extent) -> u8 {
    extent[0].as_ref().map_or(0, |page| page.as_bytes()[0])
}

/// Reads an extent: one call for its pages, one system call for its bytes.
fn read(file: &mut File, number: u64) -> Result<Extent, Box<dyn Error>> {
    let mut extent = [const { None }; EXTENT_PAGES];
    // On an error, the pages that were allocated are in `extent`, and the next call continues there.
    while let Err(error) = FRAMES.fill(Gfp::KERNEL, &mut extent) {
        let freed = match error.short {
            // The shrinker was asked, and could not lock the cache. This thread can wait for the lock.
            Shortage::Memory => Cache::evict(&mut CACHE.extents(), EXTENT_PAGES),
            _ => 0,
        };
        if freed == 0 {
            return Err(error.into()); // drops `extent`, which frees its pages
        }
    }
    file.seek(SeekFrom::Start(number * EXTENT_BYTES))?;
    let pages = extent.iter_mut().flatten();
    let mut slices: Vec<_> = pages.map(|page| IoSliceMut::new(page.as_bytes_mut())).collect();
    let nr_bytes = file.read_vectored(&mut slices)?;
    if nr_bytes as u64 != EXTENT_BYTES {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(extent)
}

/// Reads all extents through the cache, twice, from the start to the end and back.
fn reader(path: &Path, nr_extents: u64) -> Result<u64, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let mut sum = 0;
    for number in (0..nr_extents).chain((0..nr_extents).rev()) {
        sum += u64::from(CACHE.first_byte(&mut file, number)?);
    }
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    let frames = HostAllocator::new(ARENA_BYTES)?;
    let nr_pages = frames.nr_free_pages();
    assert!(ALLOCATOR.set(frames.into_inner()).is_ok(), "set once");
    let allocator = ALLOCATOR.get().expect("set above");
    let registered = allocator.register_shrinker(&CACHE)?;

    // A file twice as large as the arena. Its first byte is 1, all others are 0.
    let path = env::temp_dir().join(format!("pagemill-guide-{}", std::process::id()));
    fs::write(&path, [1])?;
    File::options().write(true).open(&path)?.set_len(2 * ARENA_BYTES)?;
    let nr_extents = 2 * ARENA_BYTES / EXTENT_BYTES;
    let read = || reader(&path, nr_extents).map_err(|error| error.to_string());
    let sums = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    fs::remove_file(&path)?;
    for sum in sums {
        assert_eq!(sum?, 2, "each thread read the byte twice");
    }
    println!("{} extents cached, {} pages free", CACHE.extents().len(), allocator.nr_free_pages());

    // A request that must not wait gets what is free. One that may wait gets pages of the cache.
    let mut burst: Vec<Option<Page<Frames>>> = (0..4096).map(|_| None).collect();
    if let Err(error) = FRAMES.fill(Gfp::NOWAIT, &mut burst) {
        println!("NOWAIT: {error}");
    }
    FRAMES.fill(Gfp::KERNEL, &mut burst)?;
    println!("KERNEL: all {} pages; {} extents cached", burst.len(), CACHE.extents().len());
    FRAMES.release_pages(&mut burst);

    for zone in allocator.zone_info() {
        let marks = zone.watermarks;
        println!(
            "zone {:?}: {} of {} pages free; min {}, low {}, high {}",
            zone.kind, zone.nr_free_pages, zone.managed, marks.min, marks.low, marks.high
        );
    }
    println!("{:?}", allocator.vmstat());
    drop(registered);
    CACHE.extents().clear();
    assert_eq!(allocator.nr_free_pages(), nr_pages);
    println!("all {nr_pages} pages are free again");
    Ok(())
}
