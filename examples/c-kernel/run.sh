#!/usr/bin/env bash
# Builds the kernel of main.c and boots it under QEMU.
#
# run.sh [--rust] [--icount]: with --icount, a tick is an instruction. With --rust, boots the loop that main.c
# measures in Rust instead. CC is the compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
out=$target/c-kernel
rust=0
icount=()
for option; do
    case $option in
    --rust) rust=1 ;;
    --icount) icount=(-icount shift=0) ;;
    *) echo "run.sh: unknown option $option; allowed are --rust and --icount" >&2 && exit 2 ;;
    esac
done

build_c() {
    local compiler=${CC:-cc}
    mkdir -p "$out"
    cargo rustc --quiet --package pagemill-c --lib --no-default-features --crate-type staticlib --release \
        --target x86_64-unknown-none
    cp "$target/x86_64-unknown-none/release/libpagemill_c.a" "$out/libpagemill_kernel.a"

    # Linked to run where it is loaded, at 16 MiB. boot.s is that of the kernel in Rust.
    image=$out/kernel-${compiler##*/}
    "$compiler" -std=c99 -Wall -Wextra -pedantic -Werror -O2 -ffreestanding -fno-stack-protector -fno-pic \
        -fcf-protection=none -mno-red-zone -mno-mmx -mno-sse -mno-sse2 -I crates/pagemill-c/include \
        -nostdlib -static -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noexecstack \
        -Wl,-Ttext-segment=0x1000000 -Wl,-e,pvh_start -o "$image" \
        examples/guides/kernel/src/boot.s examples/c-kernel/main.c -L"$out" -lpagemill_kernel
}

build_rust() {
    # A workspace of its own, with the versions of the other one.
    cp Cargo.lock examples/c-kernel/rust/Cargo.lock
    image=$(realpath -m "$out/rust")
    (cd examples/c-kernel/rust && CARGO_TARGET_DIR=$image cargo build --quiet --release)
    image+=/x86_64-unknown-none/release/c-kernel-rust
}

if [[ $rust -eq 1 ]]; then
    build_rust
else
    build_c
fi
# 33 is the status with which the kernel ends at its end; no error of QEMU has it.
status=0
timeout 120 qemu-system-x86_64 "${icount[@]}" -m 256M -nodefaults -display none -serial stdio -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=1 -kernel "$image" </dev/null || status=$?
[[ $status -eq 33 ]]
