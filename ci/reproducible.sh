#!/usr/bin/env bash
# Two builds of the program are equal byte for byte, though their folders, cargo's home and the times
# differ. RELEASING.md gives the command of a build that others can repeat.
#
# ci/reproducible.sh          the program without benchmarks, compiled quickly
# ci/reproducible.sh --full   the program as it is released; takes several minutes
set -euo pipefail
cd "$(dirname "$0")/.."

options=(--no-default-features)
profile=debug
if [[ ${1:-} = --full ]]; then
    options=(--release)
    profile=release
elif [[ $# -gt 0 ]]; then
    echo "usage: ci/reproducible.sh [--full]" >&2
    exit 2
fi
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# Copies the tree to folder $1/source and builds it there; prints the program's path.
build() {
    local folder=$1 home=$1/cargo
    mkdir -p "$folder/source" "$home/registry"
    # Files that were deleted since the last run leave the copy too. What was compiled stays.
    find "$folder/source" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
    # The files keep their times, so that cargo compiles again only what changed.
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$folder/source"
    # What was fetched serves both. Each unpacks it for itself: a link to the sources would show where
    # they are.
    ln -sfn "$cargo_home/registry/index" "$home/registry/index"
    ln -sfn "$cargo_home/registry/cache" "$home/registry/cache"
    (
        cd "$folder/source"
        unset CARGO_TARGET_DIR
        CARGO_HOME=$home RUSTFLAGS="--remap-path-prefix=$PWD=/pagemill --remap-path-prefix=$home=/cargo" \
            cargo build --quiet --locked --package pagemill-cli "${options[@]}"
    ) >&2
    echo "$folder/source/target/$profile/pagemill"
}

one=$(build "$PWD/target/reproducible/one")
two=$(build "$PWD/target/reproducible/another/folder")
sha256sum "$one" "$two"
if ! cmp "$one" "$two"; then
    # What differs is most often a path.
    diff <(strings "$one") <(strings "$two") | head -20 >&2 || true
    exit 1
fi
