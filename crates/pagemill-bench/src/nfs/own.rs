//! Our own servers: started in a sandbox for a measurement, and killed afterwards.
//!
//! They serve without root squashing and on any port, so no other user may reach them: they and the
//! load run in a private network, on a private file system. Both are removed with the last process, and
//! the servers are killed when the process that started them ends, for whatever reason.

use core::net::SocketAddr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use pagemill_host::HostError;
use pagemill_host::os::enter_sandbox;

use super::meter::Meter;
use super::proto::Credential;
use super::target::{Target, TargetKind};

/// The in-memory folder that the servers of one measurement export, so that no disk is measured.
#[derive(Debug)]
pub struct OwnFolder(PathBuf);

/// A server in its own process.
#[derive(Debug)]
pub struct OwnServer {
    child: Child,
    address: SocketAddr,
}

impl OwnFolder {
    /// Moves the calling thread to a sandbox and creates the folder there.
    ///
    /// # Errors
    /// The error of the system.
    pub fn in_sandbox() -> anyhow::Result<Self> {
        let refused = |error: HostError| {
            anyhow::Error::new(error).context(format!(
                "{error}; without them, every user of this machine could change the files of the \
                 servers. Start a server yourself, as a user other than root and on an empty \
                 directory with an absolute path: `pagemill nfsd --export DIR --listen \
                 127.0.0.1:20490`. Then name it: `pagemill bench nfs --server \
                 mine=127.0.0.1:20490 --export DIR`"
            ))
        };
        Self::under(enter_sandbox().map_err(refused)?)
    }

    fn under(place: &Path) -> anyhow::Result<Self> {
        let folder = Self(place.to_owned());
        let export = folder.export();
        fs::create_dir(&export).with_context(|| format!("cannot make {}", export.display()))?;
        Ok(folder)
    }

    fn export(&self) -> PathBuf {
        self.0.join("export")
    }
}

impl OwnServer {
    /// Starts `program`, which serves `folder` and refills its requests as `refill` selects.
    ///
    /// # Errors
    /// If it does not start; it prints the reason itself.
    pub fn start(program: &Path, folder: &OwnFolder, refill: &str) -> anyhow::Result<Self> {
        let mut export = folder.export().into_os_string();
        export.push(":rw,no_root_squash,insecure");
        let mut child = Command::new(program)
            .arg0("pagemill")
            .args(["nfsd", "--listen", "127.0.0.1:0", "--log", "warn", "--refill", refill])
            .args(["--status", "none", "--die-with", &std::process::id().to_string()])
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
        // The command that mounts the export is printed once mounting works.
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("cannot read from our own server")?;
        if line.is_empty() {
            let status = server.child.wait().context("cannot wait for our own server")?;
            bail!("our own server did not start ({status}); what it wrote is above");
        }
        let port = port(&line).with_context(|| format!("no port in {line:?}"))?;
        server.address.set_port(port);
        Ok(server)
    }

    /// Returns the server as a target.
    ///
    /// # Errors
    /// If it has already ended.
    pub fn target(
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
        // The server has no data to lose: its folder is removed with it.
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Parses the port in a mount command.
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
    fn a_program_that_is_no_server_is_told() {
        let place = std::env::temp_dir().join(format!("pagemill-own-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        let folder = OwnFolder::under(&place).unwrap();
        let start = |program: &str| {
            OwnServer::start(Path::new(program), &folder, "bulk").unwrap_err().to_string()
        };
        assert!(start("/bin/true").contains("did not start (exit status: 0)"));
        assert!(start("/bin/echo").contains("no port in"));
        assert!(start("/nowhere").contains("cannot start /nowhere"));
        fs::remove_dir_all(place).unwrap();
    }
}
