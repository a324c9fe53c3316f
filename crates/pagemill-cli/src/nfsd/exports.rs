//! What is exported while the server runs: what was read, and hosts whose names get an address later.

use alloc::sync::Arc;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pagemill_nfs::{ClientMatch, ExportRule, Vfs, VfsError};
use tracing::{info, warn};

use crate::plan::nfsd::LoadedExports;

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

    /// Exports what was read again. While a line cannot be read, what is exported already stays: the
    /// line may be about it.
    ///
    /// # Errors
    /// That nothing can be exported at all.
    pub(crate) fn set_again(&self, mut loaded: LoadedExports) -> Result<Vec<VfsError>, VfsError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if !loaded.problems.is_empty() {
            let is_new =
                |rule: &ExportRule| loaded.rules.iter().all(|other| other.path != rule.path);
            let kept: Vec<_> = self.rules().into_iter().filter(is_new).collect();
            loaded.rules.extend(kept);
        }
        self.replace(loaded)
    }

    fn replace(&self, loaded: LoadedExports) -> Result<Vec<VfsError>, VfsError> {
        for problem in &loaded.problems {
            warn!("left out: {problem}");
        }
        let bad = self.vfs.set_good_exports(loaded.rules)?;
        for error in &bad {
            warn!("left out: {error}");
        }
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
                if !is_unknown(&client) {
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
        let mut rules = self.rules();
        fill_in(&mut rules, &found);
        info!(hosts = ?found.keys(), "hosts have addresses now");
        match self.replace(LoadedExports { rules, problems: Vec::new() }) {
            Ok(_left_out) => is_missing,
            Err(error) => {
                warn!("exports stay as they were: {error}");
                true
            }
        }
    }
}

fn is_unknown(client: &ClientMatch) -> bool {
    matches!(client, ClientMatch::Host { addrs, .. } if addrs.is_empty())
}

fn fill_in(rules: &mut [ExportRule], found: &HashMap<String, Vec<IpAddr>>) {
    for client in rules.iter_mut().flat_map(|rule| &mut rule.clients) {
        if let ClientMatch::Host { name, addrs } = &mut client.client
            && let Some(known) = found.get(name)
        {
            addrs.clone_from(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use pagemill_nfs::{Actors, ExportOptions, FhKey, VfsConfig, parse_exports};

    use super::*;

    #[test]
    fn a_host_is_served_once_its_name_has_an_address() {
        let config = VfsConfig {
            key: FhKey::random().unwrap(),
            actors: Actors::Server,
            max_nr_files: 1,
            nr_threads: 0,
        };
        let vfs = Arc::new(Vfs::new(config).unwrap());
        let exports = Exports::new(Arc::clone(&vfs));
        // Names are not looked up yet.
        let rules = parse_exports("/tmp localhost(ro)", ExportOptions::default()).unwrap();
        exports.set(LoadedExports { rules, problems: Vec::new() }).unwrap();
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let is_served =
            || vfs.exports().iter().next().unwrap().rule().options_for(client).is_some();
        assert!(!is_served());
        assert!(!exports.look_up_again());
        assert!(is_served());
    }
}
