#!/usr/bin/env bash
# Writes the manual pages and completions to target/packaging, where the packages take them from.
#
# assets.sh [PROGRAM]: without a program, it builds target/release/pagemill.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-}
if [[ -z $program ]]; then
    cargo build --quiet --release --package pagemill-cli
    program=${CARGO_TARGET_DIR:-target}/release/pagemill
fi
assets=target/packaging
rm -rf "$assets"
mkdir -p "$assets/completions"
"$program" man --dir "$assets/man/man1"
"$program" completions bash >"$assets/completions/pagemill"
"$program" completions fish >"$assets/completions/pagemill.fish"
"$program" completions zsh >"$assets/completions/_pagemill"
