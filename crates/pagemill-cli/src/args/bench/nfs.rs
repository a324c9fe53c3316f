//! The options of `bench nfs`.

use core::net::SocketAddr;
use core::str::FromStr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::count::at_least_one;
use pagemill_bench::Size;

/// The options of `bench nfs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NfsArgs {
    /// Server to measure: name in the report, address, and process whose CPU time to report
    ///
    /// Example: pagemill=127.0.0.1:2049,pid=4711. Add mount=PORT if MOUNT has its own port. May be
    /// repeated. [default: two servers of pagemill, started in a private network and over a private
    /// file system]
    #[arg(long = "server", value_name = "NAME=ADDR:PORT[,mount=PORT][,pid=PID]")]
    #[arg(requires = "export")]
    pub(crate) servers: Vec<ServerArg>,
    /// Path that all servers export, writable for the user who runs this
    #[arg(long, value_name = "PATH", requires = "servers")]
    pub(crate) export: Option<String>,
    /// Loads, in this order
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    #[arg(default_values_t = [
        WorkloadArg::Read, WorkloadArg::Write, WorkloadArg::Read4k, WorkloadArg::Getattr,
    ])]
    pub(crate) workloads: Vec<WorkloadArg>,
    /// Total bytes of the files of one load
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub(crate) size: Size,
    /// Number of rounds for each load and server; the median is reported
    #[arg(long, value_name = "R", default_value = "7", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Duration of each load in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) time: u64,
    /// Compare all data read, and read and compare all data written; slower
    #[arg(long)]
    pub(crate) verify: bool,
    /// Do not measure the sinks
    #[arg(long)]
    pub(crate) no_sinks: bool,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// A load, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadArg {
    /// READ 1 MiB in order, 4 calls in flight
    Read,
    /// WRITE 1 MiB in order, 4 calls in flight, unstable
    Write,
    /// READ 4 KiB at random, 4 connections, 8 calls in flight each
    #[value(name = "read-4k")]
    Read4k,
    /// WRITE 4 KiB at random, 4 connections, 8 calls in flight each, unstable
    #[value(name = "write-4k")]
    Write4k,
    /// GETATTR, 4 connections, 8 calls in flight each
    Getattr,
    /// GETATTR, one call at a time
    #[value(name = "getattr-1")]
    Getattr1,
    /// NULL, 4 connections, 8 calls in flight each
    Null,
    /// READ 1 MiB, 8 connections, 1 call each
    #[value(name = "read-8")]
    Read8,
    /// READ 1 MiB, 64 connections, 1 call each
    #[value(name = "read-64")]
    Read64,
    /// WRITE 1 MiB, 8 connections, 1 call each, unstable
    #[value(name = "write-8")]
    Write8,
    /// WRITE 1 MiB, 64 connections, 1 call each, unstable
    #[value(name = "write-64")]
    Write64,
}

/// A server as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerArg {
    /// Name in the report.
    pub(crate) name: String,
    /// Address where it serves NFS.
    pub(crate) address: SocketAddr,
    /// Port where it serves MOUNT, if different.
    pub(crate) mount_port: Option<u16>,
    /// Process ID.
    pub(crate) pid: Option<u32>,
}

impl FromStr for ServerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("'{text}' is not a server: write NAME=ADDR:PORT, as in mine=127.0.0.1:2049");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let mut parts = rest.split(',');
        let address = parts.next().and_then(|part| part.parse().ok()).ok_or_else(form)?;
        let (mut mount_port, mut pid) = (None, None);
        for part in parts {
            let number = |digits: &str| {
                digits.parse().map_err(|_no_number| {
                    format!("'{part}': the value is not a number from 0 to 4294967295")
                })
            };
            match part.split_once('=') {
                Some(("mount", port)) => {
                    let port = number(port)?;
                    mount_port = Some(u16::try_from(port).map_err(|_too_large| {
                        format!("{port} is not a port: use at most 65535")
                    })?);
                }
                Some(("pid", process)) => pid = Some(number(process)?),
                _ => return Err(format!("'{part}' is unknown: write mount=PORT or pid=PID")),
            }
        }
        Ok(Self { name: name.to_owned(), address, mount_port, pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let server: ServerArg = "a b=[::1]:2049,pid=7,mount=2050".parse().unwrap();
        assert_eq!(server.name, "a b");
        assert_eq!(server.address, "[::1]:2049".parse().unwrap());
        assert_eq!((server.mount_port, server.pid), (Some(2050), Some(7)));
        let server: ServerArg = "x=127.0.0.1:1".parse().unwrap();
        assert_eq!((server.mount_port, server.pid), (None, None));
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        let refused = |text: &str| text.parse::<ServerArg>().unwrap_err();
        for text in ["", "127.0.0.1:2049", "a=localhost:2049", "a=127.0.0.1"] {
            assert!(refused(text).contains("is not a server"), "{text}");
        }
        assert!(refused("a=127.0.0.1:1,pid=x").contains("not a number"));
        assert!(refused("a=127.0.0.1:1,mount=65536").contains("not a port"));
        assert!(refused("a=127.0.0.1:1,port=2").contains("mount=PORT or pid=PID"));
    }
}
