//! The procedures of `NFSv3`, one file each, and the table that lists them.

mod access;
mod commit;
mod create;
mod fsinfo;
mod fsstat;
mod getattr;
mod link;
mod lookup;
mod mkdir;
mod mknod;
mod null;
mod pathconf;
mod read;
mod readdir;
mod readdirplus;
mod readlink;
mod remove;
mod rename;
mod rmdir;
mod setattr;
mod symlink;
mod write;

use pagemill_rpc::{
    Blocking, Call, CallError, Data, Frames, Procedure, Replies, Reply, Version, XdrError, XdrWrite,
};

use crate::service::Service;
use crate::status::{NfsResult, NfsStatus};
use crate::vfs::Created;
use crate::wire::{OK, put_fh, put_post_op_attr, put_wcc};

/// How a procedure ended: with an answer, good or bad, or without.
pub(crate) type Answered = Result<NfsResult<()>, CallError>;

/// The version, its procedures in the order of their numbers.
///
/// # Source
/// `rfc1813` section 3.3
pub(crate) const NFS_V3: Version = Version {
    number: 3,
    procedures: &[
        procedure("NULL", Blocking::No, Replies::Forgotten),
        procedure("GETATTR", Blocking::No, Replies::Forgotten),
        procedure("SETATTR", Blocking::Yes, Replies::Kept),
        procedure("LOOKUP", Blocking::No, Replies::Forgotten),
        procedure("ACCESS", Blocking::No, Replies::Forgotten),
        procedure("READLINK", Blocking::No, Replies::Forgotten),
        procedure("READ", Blocking::No, Replies::Forgotten),
        Procedure { data: Data::MayBeSpliced, ..procedure("WRITE", Blocking::Yes, Replies::Kept) },
        procedure("CREATE", Blocking::Yes, Replies::Kept),
        procedure("MKDIR", Blocking::Yes, Replies::Kept),
        procedure("SYMLINK", Blocking::Yes, Replies::Kept),
        procedure("MKNOD", Blocking::Yes, Replies::Kept),
        procedure("REMOVE", Blocking::Yes, Replies::Kept),
        procedure("RMDIR", Blocking::Yes, Replies::Kept),
        procedure("RENAME", Blocking::Yes, Replies::Kept),
        procedure("LINK", Blocking::Yes, Replies::Kept),
        procedure("READDIR", Blocking::Yes, Replies::Forgotten),
        procedure("READDIRPLUS", Blocking::Yes, Replies::Forgotten),
        procedure("FSSTAT", Blocking::No, Replies::Forgotten),
        procedure("FSINFO", Blocking::No, Replies::Forgotten),
        procedure("PATHCONF", Blocking::No, Replies::Forgotten),
        procedure("COMMIT", Blocking::Yes, Replies::Forgotten),
    ],
};

const fn procedure(name: &'static str, blocking: Blocking, replies: Replies) -> Procedure {
    Procedure { name, blocking, replies, data: Data::InPages }
}

/// How many words follow the status where all that may follow it is absent, by the number of the
/// procedure: one for the attributes of a file, two for those before and after a change.
const NR_ABSENT: [usize; 22] = [0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 3, 1, 1, 1, 1, 1, 2];

/// Carries out a call of the version, by the number of its procedure, once a thread may work on the
/// export that it is about.
pub(crate) fn carry_out<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    match nfs.enter(call) {
        Ok(_turn) => run(nfs, call),
        Err(status) => {
            let index = usize::try_from(call.header.proc).unwrap_or(usize::MAX);
            let nr_absent = NR_ABSENT.get(index).ok_or(CallError::ProcUnavail)?;
            call.reply.u32(status.code())?;
            (0..*nr_absent).try_for_each(|_| call.reply.bool(false))?;
            Ok(Err(status))
        }
    }
}

fn run<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    match call.header.proc {
        0 => null::call(),
        1 => getattr::call(nfs, call),
        2 => setattr::call(nfs, call),
        3 => lookup::call(nfs, call),
        4 => access::call(nfs, call),
        5 => readlink::call(nfs, call),
        6 => read::call(nfs, call),
        7 => write::call(nfs, call),
        8 => create::call(nfs, call),
        9 => mkdir::call(nfs, call),
        10 => symlink::call(nfs, call),
        11 => mknod::call(nfs, call),
        12 => remove::call(nfs, call),
        13 => rmdir::call(nfs, call),
        14 => rename::call(nfs, call),
        15 => link::call(nfs, call),
        16 => readdir::call(nfs, call),
        17 => readdirplus::call(nfs, call),
        18 => fsstat::call(nfs, call),
        19 => fsinfo::call(nfs, call),
        20 => pathconf::call(nfs, call),
        21 => commit::call(nfs, call),
        _ => Err(CallError::ProcUnavail),
    }
}

/// Appends the status alone, or success; what follows it is the procedure's.
pub(crate) fn put_status<S: Frames, T>(
    reply: &mut Reply<S>,
    result: &NfsResult<T>,
) -> Result<(), XdrError> {
    reply.u32(result.as_ref().err().map_or(OK, |status| status.code()))
}

/// Answers with a status and absent attributes: where not even the file could be found.
pub(crate) fn refuse<S: Frames>(reply: &mut Reply<S>, status: NfsStatus) -> Answered {
    reply.u32(status.code())?;
    put_post_op_attr(reply, None)?;
    Ok(Err(status))
}

/// Answers with a status and no knowledge of what a directory was like before and after.
pub(crate) fn refuse_change<S: Frames>(reply: &mut Reply<S>, status: NfsStatus) -> Answered {
    reply.u32(status.code())?;
    put_wcc(reply, &crate::attr::Wcc::default())?;
    Ok(Err(status))
}

/// Answers the procedures that make something.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_procedure_has_its_absent_words() {
        assert_eq!(NR_ABSENT.len(), NFS_V3.procedures.len());
    }
}
