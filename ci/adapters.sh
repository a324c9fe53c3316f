#!/usr/bin/env bash
# The adapters for other frameworks: formatted, without warnings, and their tests pass beside the
# allocators of those frameworks.
set -euo pipefail
cd "$(dirname "$0")/../examples/adapters"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/adapters

# It is a workspace of its own, which no check of the other crates reaches.
cargo fmt --check

# A workspace cannot inherit lints from another, so they stand in both manifests.
lints() {
    sed -n "/^\[$1rust\]/,/^\$/p; /^\[$1clippy\]/,/^\$/p" "$2" | sed "s/^\[$1/[/; /^\$/d"
}
if ! diff <(lints 'workspace\.lints\.' ../../Cargo.toml) <(lints 'lints\.' Cargo.toml); then
    echo "the lints of examples/adapters/Cargo.toml are not those of the workspace" >&2
    exit 1
fi

# Nothing else of the project needs these packages, so they may be out of reach.
if ! cargo fetch --locked; then
    echo "SKIPPED: adapters.sh: the packages of examples/adapters/Cargo.lock cannot be had, so nothing was built"
    exit 0
fi
cargo clippy --locked --all-targets -- -D warnings
# As the kernel uses it: one framework, without std.
cargo clippy --locked --no-default-features --features x86_64 --lib -- -D warnings
cargo test --locked
