#!/usr/bin/env bash
# Every fuzz target runs for ten seconds, or FUZZ_SECS, and finds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Whatever toolchain there is, the targets are formatted.
cargo fmt --check --manifest-path fuzz/Cargo.toml
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "SKIPPED: fuzz.sh: cargo-fuzz or a nightly toolchain is not installed"
    exit 0
fi

# A crash is kept under fuzz/artifacts, and its input belongs into a test.
for target in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    echo "--- $name"
    cargo +nightly fuzz run "$name" -- -max_total_time="${FUZZ_SECS:-10}" -max_len=8192 \
        -print_final_stats=0 -verbosity=0
done
