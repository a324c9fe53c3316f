//! Readahead: windows of a file are read past the kernel's cache into pages, and a small cache of our own
//! keeps the latest ones.

use alloc::collections::VecDeque;
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Write as _};
use std::path::Path;

use anyhow::Context as _;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages as _, Folio, Gfp, Order};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use super::pages::{Slot, Taker};
use super::sample::{AllocTicks, Meter};
use super::{Arm, Sample, Setup, Start, User};
use crate::frames::Frames;
use crate::rng::Rng;

/// Bytes of the file.
const FILE_BYTES: u64 = 128 << 20;
/// Bytes of the file of a trial.
const TRIAL_BYTES: u64 = 4 << 20;
/// Bytes that the cache keeps.
const CACHE_BYTES: usize = 16 << 20;

/// A reader with its cache.
#[derive(Debug)]
struct Readahead {
    setup: Setup,
    file: File,
    len: u64,
    next: u64,
    nr_pages: usize,
}

/// A window in the cache, by pages from anywhere or by one block that is used whole.
#[derive(Debug, Default)]
struct Window {
    slots: Vec<Slot>,
    block: Option<Folio<Frames>>,
}

/// Opens a file for windows of `nr_pages`.
pub(super) fn start(setup: &Setup, nr_pages: usize) -> anyhow::Result<Start> {
    let len = if setup.is_trial { TRIAL_BYTES } else { FILE_BYTES };
    let file = match open(&setup.folder, len)? {
        Ok(file) => file,
        Err(reason) => return Ok(Start::Skipped(reason)),
    };
    Ok(Start::Ready(Box::new(Readahead { setup: setup.clone(), file, len, next: 0, nr_pages })))
}

/// Makes a file without a name for reads past the kernel's cache; the inner error is why there are none.
fn open(folder: &Path, len: u64) -> anyhow::Result<Result<File, String>> {
    let path = folder.join(format!("pagemill-readahead-{}", std::process::id()));
    let cannot =
        |what: &str| format!("cannot {what} {}: name a folder by --folder", path.display());
    let mut file = File::create_new(&path).with_context(|| cannot("make"))?;
    let opened = write(&mut file, len).and_then(|()| {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(direct) => Ok(Some(File::from(direct))),
            Err(rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    fs::remove_file(&path).with_context(|| cannot("remove"))?;
    let no_direct = || {
        format!(
            "files in {} cannot be read past the kernel's cache (O_DIRECT): name a folder on a disk \
             by --folder",
            folder.display()
        )
    };
    match opened.with_context(|| cannot("write"))? {
        Some(direct) if is_direct(&direct)? => Ok(Ok(direct)),
        _ => Ok(Err(no_direct())),
    }
}

fn write(file: &mut File, len: u64) -> io::Result<()> {
    // Not zeroes, which some devices do not store.
    let mut rng = Rng::new(1);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..len / piece.len() as u64 {
        piece
            .chunks_exact_mut(8)
            .for_each(|word| word.copy_from_slice(&rng.number().to_le_bytes()));
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Returns whether reads really pass the cache: some file systems accept the flag and ignore it.
fn is_direct(file: &File) -> anyhow::Result<bool> {
    let status = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let has_answer = status.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let align = status.stx_dio_mem_align.max(status.stx_dio_offset_align);
    Ok(has_answer && align > 0 && align as usize <= PAGE_SIZE)
}

impl User for Readahead {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let nr_windows = CACHE_BYTES / (self.nr_pages * PAGE_SIZE);
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        // The cache is filled before anything is counted.
        let mut cache = VecDeque::with_capacity(nr_windows);
        for _ in 0..nr_windows {
            let mut window = Window::default();
            self.read(arm, &mut taker, &mut window)?;
            cache.push_back(window);
        }
        taker.alloc = AllocTicks::default();
        let meter = Meter::start();
        let mut nr_read = 0;
        while nr_read == 0 || meter.elapsed() < slice {
            let mut oldest = cache.pop_front().context("the cache has windows")?;
            taker.give_back(&mut oldest.slots);
            self.read(arm, &mut taker, &mut oldest)?;
            cache.push_back(oldest);
            nr_read += 1;
        }
        Ok(meter.stop(nr_read, Duration::ZERO, taker.alloc))
    }
}

impl Readahead {
    /// Reads the next window of the file into new pages.
    fn read(&mut self, arm: Arm, taker: &mut Taker, window: &mut Window) -> anyhow::Result<()> {
        let len = self.nr_pages * PAGE_SIZE;
        let at = self.next;
        self.next = (at + len as u64) % self.len;
        let nr_read = if arm == Arm::Block {
            let bytes = self.take_block(taker, &mut window.block)?;
            rustix::io::pread(&self.file, bytes, at)?
        } else {
            window.slots.resize_with(self.nr_pages, || None);
            taker.take(&mut window.slots)?;
            let pages = window.slots.iter_mut().flatten();
            let mut buffers: Vec<_> =
                pages.map(|page| IoSliceMut::new(page.as_bytes_mut())).collect();
            rustix::io::preadv(&self.file, &mut buffers, at)?
        };
        anyhow::ensure!(nr_read == len, "a read of {len} bytes at {at} ended after {nr_read}");
        Ok(())
    }

    /// Frees the block of an older window and takes one for the next; returns its bytes.
    fn take_block<'a>(
        &self,
        taker: &mut Taker,
        block: &'a mut Option<Folio<Frames>>,
    ) -> anyhow::Result<&'a mut [u8]> {
        let order = u8::try_from(self.nr_pages.ilog2()).map(Order::new)??;
        taker.alloc.time(self.setup.clock, || {
            drop(block.take());
            *block = self.setup.frames.alloc_pages(Gfp::KERNEL, order);
        });
        let block = block.as_mut().context("there is no such block: use a larger --arena")?;
        Ok(block.as_bytes_mut())
    }
}
