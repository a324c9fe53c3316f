//! Replies that several procedures share.

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::{XdrError, XdrWrite};
use pagemill_rpc::{Call, CallError, Reply};

use crate::protocol::attr::Wcc;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::protocol::wire::{OK, RawFh, put_fh, put_post_op_attr, put_wcc};
use crate::service::Service;
use crate::vfs::{Changed, Created, Object};

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

/// Replies for the procedures that read one file: the status, the file's attributes and, after a
/// success, what `put` appends.
pub(crate) fn answer_read<S: Frames, T>(
    nfs: &Service,
    call: &mut Call<'_, S>,
    fh: &RawFh,
    read: impl FnOnce(&Object) -> NfsResult<T>,
    put: impl FnOnce(&mut Reply<S>, T) -> Result<(), XdrError>,
) -> Answered {
    let object = match nfs.resolve(call, fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    let found = read(&object);
    put_status(call.reply, &found)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&object).ok().as_ref())?;
    Ok(match found {
        Ok(found) => Ok(put(call.reply, found)?),
        Err(status) => Err(status),
    })
}

/// Replies for the procedures that change a file, or a name in a directory, given valid arguments: the
/// status and the attributes before and after.
pub(crate) fn answer_changed<S: Frames, A>(
    nfs: &Service,
    call: &mut Call<'_, S>,
    fh: &RawFh,
    args: NfsResult<A>,
    change: impl FnOnce(&Object, A) -> Changed<()>,
) -> Answered {
    let changed = match nfs.resolve(call, fh).and_then(|object| Ok((object, args?))) {
        Ok((object, args)) => change(&object, args),
        Err(status) => return refuse_change(call.reply, status),
    };
    put_status(call.reply, &changed.result)?;
    put_wcc(call.reply, &changed.wcc)?;
    Ok(changed.result)
}

/// Replies for the procedures that create a file in a directory, given valid arguments.
pub(crate) fn answer_created<S: Frames, A>(
    nfs: &Service,
    call: &mut Call<'_, S>,
    fh: &RawFh,
    args: NfsResult<A>,
    create: impl FnOnce(&Object, A) -> Created,
) -> Answered {
    let created = match nfs.resolve(call, fh).and_then(|dir| Ok((dir, args?))) {
        Ok((dir, args)) => create(&dir, args),
        Err(status) => return refuse_change(call.reply, status),
    };
    put_status(call.reply, &created.result)?;
    if let Ok(object) = &created.result {
        call.reply.bool(true)?;
        put_fh(call.reply, object.fh())?;
        put_post_op_attr(call.reply, nfs.vfs.attr(object).ok().as_ref())?;
    }
    put_wcc(call.reply, &created.wcc)?;
    Ok(created.result.map(|_| ()))
}
