#!/usr/bin/env bash
# Dependencies of each workspace have an allowed licence and a known origin, nobody has warned of
# them, and docs/dependencies.md states their licences.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: deny.sh: cargo-deny is not installed"
    exit 0
fi

# What `cargo tree` says of the direct dependencies of $1: name|licence.
direct() {
    cargo tree --manifest-path "$1" --workspace --all-features --target all --depth 1 \
        --edges normal,build,dev --prefix none --format '{p}|{l}' |
        sed -n '/ (\//d; s/ ([*])$//; s/ v[^|]*|/|/p' | sort -u
}

# Each direct dependency of $1 has the licence that its row states.
compare_licences() {
    local name licence stated
    while IFS='|' read -r name licence; do
        stated=$(awk -F ' *[|] *' -v name="\`$name\`" '$2 == name { print $4 }' docs/dependencies.md)
        if [[ $stated != "$licence" ]]; then
            echo "$1: $name is under '$licence'; docs/dependencies.md says '$stated'" >&2
            return 1
        fi
    done < <(direct "$1")
}

# The root, and each workspace of its own: the fuzz targets, examples and comparisons.
manifests=$(grep -rlx --include=Cargo.toml --exclude-dir=target '\[workspace\]' . | sort)
checked=()
for manifest in $manifests; do
    # The packages of a side workspace may be out of reach.
    if [[ $manifest != ./Cargo.toml ]] && ! cargo fetch --quiet --manifest-path "$manifest"; then
        echo "SKIPPED: deny.sh: the packages of $manifest cannot be had"
        continue
    fi
    echo "$manifest"
    # Not each workspace has each licence that is allowed.
    cargo deny --manifest-path "$manifest" --config deny.toml --all-features \
        check --hide-inclusion-graph --allow license-not-encountered \
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
    cargo deny --offline --manifest-path "$manifest" --config deny.toml --all-features check advisories
done
