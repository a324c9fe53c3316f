//! Payload: the data at the end of a call, in pages or spliced, and its write to a file.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use pagemill::units::PAGE_SIZE;
use rustix::io::{Errno, pwritev, retry_on_intr};

use crate::rqst::splice::Splice;
use crate::wire::error::XdrError;
use crate::wire::xdr::{Bytes, XdrReader};

/// The data after the part of a call that is read as XDR.
#[derive(Debug)]
pub(crate) struct Behind<'a> {
    /// The spliced data.
    pub(crate) splice: &'a mut Splice,
    /// The data after the spliced data.
    pub(crate) after: XdrReader<'a>,
}

/// The data at the end of a call: bytes in pages, some of which may have been spliced instead.
#[derive(Debug)]
pub struct Payload<'a> {
    before: Bytes<'a>,
    /// The splice, and how many of its bytes belong to the payload.
    splice: Option<(&'a mut Splice, usize)>,
    after: Bytes<'a>,
}

impl<'a> Payload<'a> {
    /// Reads an opaque value of up to `max` bytes and its padding: the last argument of a call, of
    /// which `behind` is the part that is not in `args`.
    pub(crate) fn read(
        args: &mut XdrReader<'a>,
        behind: Option<Behind<'a>>,
        max: usize,
    ) -> Result<Self, XdrError> {
        let len = args.length(max)?;
        let Some(Behind { splice, mut after }) = behind else {
            let (before, none) = (args.fixed_bytes(len)?, XdrReader::new(&[]).split(0));
            return Ok(Self { before, splice: None, after: none });
        };
        let padded = len.checked_next_multiple_of(4).ok_or(XdrError::Truncated)?;
        if padded > args.remaining() + splice.len() + after.remaining() {
            return Err(XdrError::Truncated);
        }
        let before = args.split(len);
        let nr_spliced = splice.len().min(len - before.len());
        let after = after.split(len - before.len() - nr_spliced);
        Ok(Self { before, splice: Some((splice, nr_spliced)), after })
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.before.len() + self.nr_spliced() + self.after.len()
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many of the bytes go to a file without passing through the request's pages.
    #[must_use]
    pub fn nr_spliced(&self) -> usize {
        self.splice.as_ref().map_or(0, |(_, nr)| *nr)
    }

    /// Writes the bytes to a file and returns how many were written.
    ///
    /// # Errors
    /// The error of the file system, if nothing was written.
    pub fn write_at(self, file: BorrowedFd<'_>, offset: u64) -> Result<usize, Errno> {
        let Self { before, splice, after } = self;
        let mut written = 0;
        if !before.is_empty() {
            written = write_pages(file, offset, &before)?;
            if written < before.len() {
                return Ok(written);
            }
        }
        let Some((splice, nr)) = splice else { return Ok(written) };
        let mut add = |nr: usize, result: Result<usize, Errno>| match result {
            Ok(done) => {
                written += done;
                Ok((written, done == nr))
            }
            // Reports what was written; the caller gets the error when it calls again for the remaining
            // bytes.
            Err(_) if written > 0 => Ok((written, false)),
            Err(errno) => Err(errno),
        };
        let at = offset + before.len() as u64;
        let (done, all) = add(nr, splice.write_to(file, at, nr))?;
        if !all || after.is_empty() {
            return Ok(done);
        }
        Ok(add(after.len(), write_pages(file, at + nr as u64, &after))?.0)
    }
}

fn write_pages(file: BorrowedFd<'_>, offset: u64, data: &Bytes<'_>) -> Result<usize, Errno> {
    // One slice per page, plus one if the data begins within a page.
    let mut slices = Vec::with_capacity(data.len() / PAGE_SIZE + 2);
    slices.extend(data.slices().map(IoSlice::new));
    retry_on_intr(|| pwritev(file, &slices, offset))
}
