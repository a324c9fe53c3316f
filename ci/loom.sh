#!/usr/bin/env bash
# Loom runs the concurrent parts of pagemill, its pool, its slab and pagemill-rpc through every
# interleaving within a bound.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -f crates/pagemill/tests/loom.rs ]]; then
    echo "crates/pagemill/tests/loom.rs is missing" >&2
    exit 1
fi

# --cfg loom: sync.rs takes its atomics from loom.
export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}"
# Two forced switches of thread find nearly all known faults; each further one costs a factor.
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}
# --release: the number of interleavings is what counts. The target directory is its own because
# the changed RUSTFLAGS would rebuild everything else.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/loom \
    cargo test --package pagemill --features alloc --release --test loom
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/loom \
    cargo test --package pagemill-rpc --release --lib loom_tests
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/loom \
    cargo test --package pagemill-pool --release --lib loom_tests
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/loom \
    cargo test --package pagemill-slab --release --test loom
# The queue, the accounts, the claim, the states of pageblocks and the page owners alone, beyond what whole
# worlds can go through.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/loom \
    cargo test --package pagemill --release --lib -- queue::loom account::table::loom claim::loom_tests \
    block_state::loom page_owner::loom
