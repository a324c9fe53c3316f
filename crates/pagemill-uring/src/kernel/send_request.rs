//! Send request: the message header and the addresses that the kernel reads, and the pages behind them.

use core::mem;

use crate::pages::parcel::Parcel;
use crate::pages::ring_page::RingPage;

/// A message that the kernel sends, with everything that it reads meanwhile.
///
/// `send-owned`: the header, the array that it points to, and the pages that the array points to are owned
/// by this value and do not change while it exists. They do not move with it: the header and the array
/// are on the heap.
#[derive(Debug)]
pub(crate) struct SendRequest<F> {
    header: Box<libc::msghdr>,
    /// Keeps what the header points to.
    _pieces: Box<[libc::iovec]>,
    parcel: Parcel<F>,
}

/// Most pieces of one message.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/uio.h` `UIO_MAXIOV`
const NR_PIECES_MAX: usize = 1024;

impl<F: RingPage> SendRequest<F> {
    /// Makes a message of the first bytes of a parcel: all, unless they are in more pieces than a message
    /// has.
    pub(crate) fn new(parcel: Parcel<F>) -> Self {
        let piece = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut pieces: Box<[_]> = parcel.pieces().take(NR_PIECES_MAX).map(piece).collect();
        // SAFETY:
        // 1. Zeroes are a value of the structure, which consists of integers and pointers.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = pieces.len();
        Self { header, _pieces: pieces, parcel }
    }

    /// Returns the header for the kernel.
    pub(crate) fn header(&self) -> *const libc::msghdr {
        &raw const *self.header
    }

    /// Returns the number of pages.
    pub(crate) fn nr_pages(&self) -> usize {
        self.parcel.nr_pages()
    }

    /// Returns the pages, once the kernel no longer reads them.
    pub(crate) fn into_parcel(self) -> Parcel<F> {
        self.parcel
    }
}
