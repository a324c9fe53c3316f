//! The options of `nfsd`.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// The options of `nfsd`.
#[derive(Debug, Args)]
pub(crate) struct NfsdArgs {
    /// Directory to export, with options after a colon, as in /srv:ro,insecure; may be repeated
    ///
    /// Without ro clients can write. The options are those of --exports-file, and client=ADDRESS or
    /// client=NETWORK, which may be repeated: then only these clients are served.
    #[arg(long = "export", value_name = "DIR[:OPTION[,OPTION]...]")]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) exports: Vec<OsString>,
    /// File with exports in the format of /etc/exports; may be repeated
    ///
    /// Options: rw, ro, root_squash, no_root_squash, all_squash, anonuid=, anongid=, secure, insecure,
    /// sync, async. Clients: *, addresses, networks, host names. On HUP, the server reads the file
    /// again.
    #[arg(long, value_name = "FILE")]
    pub(crate) exports_file: Vec<PathBuf>,
    /// Check all exports, including host names, then exit: 0 if all are valid
    ///
    /// Without --check, the server skips invalid exports with a warning and serves all others.
    #[arg(long)]
    pub(crate) check: bool,
    /// Address and port to listen on; may be repeated
    ///
    /// [default: 127.0.0.1:2049 for root, 127.0.0.1:20490 for other users; sockets passed by systemd
    /// replace these]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_addr)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address and port of the MOUNT program [default: that of NFS]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_addr)]
    pub(crate) mount_listen: Vec<SocketAddr>,
    /// Also accept calls by UDP, on the same addresses
    #[arg(long)]
    pub(crate) udp: bool,
    /// Register the programs with rpcbind on this machine, and unregister them at the end
    #[arg(long)]
    pub(crate) rpcbind: bool,
    /// Number of worker threads
    #[arg(long, value_name = "T", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Maximum number of connections; fewer if the limit on descriptors requires it
    #[arg(long, value_name = "N", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) connections: u32,
    /// Maximum data in a call or a reply, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u16).range(4..=4096))]
    pub(crate) max_payload: u16,
    /// How READ data is sent
    #[arg(long, value_enum, default_value_t = ReadArg::Auto)]
    pub(crate) read: ReadArg,
    /// How request pages are allocated
    #[arg(long, value_enum, default_value_t = RefillArg::Bulk)]
    pub(crate) refill: RefillArg,
    /// File with the secret of file handles, created if missing
    ///
    /// Handles survive restarts as long as the secret stays the same.
    /// [default: nfsd.key in $STATE_DIRECTORY, which systemd sets; else /var/lib/pagemill/nfsd.key for
    /// root, and pagemill/nfsd.key in $XDG_STATE_HOME or ~/.local/state for other users]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Maximum number of files kept open between calls [default: by the limit on descriptors]
    #[arg(long, value_name = "N")]
    pub(crate) max_files: Option<u32>,
    /// Seconds between statistics lines in the log; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) stats_every: u32,
    /// Port, or address and port, that serves metrics to Prometheus
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = local_addr)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Socket for pagemill top, or none [default: in a private directory, where top finds it]
    #[arg(long, value_name = "PATH")]
    pub(crate) status: Option<PathBuf>,
    /// Parent process to end with
    ///
    /// For programs that start a server: the server is killed when they end for any reason.
    #[arg(long, value_name = "PID", hide = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) die_with: Option<i32>,
    /// Level of the log on the standard error
    #[arg(long, value_enum, default_value_t = LogArg::Info)]
    pub(crate) log: LogArg,
}

/// How READ data is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadArg {
    /// From the file if it has 16 KiB or more and is on a file system in the kernel, else by pages
    Auto,
    /// Always through the reply's pages
    Pages,
    /// Always from the file
    File,
}

/// How request pages are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RefillArg {
    /// In bulk
    Bulk,
    /// Page by page, for comparison
    Single,
}

/// Log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogArg {
    /// Errors that stop the server
    Error,
    /// Also problems to look at
    Warn,
    /// Also starts, mounts, reloads and stops
    Info,
    /// Also each refused call, with the reason
    Debug,
}

/// Reads an address and a port. A port alone would not say which clients can reach it.
fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_unreadable| {
        let port = text.trim_start_matches(':').parse::<u16>().unwrap_or(2049);
        format!(
            "this is not ADDR:PORT: write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port} \
             for all interfaces"
        )
    })
}

/// Reads a port of the loopback address, or an address and a port.
fn local_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_neither| {
        format!("'{text}' is neither a port nor ADDR:PORT: write a port such as 9049")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(local_addr("9049").unwrap(), "127.0.0.1:9049".parse().unwrap());
        assert_eq!(local_addr("[::]:1").unwrap(), "[::]:1".parse().unwrap());
        assert!(local_addr("x:1").unwrap_err().contains("neither a port"));
    }

    #[test]
    fn an_address_to_listen_on_has_a_port_and_says_how_to_write_them() {
        assert_eq!(listen_addr("[::]:1").unwrap(), "[::]:1".parse().unwrap());
        for text in ["999", ":999"] {
            let told = listen_addr(text).unwrap_err();
            assert!(told.contains("127.0.0.1:999 ") && told.contains("0.0.0.0:999 "), "{told}");
        }
        assert!(listen_addr("localhost").unwrap_err().contains("127.0.0.1:2049"));
    }
}
