//! Our own server, started for a measurement and ended with it.

use core::net::SocketAddr;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use super::meter::Meter;
use super::proto::Credential;
use super::target::{Target, TargetKind};

/// A folder for the servers of one measurement, in memory where the system has such a place.
#[derive(Debug)]
pub(crate) struct OwnFolder(PathBuf);

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct OwnServer {
    child: Child,
    address: SocketAddr,
}

/// A file system in memory: it is the server that is measured and not a disk.
const MEMORY: &str = "/dev/shm";

impl OwnFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let parent = Some(PathBuf::from(MEMORY)).filter(|path| path.is_dir());
        let name = format!("pagemill-bench-{}", std::process::id());
        let path = parent.unwrap_or_else(env::temp_dir).join(name);
        fs::create_dir_all(path.join("export"))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn export(&self) -> PathBuf {
        self.0.join("export")
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // What is left if this fails is a folder with a few files in it.
        let _stays = fs::remove_dir_all(&self.0);
    }
}

impl OwnServer {
    /// Starts the `program` that serves `folder` and refills its requests in the way `refill`.
    ///
    /// # Errors
    /// If it does not start; it says itself why.
    pub(crate) fn start(program: &Path, folder: &OwnFolder, refill: &str) -> anyhow::Result<Self> {
        let mut export = folder.export().into_os_string();
        export.push(":rw,no_root_squash,insecure");
        let mut child = Command::new(program)
            .args(["nfsd", "--listen", "127.0.0.1:0", "--log", "warn", "--refill", refill])
            .arg("--key-file")
            .arg(folder.0.join("secret/key"))
            .arg("--export")
            .arg(export)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        // The command that mounts the export is printed once it can be.
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(!line.is_empty(), "our own server does not start");
        let port = port(&line).with_context(|| format!("no port in {line:?}"))?;
        server.address.set_port(port);
        Ok(server)
    }

    /// Describes the server as one under load.
    ///
    /// # Errors
    /// If it is gone already.
    pub(crate) fn target(
        &self,
        name: &str,
        folder: &OwnFolder,
        credential: &Credential,
    ) -> anyhow::Result<Target> {
        Ok(Target {
            name: name.to_owned(),
            address: self.address,
            mount_address: self.address,
            export: folder.export().display().to_string(),
            credential: credential.clone(),
            meter: Some(Meter::process(self.child.id())?),
            kind: TargetKind::Server,
        })
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It has nothing to lose: its folder goes with it.
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Finds the port in a command that mounts an export.
fn port(command: &str) -> Option<u16> {
    let (_, rest) = command.split_once("port=")?;
    rest.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_in_the_command_that_mounts() {
        assert_eq!(
            port("mount -t nfs -o rw,vers=3,proto=tcp,port=2049,mountport=1 a b"),
            Some(2049)
        );
        assert_eq!(port("mount -o port=x,a"), None);
    }

    #[test]
    fn a_folder_goes_with_its_owner() {
        let folder = OwnFolder::make().unwrap();
        let path = folder.export();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_is_no_server_is_told() {
        let folder = OwnFolder::make().unwrap();
        let start = |program: &str| {
            OwnServer::start(Path::new(program), &folder, "bulk").unwrap_err().to_string()
        };
        assert!(start("/bin/true").contains("does not start"));
        assert!(start("/bin/echo").contains("no port in"));
        assert!(start("/nowhere").contains("cannot start /nowhere"));
    }
}
