//! The `NFSv3` procedures, one file each, and the table with one row per procedure.

mod access;
mod answer;
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

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::{Blocking, Data, Procedure, Replies, Version};
use pagemill_rpc::xdr::XdrWrite;
use pagemill_rpc::{Call, CallError};

use crate::service::Service;
use answer::Answered;

/// Makes the version and its calls from one row per procedure. A row has the number, the name, the
/// module, whether the procedure may block, whether its reply is kept, where its data may be, and how
/// many words follow the status if all that may follow it is absent: one for the attributes of a file,
/// two for those before and after a change.
macro_rules! procedures {
    ($($number:literal $name:ident $module:ident $blocking:ident $replies:ident $data:ident $nr_absent:literal,)*) => {
        /// The version, with its procedures in the order of their numbers.
        ///
        /// # Source
        /// `rfc1813` section 3.3
        pub(crate) const NFS_V3: Version = Version {
            number: 3,
            procedures: &[$(Procedure {
                name: stringify!($name),
                blocking: Blocking::$blocking,
                replies: Replies::$replies,
                data: Data::$data,
            }),*],
        };

        /// The numbers of the rows.
        #[cfg(test)]
        const NUMBERS: &[usize] = &[$($number),*];

        /// Returns the number of absent words of a procedure.
        fn nr_absent(procedure: u32) -> Option<usize> {
            match procedure {
                $($number => Some($nr_absent),)*
                _ => None,
            }
        }

        fn run<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
            match call.header.proc {
                $($number => $module::call(nfs, call),)*
                _ => Err(CallError::ProcUnavail),
            }
        }
    };
}

procedures! {
    0 NULL null No Forgotten InPages 0,
    1 GETATTR getattr No Forgotten InPages 0,
    2 SETATTR setattr Yes Kept InPages 2,
    3 LOOKUP lookup No Forgotten InPages 1,
    4 ACCESS access No Forgotten InPages 1,
    5 READLINK readlink No Forgotten InPages 1,
    6 READ read No Forgotten InPages 1,
    7 WRITE write Yes Kept MayBeSpliced 2,
    8 CREATE create Yes Kept InPages 2,
    9 MKDIR mkdir Yes Kept InPages 2,
    10 SYMLINK symlink Yes Kept InPages 2,
    11 MKNOD mknod Yes Kept InPages 2,
    12 REMOVE remove Yes Kept InPages 2,
    13 RMDIR rmdir Yes Kept InPages 2,
    14 RENAME rename Yes Kept InPages 4,
    15 LINK link Yes Kept InPages 3,
    16 READDIR readdir Yes Forgotten InPages 1,
    17 READDIRPLUS readdirplus Yes Forgotten InPages 1,
    18 FSSTAT fsstat No Forgotten InPages 1,
    19 FSINFO fsinfo No Forgotten InPages 1,
    20 PATHCONF pathconf No Forgotten InPages 1,
    21 COMMIT commit Yes Forgotten InPages 2,
}

/// Carries out a call by the number of its procedure, once a thread may work on the call's export.
pub(crate) fn carry_out<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    match nfs.enter(call) {
        Ok(_turn) => run(nfs, call),
        Err(status) => {
            let nr_absent = nr_absent(call.header.proc).ok_or(CallError::ProcUnavail)?;
            call.reply.u32(status.code())?;
            (0..nr_absent).try_for_each(|_| call.reply.bool(false))?;
            Ok(Err(status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_numbers() {
        assert!(NUMBERS.iter().copied().eq(0..NFS_V3.procedures.len()));
    }
}
