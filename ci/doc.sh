#!/usr/bin/env bash
# The documentation builds, private items included, and its links resolve.
set -euo pipefail
cd "$(dirname "$0")/.."

# -D warnings: a broken link is an error.
export RUSTDOCFLAGS="-D warnings ${RUSTDOCFLAGS:-}"
# --document-private-items: the reasons in private modules are for the people who change them.
# --no-deps: what others document is not checked here.
# What the examples do is checked with the tests.
flags=(--no-deps --document-private-items)

# The program has the name of the library and would overwrite its pages, so its manifest says
# `doc = false`; named explicitly and first, it is checked all the same.
cargo doc --package pagemill-cli --bin pagemill "${flags[@]}"
cargo doc --workspace "${flags[@]}"
