#!/usr/bin/env bash
# No compiler warning and no clippy lint in any package, tests and benchmarks included.
set -euo pipefail
cd "$(dirname "$0")/.."

# One package at a time: in one run over the workspace, the features that one package asks of a
# dependency are on for all, and code that lacks a feature of its own compiles by luck.
# --no-deps: a warning is named once, in the run over its own package.
packages=$(cargo tree --workspace --depth 0 --prefix none --format '{p}' | awk 'NF { print $1 }')
for package in $packages; do
    cargo clippy --package "$package" --all-targets --no-deps -- -D warnings
done
# What stands behind the core's feature, which no package looked at alone turns on.
cargo clippy --package pagemill --features alloc --all-targets --no-deps -- -D warnings
cargo clippy --package pagemill-cli --no-default-features --bins --no-deps -- -D warnings
