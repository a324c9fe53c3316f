#!/usr/bin/env bash
# The crates can be published: cargo builds each from its package, a package has what a stranger needs
# and nothing else, and the examples of the READMEs run from the packages.
#
# Tests are not run here. Those of `tests` are not packed: they need pagemill-testkit, which is not
# published, and other parts of the repository. Unit tests are the code that ci/test.sh runs.
set -euo pipefail
cd "$(dirname "$0")/.."

# What a package may contain beside what cargo adds, as a pattern for paths. Unit tests compare with texts.
allowed='README\.md|LICENSE-(MIT|APACHE)|build\.rs|(src|include|examples)/[^.]*\.(rs|h|c|man|txt)'
# The C interface is installed by make; its unit tests read layout.c.
allowed+='|Makefile|[a-z]+\.pc\.in|tests/c/layout\.c'
added='Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json'
# The largest file that a person wrote, and the largest package.
file_kib_max=64
package_kib_max=512

# What cargo says each time: of tests that are not packed, of addresses that do not exist yet.
known='^warning: ignoring |^warning: manifest has no |^ *\| *$|^ *= note: see .*package-metadata|^warning: aborting upload due to dry run'

failed=0
fail() {
    echo "$1" >&2
    failed=1
}

# Names of the packages that cargo publishes.
published() {
    local manifest
    for manifest in $(git ls-files 'crates/*/Cargo.toml' xtask/Cargo.toml); do
        grep -qx 'publish = false' "$manifest" || sed -n '0,/^name = /s/^name = "\(.*\)"/\1/p' "$manifest"
    done
}

# Each file of package $1, its size and what it must have.
check_package() {
    local crate=$1 name file listing
    name=${crate##*/}
    name=${name%.crate}
    listing=$(tar -tvzf "$crate" | awk '{ print $1, $3, $6 }')
    if grep -v '^-' <<<"$listing"; then
        fail "$name: the files above are no regular files"
    fi
    while read -r _ size file; do
        file=${file#"$name"/}
        if [[ ! $file =~ ^($allowed|$added)$ ]]; then
            fail "$name: $file is of no use to a stranger; see \`include\` in its manifest"
        elif [[ ! $file =~ ^($added)$ ]] && ((size > file_kib_max * 1024)); then
            fail "$name: $file has $size bytes, at most $file_kib_max KiB"
        fi
    done <<<"$listing"
    for file in README.md LICENSE-MIT LICENSE-APACHE; do
        grep -q " $name/$file\$" <<<"$listing" || fail "$name: has no $file"
    done
    if (($(stat -c %s "$crate") > package_kib_max * 1024)); then
        fail "$name: larger than $package_kib_max KiB"
    fi
    # The manifest as others read it: nothing by path, and no name of what is not published.
    if tar -xzOf "$crate" "$name/Cargo.toml" | grep -E 'path = "\.\.|testkit'; then
        fail "$name: the manifest names what its users do not have"
    fi
}

# cargo takes a package for unchanged if its version is: it would build against what it unpacked and
# compiled in the last run. A target folder of its own keeps the builds of other packages.
target=$PWD/target/packages
packages=$(published | sort)
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
for name in $packages; do
    rm -rf "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/"$name"-[0-9]*
done
rm -rf "$target"/package "$target"/debug/.fingerprint/pagemill*
cargo publish --workspace --dry-run --allow-dirty --target-dir "$target" 2> >(grep --line-buffered -vE "$known" >&2)
# A dry run keeps no packages.
cargo package --quiet --workspace --no-verify --allow-dirty --target-dir "$target" \
    --exclude pagemill-testkit --exclude xtask 2> >(grep --line-buffered -vE "$known" >&2)

made=$(cd "$target/package" && printf '%s\n' *.crate | sed "s/-$version\.crate\$//" | sort)
if [[ $packages != "$made" ]]; then
    fail "packages: $(tr '\n' ' ' <<<"$made"), published by their manifests: $(tr '\n' ' ' <<<"$packages")"
fi
for crate in "$target"/package/*.crate; do
    check_package "$crate"
done
[[ $failed = 0 ]] || exit 1

# The version that the manifests promise, if another one built the packages.
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if [[ ! $(rustc --version) =~ ^rustc\ $minimum\. ]]; then
    if rustup run "$minimum" rustc --version >/dev/null 2>&1; then
        rustup run "$minimum" cargo check --quiet --workspace --exclude xtask --target-dir "$target/minimum"
    else
        echo "SKIPPED: packages.sh: the packages were not built with Rust $minimum: rustup does not have it"
    fi
fi

# The examples of the READMEs, in a workspace of unpacked packages.
folder=$target/unpacked
rm -rf "$folder"
mkdir -p "$folder"
for crate in "$target"/package/*.crate; do
    # --touch: with the times of the archive, cargo would not notice a change.
    tar --touch -xzf "$crate" -C "$folder"
done
{
    printf '[workspace]\nresolver = "3"\nmembers = ["*"]\n[patch.crates-io]\n'
    for crate in "$target"/package/*.crate; do
        name=$(basename "$crate" "-$version.crate")
        echo "$name = { path = \"$name-$version\" }"
    done
} >"$folder/Cargo.toml"
cp Cargo.lock "$folder/"
libraries=()
for name in $packages; do
    # The program has no library, and the example of the C interface is in C.
    if grep -q '^```rust' "$folder/$name-$version/README.md"; then
        libraries+=(--package "$name")
    fi
done
# The front page of a library includes its README, with the README's example. (rustdoc divides what
# follows `--` at spaces, so a longer part of a test's name cannot be given.)
cargo test --quiet --manifest-path "$folder/Cargo.toml" --target-dir "$target" --doc "${libraries[@]}" \
    -- src/lib.rs | tee "$folder/log"
if [[ $(grep -c '^test result: ok\. [1-9]' "$folder/log") -lt $((${#libraries[@]} / 2)) ]]; then
    fail "a library has no example that runs"
fi
[[ $failed = 0 ]]
