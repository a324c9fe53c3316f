//! Datagrams: each is a call, each reply is one.

use core::net::SocketAddr;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;

use pagemill::PAGE_SIZE;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg,
    sendmsg_addr,
};

use crate::pages::Frames;
use crate::record::MARK_BYTES;
use crate::reply::{Body, Reply};
use crate::rqst::Rqst;

/// Most bytes in a datagram over IPv4.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Receives a datagram into the request's pages; `None` if there is none, or it is cut short.
pub(crate) fn receive<S: Frames>(
    socket: &UdpSocket,
    rqst: &mut Rqst<S>,
) -> io::Result<Option<SocketAddr>> {
    let max = rqst.max_call_bytes().min(MAX_DATAGRAM_BYTES.next_multiple_of(PAGE_SIZE));
    let mut room: Vec<_> = rqst.arg_pages().slices_mut(0, max).map(IoSliceMut::new).collect();
    let mut control = RecvAncillaryBuffer::default();
    let message = match recvmsg(socket, &mut room, &mut control, RecvFlags::DONTWAIT) {
        Ok(message) => message,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    drop(room);
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok(None);
    }
    let from = message.address.and_then(|address| SocketAddr::try_from(address).ok());
    rqst.set_args_len(message.bytes);
    Ok(from)
}

/// Sends a reply; it is lost if the socket has no room, as any datagram may be.
pub(crate) fn send<S: Frames>(
    socket: &UdpSocket,
    to: SocketAddr,
    reply: &Reply<S>,
) -> io::Result<usize> {
    let pages = reply.pages();
    let mut pieces: Vec<_> = pages.slices(MARK_BYTES, reply.head_len()).map(IoSlice::new).collect();
    let file;
    match reply.body() {
        Body::None => {}
        Body::Pages { first, len } => {
            let start = first * PAGE_SIZE;
            pieces.extend(pages.slices(start, start + len).map(IoSlice::new));
        }
        Body::File(range) => {
            // What the file lacks stays zero: the head has promised it.
            let mut bytes = vec![0; range.len];
            let mut at = 0;
            while at < bytes.len() {
                match rustix::io::pread(&*range.file, &mut bytes[at..], range.offset + at as u64) {
                    Ok(0) => break,
                    Ok(nr) => at += nr,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            file = bytes;
            pieces.push(IoSlice::new(&file));
        }
    }
    pieces.push(IoSlice::new(reply.tail()));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg_addr(socket, &to, &pieces, &mut SendAncillaryBuffer::default(), flags) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
