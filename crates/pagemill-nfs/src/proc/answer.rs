//! Replies that several procedures share.

use pagemill_rpc::{CallError, Frames, Reply, XdrError, XdrWrite};

use crate::protocol::attr::Wcc;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::protocol::wire::{OK, put_fh, put_post_op_attr, put_wcc};
use crate::service::Service;
use crate::vfs::Created;

/// The result of a procedure: a reply with a status, or no reply.
pub(crate) type Answered = Result<NfsResult<()>, CallError>;

/// Appends the status; after a success, the procedure appends its results.
pub(crate) fn put_status<S: Frames, T>(
    reply: &mut Reply<S>,
    result: &NfsResult<T>,
) -> Result<(), XdrError> {
    reply.u32(result.as_ref().err().map_or(OK, |status| status.code()))
}

/// Replies with a status and without attributes, if the file could not be found.
pub(crate) fn refuse<S: Frames>(reply: &mut Reply<S>, status: NfsStatus) -> Answered {
    reply.u32(status.code())?;
    put_post_op_attr(reply, None)?;
    Ok(Err(status))
}

/// Replies with a status and without the directory's attributes before and after.
pub(crate) fn refuse_change<S: Frames>(reply: &mut Reply<S>, status: NfsStatus) -> Answered {
    reply.u32(status.code())?;
    put_wcc(reply, &Wcc::default())?;
    Ok(Err(status))
}

/// Replies for the procedures that create a file.
pub(crate) fn answer_created<S: Frames>(
    nfs: &Service,
    reply: &mut Reply<S>,
    created: &Created,
) -> Answered {
    put_status(reply, &created.result)?;
    if let Ok(object) = &created.result {
        reply.bool(true)?;
        put_fh(reply, object.fh())?;
        put_post_op_attr(reply, nfs.vfs.attr(object).ok().as_ref())?;
    }
    put_wcc(reply, &created.wcc)?;
    Ok(created.result.as_ref().map(|_| ()).map_err(|status| *status))
}
