//! Prints the layer tables that the imports of today would allow, to compare with ARCHITECTURE.md.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::io;
use std::path::Path;

use xtask::{Tree, layers};

fn main() -> io::Result<()> {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    print!("{}", layers::suggest(&tree));
    Ok(())
}
