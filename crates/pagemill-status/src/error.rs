//! Errors of the server and of the client.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::text::shown;

/// Why a status is not served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A directory is not private.
    #[error("cannot use the directory {path} for a status socket: {why}", path = shown(path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something else is at the socket's path.
    #[error("cannot serve the status at {path}: {why}", path = shown(path))]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What is there.
        why: &'static str,
    },
    /// The system refused something.
    #[error("cannot serve the status at {path}: cannot {what}", path = shown(path))]
    System {
        /// The path.
        path: PathBuf,
        /// What was refused.
        what: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// No directory can be used.
    #[error("no directory for a status socket: {}; name a path", tried.join("; "))]
    NoDirectory {
        /// The directories, each with what is wrong with it.
        tried: Vec<String>,
    },
}

/// Why the status of a process cannot be shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no socket, or nobody listens on it: the process has ended.
    #[error(
        "no process serves its status at {path}: the process has ended, or uses another path; name the \
         socket of a process that runs",
        path = shown(path)
    )]
    Gone {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a socket.
    #[error("{path} is not a socket", path = shown(path))]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("{path} belongs to user {owner}, and this is user {user}: run as that user or as root", path = shown(path))]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// The owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Another user listens than the one that owns the socket.
    #[error("a process of user {actual} listens on {path}, which belongs to user {expected}", path = shown(path))]
    WrongPeer {
        /// The path.
        path: PathBuf,
        /// The owner.
        expected: u32,
        /// The user that listens.
        actual: u32,
    },
    /// The process did not reply in time.
    #[error("process {pid} does not reply at {path}", path = shown(path))]
    NoReply {
        /// The path.
        path: PathBuf,
        /// The process that opened the socket; zero if it is not known.
        pid: u32,
    },
    /// The reply is not a snapshot.
    #[error("the process at {path} sent no status", path = shown(path))]
    Reply {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: ReplyError,
    },
    /// The system refused something.
    #[error("cannot {what} {path}", path = shown(path))]
    System {
        /// The path.
        path: PathBuf,
        /// What was refused.
        what: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

/// Why a reply is not a snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The process uses another version of the protocol.
    #[error(
        "it uses version {theirs} of the status protocol and this program version {ours}: use \
         programs of the same release"
    )]
    Version {
        /// The version of this program.
        ours: u32,
        /// The version of the process.
        theirs: u32,
    },
    /// The server has no snapshot for this client.
    #[error("it refused: {why}")]
    Refused {
        /// The reason, in its words.
        why: String,
    },
    /// The reply is something else.
    #[error("it speaks another protocol: the reply begins with {begins:?}")]
    Garbage {
        /// The beginning.
        begins: String,
    },
    /// The reply is longer than allowed.
    #[error("the reply is longer than {max} bytes")]
    TooLong {
        /// The most bytes.
        max: usize,
    },
    /// The connection ended before the reply.
    #[error("the connection ended after {nr_bytes} bytes")]
    Truncated {
        /// The bytes that came.
        nr_bytes: usize,
    },
    /// The snapshot is not the JSON that it should be.
    #[error("the JSON is not a snapshot")]
    Json(#[source] serde_json::Error),
}
