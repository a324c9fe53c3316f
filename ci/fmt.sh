#!/usr/bin/env bash
# The sources are formatted as rustfmt.toml says.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
# A workspace of its own, so --all does not reach it.
cargo fmt --check --manifest-path ci/no_std-proof/Cargo.toml
# Programs that are workspaces of their own too, and whose packages need not resolve.
rustfmt --check --edition 2024 examples/guides/*/src/*.rs examples/guides/*/tests/*.rs \
    examples/c-kernel/rust/src/main.rs
