#!/usr/bin/env bash
# What pagemill and its heap are compared with: formatted, without warnings, and every scenario runs once.
set -euo pipefail
cd "$(dirname "$0")/../benches/peers"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/peers

# It is a workspace of its own, which no check of the other crates reaches.
cargo fmt --check

# A workspace cannot inherit lints from another, so they stand in both manifests.
lints() {
    sed -n "/^\[$1rust\]/,/^\$/p; /^\[$1clippy\]/,/^\$/p" "$2" | sed "s/^\[$1/[/; /^\$/d"
}
if ! diff <(lints 'workspace\.lints\.' ../../Cargo.toml) <(lints 'lints\.' Cargo.toml); then
    echo "the lints of benches/peers/Cargo.toml are not those of the workspace" >&2
    exit 1
fi

# Nothing else of the project needs these packages, so they may be out of reach.
if ! cargo fetch --locked; then
    echo "SKIPPED: peers.sh: the packages of benches/peers/Cargo.lock cannot be had, so nothing was built"
    exit 0
fi
if ! command -v cc >/dev/null || ! command -v make >/dev/null; then
    echo "SKIPPED: peers.sh: cc or make is not installed, so jemalloc and mimalloc were not built"
    exit 0
fi

# The figures of this profile are not for people: it builds in a third of the time.
cargo clippy --locked --profile smoke --all-targets -- -D warnings
cargo test --locked --profile smoke
cargo build --locked --profile smoke
cargo run --locked --profile smoke -- --quick
cargo run --locked --profile smoke -- --quick --scenario orders,scale \
    --peer pagemill-vec,pagemill-single,buddy-system,mimalloc,mutex-vec

# The comparison of heaps: every heap on every path, two threads by turns, and fragmented memory.
heaps=$CARGO_TARGET_DIR/smoke/pagemill-heaps
for heap in limit claims pagemill pagemill-unchecked pagemill-single pagemill-split \
    mimalloc jemalloc glibc talc rlsf linked-list; do
    "$heaps" path "$heap" larson 3000
    "$heaps" path "$heap" fixed 10
done
for refill in pagemill pagemill-single pagemill-split; do
    for path in grow64 grow-mixed grow512; do
        "$heaps" path "$refill" "$path" 1
    done
done
"$heaps" threads --seconds 0 --steps 2000
for memory in fragmented fresh; do
    "$heaps" case 1536 3 bulk "$memory" 1
    "$heaps" case 512 0 split "$memory" 1
done
