#!/usr/bin/env bash
# The example kernel: formatted, without warnings, and every machine that it is for boots and passes.
set -euo pipefail
cd "$(dirname "$0")/../examples/kernel"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/kernel

# It is a workspace of its own, which no check of the other crates reaches.
cargo fmt --check
cp ../../Cargo.lock Cargo.lock
cargo clippy --all-targets -- -D warnings

# A workspace cannot inherit lints from another, so they stand in both manifests.
lints() {
    sed -n "/^\[$1rust\]/,/^\$/p; /^\[$1clippy\]/,/^\$/p" "$2" | sed "s/^\[$1/[/; /^\$/d"
}
if ! diff <(lints 'workspace\.lints\.' ../../Cargo.toml) <(lints 'lints\.' Cargo.toml); then
    echo "the lints of examples/kernel/Cargo.toml are not those of the workspace" >&2
    exit 1
fi

if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "SKIPPED: kernel.sh: qemu-system-x86_64 is not installed, so nothing was booted"
    exit 0
fi
./run.sh --build-only

# 4 GiB: a part of it lies above 4 GiB, behind the hole that the machines keep for devices.
while read -r options; do
    echo "--- run.sh $options"
    read -ra words <<<"$options"
    ./run.sh --no-build "${words[@]}"
done <<'BOOTS'
--machine q35 --memory 64M
--machine q35 --memory 4G --cpus 2
--machine microvm --memory 64M --cpus 2
--machine microvm --memory 4G
--machine pc --memory 256M --cpus 4
--machine q35 --memory 256M --icount
--machine microvm --memory 64M --cpus 2 --icount
BOOTS
