//! `pagemill man`: writes man pages.

use std::fs;

use anyhow::Context as _;

use crate::args::{self, docs::ManArgs};
use crate::manual::{self, Page};
use crate::output;
use crate::usage::UsageError;

/// Prints the page of a command, or writes all pages to a directory.
///
/// # Errors
/// A [`UsageError`] if there is no such command, and what the system refuses.
pub(crate) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let pages = manual::pages(&args::documented());
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for page in pages {
            let path = dir.join(page.file_name());
            fs::write(&path, page.text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(());
    }
    let page = find(&pages, &args.command)?;
    Ok(output::print(&page.text)?)
}

/// # Errors
/// A [`UsageError`] that names the commands which have pages.
fn find<'a>(pages: &'a [Page], words: &[String]) -> Result<&'a Page, UsageError> {
    pages.iter().find(|page| page.words == words).ok_or_else(|| {
        let names = pages.iter().map(|page| page.words.join(" ")).filter(|name| !name.is_empty());
        UsageError::new(format!(
            "there is no command '{}': choose from {}",
            words.join(" "),
            names.collect::<Vec<_>>().join(", ")
        ))
    })
}
