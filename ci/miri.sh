#!/usr/bin/env bash
# Miri runs the tests of pagemill and stops at undefined behaviour.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "SKIPPED: miri.sh: no nightly toolchain with the component miri"
    exit 0
fi

# strict-provenance: a pointer made from an integer alone is an error.
# symbolic-alignment-check: an address that is aligned by luck does not count as aligned.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-symbolic-alignment-check ${MIRIFLAGS:-}"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/miri \
    cargo +nightly miri test --package pagemill --features alloc --lib --tests
