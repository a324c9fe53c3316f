#!/usr/bin/env bash
# Dependencies of each workspace have an allowed licence and a known origin, nobody has warned of
# them, and docs/dependencies.md states their licences.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: deny.sh: cargo-deny is not installed"
    exit 0
fi

# Fetches what $1 needs. Cargo reads the configuration of the folder that it runs in.
fetch() {
    (cd "$(dirname "$1")" && cargo fetch --quiet)
}

# Runs cargo-deny on the workspace of $1, with the options that follow.
deny() {
    local config=$PWD/deny.toml
    (cd "$(dirname "$1")" && cargo deny --config "$config" "${@:2}")
}

# What `cargo tree` says of the direct dependencies of $1: name|licence.
direct() {
    (cd "$(dirname "$1")" && cargo tree --workspace --all-features --target all --depth 1 \
        --edges normal,build,dev --prefix none --format '{p}|{l}') |
        sed -n '/ (\//d; s/ ([*])$//; s/ v[^|]*|/|/p' | sort -u
}

# Each direct dependency of $1 has the licence that its row states.
compare_licences() {
    local dependencies name licence stated
    # A command in a process substitution could fail unseen.
    dependencies=$(direct "$1") || return
    while IFS='|' read -r name licence; do
        stated=$(awk -F ' *[|] *' -v name="\`$name\`" '$2 == name { print $4 }' docs/dependencies.md)
        if [[ $stated != "$licence" ]]; then
            echo "$1: $name is under '$licence'; docs/dependencies.md says '$stated'" >&2
            return 1
        fi
    done <<<"$dependencies"
}

# The root, and each workspace of its own: the fuzz targets, examples and comparisons.
manifests=$(grep -rlx --include=Cargo.toml --exclude-dir=target '\[workspace\]' . | sort)
# The guides ask for published versions. Copies of them ask for the crates here.
copies=$PWD/target/deny
rm -rf "$copies"
mkdir -p "$copies/.cargo"
{
    echo '[patch.crates-io]'
    for crate in "$PWD"/crates/*; do
        echo "${crate##*/} = { path = \"$crate\" }"
    done
} >"$copies/.cargo/config.toml"
checked=()
for manifest in $manifests; do
    if [[ $manifest = ./examples/guides/* ]]; then
        folder=$(dirname "$manifest")
        cp -r "$folder" "$copies/"
        manifest=target/deny/${folder##*/}/Cargo.toml
    fi
    # The packages of a side workspace may be out of reach.
    if [[ $manifest != ./Cargo.toml ]] && ! fetch "$manifest"; then
        echo "SKIPPED: deny.sh: the packages of $manifest cannot be had"
        continue
    fi
    echo "$manifest"
    # Not each workspace has each licence that is allowed.
    deny "$manifest" --all-features check --hide-inclusion-graph --allow license-not-encountered \
        --allow license-exception-not-encountered bans licenses sources
    compare_licences "$manifest"
    checked+=("$manifest")
done

# The advisories are the only part that needs a network beyond the registry.
if ! cargo deny fetch db; then
    echo "SKIPPED: deny.sh: the list of advisories could not be fetched"
    exit 0
fi
for manifest in "${checked[@]}"; do
    deny "$manifest" --offline --all-features check advisories
done
