//! Runs every check over the tree that this package stands in.

use std::path::Path;

use xtask::{
    Finding, Tree, dependencies, docs, figures, guides, layers, links, readmes, roots, scripts,
    size, sources, unsafe_modules, words,
};

/// Reads the tree that this package stands in.
fn tree() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = Tree::read(&root).expect("the tree can be read");
    assert!(tree.exists("xtask/tests/tidy.rs"), "the tree is the one with this file in it");
    tree
}

/// Fails with all that `check` finds in the tree.
fn assert_tidy(check: impl Fn(&Tree) -> Vec<Finding>) {
    let findings = check(&tree());
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "not tidy:\n{}", lines.join("\n"));
}

#[test]
fn crates_depend_only_on_lower_layers() {
    assert_tidy(layers::check_crates);
}

#[test]
fn modules_import_only_from_lower_layers() {
    assert_tidy(layers::check_modules);
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_tidy(docs::check);
}

#[test]
fn no_file_is_too_long() {
    assert_tidy(|tree| size::check(tree, size::RATCHET));
}

#[test]
fn unsafe_code_stays_in_its_modules() {
    assert_tidy(unsafe_modules::check);
}

#[test]
fn crate_roots_show_the_listed_names() {
    assert_tidy(roots::check);
}

#[test]
fn nothing_is_left_unfinished() {
    assert_tidy(words::check);
}

#[test]
fn links_lead_somewhere() {
    assert_tidy(links::check);
}

#[test]
fn published_crates_are_complete() {
    assert_tidy(readmes::check);
}

#[test]
fn dependencies_have_their_rows() {
    assert_tidy(dependencies::check);
}

#[test]
fn sources_have_their_keys() {
    assert_tidy(sources::check);
}

#[test]
fn every_script_is_called() {
    assert_tidy(scripts::check);
}

#[test]
fn guides_show_their_programs() {
    assert_tidy(guides::check);
}

#[test]
fn figures_equal_their_sources() {
    assert_tidy(figures::check);
}

/// README's first command is `cargo run --release -- bench`, which needs one program to choose.
#[test]
fn cargo_run_finds_one_program() {
    let tree = tree();
    let is_program = |path: &&str| {
        let is_member = path.starts_with("crates/") || path.starts_with("xtask/");
        is_member && (path.ends_with("/src/main.rs") || path.contains("/src/bin/"))
    };
    let programs: Vec<_> = tree.iter().map(|(path, _)| path).filter(is_program).collect();
    assert_eq!(programs, ["crates/pagemill-cli/src/main.rs"]);
}
