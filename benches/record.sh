#!/usr/bin/env bash
# Measures what BENCHMARKING.md states, and records it in docs/results and docs/img. Takes about ten
# minutes on a quiet machine; a busy one spoils the figures.
#
# Usage: benches/record.sh [NAME...], with names out of bulk, frag, latency, peers, pool, rpc, users.
# Afterwards `cargo test -p xtask` names each figure in a document that no longer equals what was recorded.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release
mkdir -p docs/results
program=${CARGO_TARGET_DIR:-target}/release/pagemill

record() {
    local name=$1
    shift
    echo "--- $name"
    "$@" --json "docs/results/$name.json"
}

names=("$@")
[[ $# -gt 0 ]] || names=(bulk frag latency pool rpc users peers)
for name in "${names[@]}"; do
    case $name in
        bulk) record bulk "$program" bench bulk --svg docs/img/bench-bulk.svg ;;
        latency) record latency "$program" bench latency --time 10000 ;;
        frag | pool | rpc | users) record "$name" "$program" bench "$name" ;;
        peers)
            (cd benches/peers && cargo build --release --locked --features dpdk,snmalloc)
            record peers benches/peers/target/release/pagemill-peers --seconds 150 \
                --svg docs/img/bench-peers.svg
            ;;
        *)
            echo "record.sh: there is no benchmark '$name': bulk, frag, latency, peers, pool, rpc or users" >&2
            exit 2
            ;;
    esac
done
