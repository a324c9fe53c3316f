//! The options of `nfsd`.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The options of `nfsd`.
#[derive(Debug, Args)]
pub(crate) struct NfsdArgs {
    /// Directory to export, as DIR, DIR:ro or DIR:rw, and options after commas; may be repeated
    ///
    /// Without ro it can be written to. The options are those of --exports-file, and
    /// client=ADDRESS or client=NETWORK, any number of times: only those named are served then.
    #[arg(long = "export", value_name = "DIR[:ro|rw][,OPTIONS]")]
    pub(crate) exports: Vec<OsString>,
    /// File with exports in the format of /etc/exports; may be repeated
    ///
    /// Known are rw, ro, `root_squash`, `no_root_squash`, `all_squash`, anonuid=, anongid=, secure,
    /// insecure, sync, async; clients are *, addresses, networks and names of hosts. HUP makes the
    /// server read it again.
    #[arg(long, value_name = "FILE")]
    pub(crate) exports_file: Vec<PathBuf>,
    /// Check the exports and end: everything must be in order, hosts' names included
    ///
    /// A server leaves out what is not in order, with a warning, and serves the other exports.
    #[arg(long)]
    pub(crate) check: bool,
    /// Address and port to listen on; may be repeated
    ///
    /// [default: 127.0.0.1:2049 for root, 127.0.0.1:20490 for others; sockets that systemd passes
    /// take the place of either]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address and port for the program MOUNT [default: the same as for NFS]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) mount_listen: Vec<SocketAddr>,
    /// Take calls by UDP too, on the same addresses
    #[arg(long)]
    pub(crate) udp: bool,
    /// Tell rpcbind on this machine where the programs are, and that they are gone in the end
    #[arg(long)]
    pub(crate) rpcbind: bool,
    /// Threads that carry out calls
    #[arg(long, value_name = "T", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Most connections at a time; fewer where the limit on descriptors does not allow as many
    #[arg(long, value_name = "N", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) connections: u32,
    /// Most bytes of data in a call or a reply, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u16).range(4..=4096))]
    pub(crate) max_payload: u16,
    /// How the data of READ gets to the network
    #[arg(long, value_enum, default_value_t = ReadArg::Auto)]
    pub(crate) read: ReadArg,
    /// How request pages are allocated
    #[arg(long, value_enum, default_value_t = RefillArg::Bulk)]
    pub(crate) refill: RefillArg,
    /// File with the secret behind file handles, made if there is none
    ///
    /// Handles stay good over restarts as long as it is the same.
    /// [default: /var/lib/pagemill/nfsd.key for root, else pagemill/nfsd.key in `$XDG_STATE_HOME` or
    /// ~/.local/state]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Most files that are kept open between calls [default: what the limit on descriptors allows]
    #[arg(long, value_name = "N")]
    pub(crate) max_files: Option<u32>,
    /// Seconds between lines with statistics; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) stats_every: u32,
    /// Port, or address and port, to offer statistics on in Prometheus' text format
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = local_addr)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Process to end with, which must be the parent of this one
    ///
    /// For programs that start a server for themselves: it is killed when they end, however they do.
    #[arg(long, value_name = "PID", hide = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) die_with: Option<i32>,
    /// How much to log to the standard error
    #[arg(long, value_enum, default_value_t = LogArg::Info)]
    pub(crate) log: LogArg,
}

/// How the data of READ gets to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadArg {
    /// From the file, where there is enough of it to pay, else through pages
    Auto,
    /// Through the reply's pages, always
    Pages,
    /// From the file, always
    File,
}

/// How request pages are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RefillArg {
    /// In bulk
    Bulk,
    /// One by one, to compare
    Single,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogArg {
    /// What keeps the server from serving
    Error,
    /// What somebody should look at
    Warn,
    /// Starts, mounts, reloads, stops
    Info,
    /// Also each call that was refused, with the reason
    Debug,
}

/// Reads a port of the loopback address, or an address and a port.
fn local_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_neither| format!("'{text}' is no port and no ADDR:PORT: write 9049"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(local_addr("9049").unwrap(), "127.0.0.1:9049".parse().unwrap());
        assert_eq!(local_addr("[::]:1").unwrap(), "[::]:1".parse().unwrap());
        assert!(local_addr("x:1").unwrap_err().contains("is no port"));
    }
}
