#!/usr/bin/env bash
# Other targets: bare metal links without a helper of the compiler, 32 bits are refused in words, and
# the core's tests pass on aarch64 under emulation.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/targets
proof=ci/no_std-proof/Cargo.toml
cp Cargo.lock ci/no_std-proof/Cargo.lock

has_target() {
    [[ -d $(rustc --print target-libdir --target "$1") ]]
}

skip() {
    echo "SKIPPED: targets.sh: $1"
}

# A program of a machine without an operating system, with every public call in it. The linker fails at
# what is missing; the compiler's own library supplies all helpers, so these are found by their names.
# Copies and comparisons are allowed: the compiler calls them on any target.
for target in x86_64-unknown-none aarch64-unknown-none riscv64gc-unknown-none-elf; do
    if ! has_target "$target"; then
        skip "$target is not installed (rustup target add $target)"
        continue
    fi
    cargo build --quiet --release --manifest-path "$proof" --bin no-std-image --features image \
        --target "$target"
    image=$CARGO_TARGET_DIR/$target/release/no-std-image
    # Function symbols that are not Rust's: readelf knows every machine, nm need not.
    foreign=$(readelf --symbols --wide "$image" | awk '$4 == "FUNC" && $8 !~ /^_(ZN|R)/ { print $8 }')
    for symbol in $foreign; do
        case $symbol in
            _start | memcpy | memmove | memset | memcmp | bcmp) ;;
            *) echo "$target: the image calls the helper $symbol" >&2; exit 1 ;;
        esac
    done
    # It has no program of its own there; examples/kernel is one, for x86-64.
    cargo build --quiet --release --package pagemill-slab --target "$target"
    text=$(size -A "$image" | awk '$1 == ".text" { print $2 }')
    echo "$target: linked, $text bytes of code, no helper"
done

# One target with 32-bit pointers, and one that has no 64-bit atomics either.
for target in armv7-unknown-linux-gnueabihf thumbv7em-none-eabi; do
    if ! has_target "$target"; then
        skip "$target is not installed (rustup target add $target)"
        continue
    fi
    if errors=$(cargo check --quiet --package pagemill --target "$target" 2>&1); then
        echo "$target: pagemill compiles, and is not made for it" >&2
        exit 1
    fi
    if ! grep -q 'pagemill needs a target with 64-bit pointers and 64-bit atomic' <<<"$errors"; then
        printf '%s: the error does not say what is needed:\n%s\n' "$target" "$errors" >&2
        exit 1
    fi
    echo "$target: refused"
done

# Tests on another architecture: unit tests with their models, contracts, requests, and threads. What
# takes long under emulation stays away.
target=aarch64-unknown-linux-gnu
if ! has_target "$target"; then
    skip "$target is not installed (rustup target add $target)"
elif ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    skip "the tests on aarch64 need qemu-user and gcc-aarch64-linux-gnu"
else
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
    cargo test --quiet --package pagemill --target "$target" --lib --test contract --test bulk \
        --test api --test threads
fi
