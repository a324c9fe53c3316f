//! Input: the call that a connection is receiving, and the bytes received ahead of it.

use pagemill::Page;
use pagemill::units::PAGE_SIZE;

use crate::rqst::pages::Frames;
use crate::wire::record::RecordReader;

/// The read-ahead buffer: bytes received before they were needed.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
}

impl Ahead {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// The state of the call that a connection is receiving.
pub(super) struct Input<S: Frames> {
    pub(super) record: RecordReader,
    pub(super) ahead: Ahead,
    /// Whether the connection has already waited for the rest of the call, to splice it as a whole.
    pub(super) has_waited: bool,
    /// Whether the socket counts as readable only when the rest has arrived.
    pub(super) is_waiting: bool,
    /// The pages of an incomplete call.
    pub(super) saved: Vec<Page<S>>,
    /// Bytes of the budget that the call has reserved.
    pub(super) reserved: usize,
}

impl<S: Frames> Input<S> {
    pub(super) fn new(max_record_bytes: usize) -> Self {
        Self {
            record: RecordReader::new(max_record_bytes),
            ahead: Ahead::default(),
            has_waited: false,
            is_waiting: false,
            saved: Vec::new(),
            reserved: 0,
        }
    }

    /// Returns how many bytes of the record may be kept while the connection waits for more: one page
    /// that each connection has, plus the reserved bytes.
    pub(super) fn room(&self) -> usize {
        PAGE_SIZE + self.reserved
    }
}

/// Buffers of a worker thread for receiving.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// A spare read-ahead buffer: a connection has none while it has no input.
    pub(super) spare: Vec<u8>,
}
