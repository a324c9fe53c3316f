//! Splice: moves data of a call from the socket to a pipe and on to a file, bypassing the request's
//! pages.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, pwrite, read, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Size of the pipe: the limit for unprivileged processes, unless the administrator changed it.
///
/// # Source
/// `linux-7.0` `Documentation/admin-guide/sysctl/fs.rst` `pipe-max-size`
const PIPE_BYTES: usize = 1 << 20;
/// Bytes that are copied at a time if a file does not accept bytes from a pipe.
const COPY_BYTES: usize = 64 << 10;

/// A pipe that holds a part of one call at a time.
#[derive(Debug, Default)]
pub(crate) struct Splice {
    pipe: Option<Pipe>,
    /// Whether making a pipe would be useless.
    is_futile: bool,
    /// Bytes of the call before those in the pipe.
    at: usize,
    /// Bytes of the call that were moved into the pipe.
    len: usize,
    /// Bytes that are still in the pipe.
    left: usize,
}

#[derive(Debug)]
struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
}

impl Splice {
    /// Returns how many bytes of the call precede the spliced ones.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Returns how many bytes of the call were spliced.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Splices up to `max` bytes, which follow the first `at` of a call, and returns how many: as many
    /// as have arrived and the pipe has room for. Called once per call.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, at: usize, max: usize) -> usize {
        let Some(pipe) = self.pipe() else { return 0 };
        let mut len = 0;
        while len < max {
            let moved = retry_on_intr(|| {
                splice(socket, None, &pipe.to, None, max - len, SpliceFlags::NONBLOCK)
            });
            match moved {
                Ok(0) => break,
                Ok(nr) => len += nr,
                // The pipe is full, or the socket has an error that the next read will report.
                Err(_) => break,
            }
        }
        (self.at, self.len, self.left) = (at, len, len);
        len
    }

    /// Writes up to `max` of the bytes to a file; fewer if not all could be written.
    ///
    /// # Errors
    /// The error of the file system, if nothing was written.
    pub(crate) fn write_to(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        max: usize,
    ) -> Result<usize, Errno> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let max = max.min(self.left);
        let mut written = 0;
        while written < max {
            let mut to = offset + written as u64;
            let moved = retry_on_intr(|| {
                splice(&pipe.from, None, file, Some(&mut to), max - written, SpliceFlags::empty())
            });
            match moved {
                Ok(0) => break,
                Ok(nr) => written += nr,
                // Some files do not accept bytes from a pipe.
                Err(Errno::INVAL) if written == 0 => {
                    written = pipe.copy_to(file, offset, max)?;
                    break;
                }
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        self.left -= written;
        Ok(written)
    }

    /// Prepares for the next call.
    pub(crate) fn clear(&mut self) {
        if self.left > 0 {
            // Unused bytes are discarded with their pipe.
            self.pipe = None;
        }
        (self.at, self.len, self.left) = (0, 0, 0);
    }

    fn pipe(&mut self) -> Option<&Pipe> {
        if self.pipe.is_none() && !self.is_futile {
            // Without a free descriptor now, there may be one for the next call.
            let (from, to) = pipe_with(PipeFlags::CLOEXEC).ok()?;
            // In a small pipe, a call's data would move in small pieces, which costs more than copying.
            self.is_futile = fcntl_setpipe_size(&to, PIPE_BYTES).is_err();
            self.pipe = (!self.is_futile).then_some(Pipe { from, to });
        }
        self.pipe.as_ref()
    }
}

impl Pipe {
    /// Copies bytes to a file through memory, until `max` bytes or the end of the pipe.
    #[cold]
    fn copy_to(&self, file: BorrowedFd<'_>, offset: u64, max: usize) -> Result<usize, Errno> {
        let mut room = vec![0; max.min(COPY_BYTES)];
        let mut written = 0;
        while written < max {
            let len = room.len().min(max - written);
            let len = retry_on_intr(|| read(&self.from, &mut room[..len]))?;
            let at = offset + written as u64;
            let nr = match retry_on_intr(|| pwrite(file, &room[..len], at)) {
                Err(errno) if written == 0 => return Err(errno),
                put => put.unwrap_or(0),
            };
            written += nr;
            if nr < len {
                break;
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::pread;

    use super::*;

    /// Splices bytes that come over a connection, with 100 more behind them.
    fn splice(bytes: &[u8]) -> (Splice, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(bytes).unwrap();
        client.write_all(&[9; 100]).unwrap();
        let mut splice = Splice::default();
        assert_eq!(splice.receive(server.as_fd(), 0, bytes.len()), bytes.len());
        (splice, server)
    }

    fn bytes() -> Vec<u8> {
        (0..40_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
    }

    fn file() -> OwnedFd {
        memfd_create("splice", MemfdFlags::CLOEXEC).unwrap()
    }

    fn assert_holds(file: &OwnedFd, offset: u64, wanted: &[u8]) {
        let mut held = vec![0; wanted.len() + 1];
        assert_eq!(pread(file, &mut held[..], offset), Ok(wanted.len()));
        assert!(held[..wanted.len()] == *wanted);
    }

    #[test]
    fn what_was_spliced_is_written_and_the_rest_forgotten() {
        let (bytes, file) = (bytes(), file());
        let (mut splice, socket) = splice(&bytes);
        assert_eq!(splice.write_to(file.as_fd(), 5, 30_000), Ok(30_000));
        assert_holds(&file, 5, &bytes[..30_000]);
        splice.clear();
        assert_eq!(splice.len(), 0);
        // The next call gets what follows in the socket, and nothing of this one.
        assert_eq!(splice.receive(socket.as_fd(), 7, 100), 100);
        assert_eq!(splice.write_to(file.as_fd(), 0, 200), Ok(100));
        assert_holds(&file, 0, &[&[9; 100], &bytes[95..30_000]].concat());
    }

    #[test]
    fn a_file_that_takes_nothing_from_a_pipe_gets_a_copy() {
        let (bytes, file) = (bytes(), file());
        let (splice, _socket) = splice(&bytes);
        assert_eq!(splice.pipe.unwrap().copy_to(file.as_fd(), 3, bytes.len()), Ok(bytes.len()));
        assert_holds(&file, 3, &bytes);
    }

    #[test]
    fn a_full_file_says_so() {
        let (mut splice, _socket) = splice(&bytes());
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(splice.write_to(full.as_fd(), 0, 40_000), Err(Errno::NOSPC));
    }
}
