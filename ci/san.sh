#!/usr/bin/env bash
# AddressSanitizer and ThreadSanitizer watch the tests of the crates that have unsafe code.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "SKIPPED: san.sh: no nightly toolchain"
    exit 0
fi

host=$(rustc +nightly --version --verbose | sed -n 's/^host: //p')
flags=${RUSTFLAGS:-}
# --target: without it, build scripts and procedural macros would be instrumented and fail to load.
# --lib --tests: documentation tests are built without these flags.
test=(cargo +nightly test --target "$host" --package pagemill --package pagemill-host
    --features pagemill/alloc --lib --tests)

# Works with the std that is installed: a wrong access in code of ours is seen all the same.
# pagemill-uring: not under ThreadSanitizer, which does not see what the kernel writes.
# detect_leaks=0: tests of tables that live for ever leak them on purpose; that no page is lost is
# what the tests' own counts are for.
ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" RUSTFLAGS="-Zsanitizer=address $flags" \
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/asan "${test[@]}" --package pagemill-uring

# pagemill_tsan: the host claims lists by an exchange. ThreadSanitizer does not see that a restartable
# sequence and a fence exclude each other, and reports what the two guard as races.
# rustix_use_libc: ThreadSanitizer follows mappings through the C library alone. Of addresses that are
# mapped anew by a bare system call it reports races with what was there before.
# die_after_fork=0: a test starts threads in a child of fork.
# Needs a std built with the same flags: it must see the synchronisation inside of std, or it
# reports races that are none.
if [[ ! -d $(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/std ]]; then
    echo "SKIPPED: san.sh: ThreadSanitizer needs the nightly component rust-src"
    exit 0
fi
TSAN_OPTIONS="die_after_fork=0 ${TSAN_OPTIONS:-}" \
    RUSTFLAGS="-Zsanitizer=thread --cfg pagemill_tsan --cfg rustix_use_libc $flags" \
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/tsan "${test[@]}" -Zbuild-std
