//! What is exported while the server runs: what was read, and hosts whose names get an address later.

use alloc::sync::Arc;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pagemill_nfs::exports::{Access, ClientMatch, ExportRule};
use pagemill_nfs::vfs::{Export, HandleLife, Vfs, VfsError};
use tracing::{info, warn};

use crate::plan::nfsd::{LoadedExports, warn_of_read_only};

/// The wait before names are looked up again, at first; it doubles each time.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest such wait.
pub(crate) const LAST_RETRY: Duration = Duration::from_secs(60);

/// The exports of a server.
#[derive(Debug)]
pub(crate) struct Exports {
    vfs: Arc<Vfs>,
    /// Held from reading the rules that are in force to replacing them.
    change: Mutex<()>,
}

impl Exports {
    pub(crate) fn new(vfs: Arc<Vfs>) -> Self {
        Self { vfs, change: Mutex::new(()) }
    }

    /// Exports what was read, and warns of what could not be read. Returns what cannot be exported,
    /// of which it has warned too.
    ///
    /// # Errors
    /// That nothing can be exported at all.
    pub(crate) fn set(&self, loaded: LoadedExports) -> Result<Vec<VfsError>, VfsError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(loaded)
    }

    /// Exports what was read again. An export stays as it is while the line about it, or a whole file,
    /// cannot be read. A host whose name has no address now keeps those that it had. Logs what is
    /// different.
    ///
    /// # Errors
    /// That nothing can be exported at all.
    pub(crate) fn set_again(&self, mut loaded: LoadedExports) -> Result<Vec<VfsError>, VfsError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rules();
        fill_in(&mut loaded.rules, &addrs_of(&before));
        let is_kept = |rule: &ExportRule| {
            (loaded.is_file_missing || loaded.unread.contains(&rule.path))
                && loaded.rules.iter().all(|other| other.path != rule.path)
        };
        let kept: Vec<_> = before.iter().filter(|rule| is_kept(rule)).cloned().collect();
        for rule in &kept {
            warn!(path = ?rule.path, "export unchanged: its rule cannot be read again");
        }
        loaded.rules.extend(kept);
        let bad = self.replace(loaded)?;
        self.log_changes(&before);
        Ok(bad)
    }

    /// Logs how the exports differ from those in force before.
    fn log_changes(&self, before: &[ExportRule]) {
        let exports = self.vfs.exports();
        let now: Vec<_> = exports.iter().map(|export| export.rule()).collect();
        for rule in before.iter().filter(|old| now.iter().all(|rule| rule.path != old.path)) {
            info!(path = ?rule.path, "withdrawn");
        }
        for export in exports.iter() {
            match before.iter().find(|old| old.path == export.rule().path) {
                None => log_exported(export),
                Some(old) if as_written(old) != as_written(export.rule()) => {
                    let rule = export.rule();
                    let clients = clients(rule);
                    info!(path = ?rule.path, clients, "exported with changed clients or options");
                }
                Some(_same) => {}
            }
        }
        if now.is_empty() {
            warn!(
                "nothing is exported any more: every call for a file is refused until an export is \
                 written and HUP is sent"
            );
        }
    }

    fn replace(&self, loaded: LoadedExports) -> Result<Vec<VfsError>, VfsError> {
        for problem in &loaded.problems {
            warn!("skipped: {problem}");
        }
        for unresolved in &loaded.unresolved {
            warn!("{unresolved}; this host is not served until its name has an address");
        }
        loaded.rules.iter().for_each(warn_of_unknown_hosts);
        let bad = self.vfs.set_good_exports(loaded.rules)?;
        for error in &bad {
            let line = LoadedExports::located(&loaded.places, error);
            match error {
                VfsError::Kept { .. } => warn!("{line}"),
                _ => warn!("skipped: {line}"),
            }
        }
        warn_of_read_only(&self.vfs);
        Ok(bad)
    }

    fn rules(&self) -> Vec<ExportRule> {
        self.vfs.exports().iter().map(|export| export.rule().clone()).collect()
    }

    /// Looks up the hosts that have no address. Returns whether some have none still.
    pub(crate) fn look_up_again(&self) -> bool {
        let mut found = HashMap::new();
        let mut is_missing = false;
        for rule in self.rules() {
            for mut client in rule.clients.into_iter().map(|rule| rule.client) {
                if !client.is_unresolved() {
                    continue;
                }
                // Without the lock: it may take as long as the network likes.
                match (client.look_up(), client) {
                    (Ok(()), ClientMatch::Host { name, addrs }) => drop(found.insert(name, addrs)),
                    _ => is_missing = true,
                }
            }
        }
        if found.is_empty() {
            return is_missing;
        }
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        // No directory is opened again: one that hangs, or fails, has nothing to do with hosts.
        self.vfs.change_rules(|rule| fill_in(core::slice::from_mut(rule), &found));
        info!(hosts = ?found.keys(), "host names resolved");
        is_missing
    }
}

/// Logs an export that is new, with how long its handles stay valid.
pub(crate) fn log_exported(export: &Export) {
    let rule = export.rule();
    let (path, clients, life) = (&rule.path, clients(rule), export.handle_life());
    let how = if export.kernel_finds() { "" } else { ", files are searched for by name" };
    match life {
        HandleLife::File => info!(?path, clients, "exported; handles {life}{how}"),
        _ => warn!(?path, clients, "exported; handles {life}{how}"),
    }
}

/// Returns the clients of a rule with their modes, in the order in which they are compared.
pub(super) fn clients(rule: &ExportRule) -> String {
    let clients = rule.clients.iter().map(|client| {
        let mode = match client.options.access {
            Access::ReadOnly => "ro",
            Access::ReadWrite => "rw",
        };
        format!("{}({mode})", client.client)
    });
    clients.collect::<Vec<_>>().join(" ")
}

/// Returns a rule without the addresses of its hosts, whose order differs from one look-up to another.
fn as_written(rule: &ExportRule) -> ExportRule {
    let mut rule = rule.clone();
    for client in &mut rule.clients {
        if let ClientMatch::Host { addrs, .. } = &mut client.client {
            addrs.clear();
        }
    }
    rule
}

/// Returns the addresses of hosts by name.
fn addrs_of(rules: &[ExportRule]) -> HashMap<String, Vec<IpAddr>> {
    let clients = rules.iter().flat_map(|rule| &rule.clients);
    let hosts = clients.filter_map(|client| match &client.client {
        ClientMatch::Host { name, addrs } if !addrs.is_empty() => {
            Some((name.clone(), addrs.clone()))
        }
        _ => None,
    });
    hosts.collect()
}

/// Warns of hosts without an address that take rights from clients of a wider rule.
fn warn_of_unknown_hosts(rule: &ExportRule) {
    for (index, host) in rule.clients.iter().enumerate() {
        if !host.client.is_unresolved() {
            continue;
        }
        let limited = rule.clients[index + 1..].iter().find(|other| {
            other.client.is_wide() && other.options.limited_to(&host.options) != other.options
        });
        if let Some(limited) = limited {
            warn!(
                path = ?rule.path,
                "the host {} has no address yet: until it has one, clients of {} get no rights \
                 that this host lacks; use its address instead of its name, or remove it",
                host.client, limited.client
            );
        }
    }
}

/// Gives hosts without an address those that are known.
fn fill_in(rules: &mut [ExportRule], found: &HashMap<String, Vec<IpAddr>>) {
    for client in rules.iter_mut().flat_map(|rule| &mut rule.clients) {
        if let ClientMatch::Host { name, addrs } = &mut client.client
            && addrs.is_empty()
            && let Some(known) = found.get(name)
        {
            addrs.clone_from(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use pagemill_nfs::exports::{ExportOptions, parse_exports, parse_good_exports};
    use pagemill_nfs::fh::FhKey;
    use pagemill_nfs::vfs::{Actors, VfsConfig};

    use super::*;

    fn exports() -> (Arc<Vfs>, Exports) {
        let config = VfsConfig {
            key: FhKey::random().unwrap(),
            actors: Actors::Server,
            max_nr_files: 1,
            nr_threads: 0,
        };
        let vfs = Arc::new(Vfs::new(config).unwrap());
        (Arc::clone(&vfs), Exports::new(vfs))
    }

    fn rules(text: &str) -> LoadedExports {
        let rules = parse_exports(text, ExportOptions::default()).unwrap();
        LoadedExports { rules, ..LoadedExports::default() }
    }

    #[test]
    fn an_export_stays_while_its_own_line_or_a_file_cannot_be_read() {
        let (vfs, exports) = exports();
        let is_exported = || vfs.exports().iter().any(|it| it.rule().path.as_os_str() == "/tmp");
        let bad = |line: &str| {
            let (_, errors) = parse_good_exports(line, ExportOptions::default());
            let unread = errors.into_iter().filter_map(|error| error.path).collect();
            LoadedExports { unread, problems: vec!["bad".into()], ..rules("/proc *(ro)") }
        };
        exports.set(rules("/tmp *(ro)")).unwrap();
        exports.set_again(bad("/tmp/ *(nonsense)")).unwrap();
        assert!(is_exported());
        exports.set_again(LoadedExports { is_file_missing: true, ..bad("") }).unwrap();
        assert!(is_exported());
        exports.set_again(bad("/other *(nonsense)")).unwrap();
        assert!(!is_exported(), "nothing is wrong with what was read about it");
    }

    #[test]
    fn a_host_keeps_its_addresses_while_its_name_has_none() {
        let (vfs, exports) = exports();
        let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let mut first = rules("/tmp host(ro)");
        fill_in(&mut first.rules, &HashMap::from([("host".to_owned(), vec![client])]));
        exports.set(first).unwrap();
        exports.set_again(rules("/tmp host(ro)")).unwrap();
        assert!(vfs.serves(client));
    }

    #[test]
    fn a_host_is_served_once_its_name_has_an_address() {
        let (vfs, exports) = exports();
        // Names are not looked up yet.
        exports.set(rules("/tmp localhost(ro)")).unwrap();
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let is_served =
            || vfs.exports().iter().next().unwrap().rule().options_for(client).is_some();
        assert!(!is_served());
        assert!(!exports.look_up_again());
        assert!(is_served());
    }
}
