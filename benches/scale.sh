#!/usr/bin/env bash
# Measures the cost of a page with 1, 2, 4, 8 and 16 threads, each on its own CPU: single pages, 64 at a
# time, batches that another thread frees, blocks of order 9, and pages that return in random order. Beside
# it stand the limit (copies of handles), mimalloc and a stack behind a lock. Takes at most eight minutes
# once the programs are built; a busy machine spoils the figures.
#
# Usage: benches/scale.sh [FOLDER] writes scale.json and scale.svg into FOLDER, by default target/scale.
# Numbers of threads beyond the CPUs are left out; then the model of `--example scale` runs, too.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-${CARGO_TARGET_DIR:-target}/scale}
seconds=${SECONDS_TO_MEASURE:-240}
profile=${PROFILE:-release}
peers_target=${CARGO_TARGET_DIR:-$PWD/target}/peers
mkdir -p "$folder"

cargo build --locked --manifest-path benches/peers/Cargo.toml --target-dir "$peers_target" \
    --profile "$profile"
"$peers_target/$profile/pagemill-peers" --scenario scale --seconds "$seconds" \
    --peer pagemill-vec,pagemill-array,pagemill-single,mimalloc,mutex-vec \
    --json "$folder/scale.json" --svg "$folder/scale.svg"

if [[ $(nproc) -lt 16 ]]; then
    echo
    echo "This machine has $(nproc) CPUs. The model of more CPUs, which counts locks and assumes their costs:"
    cargo run --release --quiet --package pagemill --example scale
fi
