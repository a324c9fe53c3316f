#!/usr/bin/env bash
# pagemill builds without std and without alloc; needs no bare-metal target.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}/no_std
proof=ci/no_std-proof

# The versions that the workspace uses; cargo drops the entries that the proof does not need.
cp Cargo.lock "$proof/Cargo.lock"

# The proof has a panic handler and no global allocator, so linking std or alloc is an error.
# -nostdlib: nothing of the C library is linked either, what is needed from it stays undefined.
CARGO_TARGET_DIR=$target RUSTFLAGS="-Clink-arg=-nostdlib ${RUSTFLAGS:-}" \
    cargo build --release --manifest-path "$proof/Cargo.toml"

# The compiler may call these for copies and comparisons on any target; nothing else is allowed.
library=$target/release/libno_std_proof.so
needed=$(nm --dynamic --undefined-only "$library" | awk '$1 == "U" { print $2 }')
for symbol in ${needed//@*/}; do
    case $symbol in
        memcpy | memmove | memset | memcmp | bcmp) ;;
        *) echo "pagemill needs $symbol from outside" >&2; exit 1 ;;
    esac
done
