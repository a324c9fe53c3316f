//! Settings that make general-purpose allocators keep free memory, as an arena does.
//!
//! By default, mimalloc and jemalloc return memory to the system after it was free for a while,
//! such as during the turns of other peers; a drain would then measure page faults. Environment
//! variables prevent that, unless they are set already. The allocators read them before `main`
//! runs, so this program executes itself again with the variables set.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The environment variables and their values.
const SETTINGS: [(&str, &str); 2] =
    [("MIMALLOC_PURGE_DELAY", "-1"), ("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")];

/// Executes this program again unless every variable is set; returns if all are.
///
/// # Errors
/// The error of the system.
pub(crate) fn keep_memory() -> anyhow::Result<()> {
    let is_set = |name: &str| env::var_os(name).is_some();
    if SETTINGS.iter().all(|(name, _)| is_set(name)) {
        return Ok(());
    }
    let missing = SETTINGS.into_iter().filter(|(name, _)| !is_set(name));
    let mut again = Command::new(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).envs(missing).exec().into())
}
