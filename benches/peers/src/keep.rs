//! General allocators that keep their memory, as an arena is kept.
//!
//! By default mimalloc and jemalloc give memory back to the system that was free for a while, such as
//! the turns of all others; then a drain measures the system's page faults. They are told not to by
//! their environments, unless these say something already, and read them before anything else runs:
//! so this program starts itself once more.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What they are told, and by which variable.
const SETTINGS: [(&str, &str); 2] =
    [("MIMALLOC_PURGE_DELAY", "-1"), ("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")];

/// Starts this program once more unless every variable is set; returns if that is so.
///
/// # Errors
/// What the system answers.
pub(crate) fn keep_memory() -> anyhow::Result<()> {
    let is_set = |name: &str| env::var_os(name).is_some();
    if SETTINGS.iter().all(|(name, _)| is_set(name)) {
        return Ok(());
    }
    let missing = SETTINGS.into_iter().filter(|(name, _)| !is_set(name));
    let mut again = Command::new(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).envs(missing).exec().into())
}
