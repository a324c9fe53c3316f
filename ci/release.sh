#!/usr/bin/env bash
# Checks that version X.Y.Z can be released, as RELEASING.md describes; changes nothing unless asked.
#
# ci/release.sh X.Y.Z             checks
# ci/release.sh --tag X.Y.Z       checks, and creates the tag vX.Y.Z
# ci/release.sh --publish X.Y.Z   checks that the tag is on this commit, and uploads the packages
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '4,6s/^# /       /p' "$0" >&2
    exit 2
}

mode=check
case ${1:-} in
    --tag | --publish)
        mode=${1#--}
        shift
        ;;
esac
[[ $# -eq 1 ]] || usage
version=$1
if [[ ! $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
    echo "the version '$version' is not of the form X.Y.Z" >&2
    usage
fi
tag=v$version

failed=0
fail() {
    echo "release: $1" >&2
    failed=1
}

# The packages of the workspace that cargo publishes, with their versions.
published() {
    local tree name found
    tree=$(cargo tree --locked --workspace --depth 0 --prefix none --format '{p}') || return
    while read -r name found _; do
        [[ $name = pagemill* ]] || continue
        grep -qx 'publish = false' "crates/$name/Cargo.toml" 2>/dev/null || echo "$name ${found#v}"
    done <<<"$tree"
}

check_tree() {
    local branch
    branch=$(git branch --show-current)
    [[ $branch = main ]] || fail "the branch is '$branch', not main"
    [[ -z $(git status --porcelain) ]] || fail "the tree has changes: $(git status --porcelain | head -3 | tr '\n' ' ')"
}

check_versions() {
    local packages name found
    # Fails if Cargo.lock is out of date.
    cargo metadata --locked --no-deps --format-version 1 >/dev/null || fail "Cargo.lock is not up to date"
    # A loop over an empty list would pass.
    packages=$(published) && [[ -n $packages ]] || fail "cargo tree lists no package that cargo publishes"
    while read -r name found; do
        [[ -z $name || $found = "$version" ]] || fail "$name has version $found in its manifest"
    done <<<"$packages"
    while read -r name found; do
        [[ $found = "$version" ]] || fail "[workspace.dependencies] asks for $name $found"
    done < <(sed -n 's/^\(pagemill[a-z-]*\) = { version = "\([^"]*\)".*/\1 \2/p' Cargo.toml)
}

check_changelog() {
    local sections
    sections=$(grep '^## ' CHANGELOG.md)
    [[ $(head -1 <<<"$sections") = '## Unreleased' ]] || fail "the first section of CHANGELOG.md is not Unreleased"
    if ! sed -n 2p <<<"$sections" | grep -qE "^## ${version//./\\.} - [0-9]{4}-[0-9]{2}-[0-9]{2}$"; then
        fail "the second section of CHANGELOG.md is '$(sed -n 2p <<<"$sections")', not '## $version - YYYY-MM-DD'"
    fi
    if sed -n '/^## Unreleased$/,/^## [0-9]/p' CHANGELOG.md | grep -q '^- '; then
        fail "the section Unreleased of CHANGELOG.md has lines that belong to $version"
    fi
}

check_tag() {
    local tagged
    tagged=$(git rev-parse --quiet --verify "refs/tags/$tag^{commit}" || true)
    if [[ $mode = publish ]]; then
        [[ $tagged = "$(git rev-parse HEAD)" ]] || fail "the tag $tag is not on this commit; run ci/release.sh --tag $version"
    elif [[ -n $tagged ]]; then
        fail "the tag $tag exists, on $(git rev-parse --short "$tagged")"
    fi
}

check_addresses() {
    ! grep -q '^Contact: none yet' SECURITY.md || fail "SECURITY.md names no contact"
    grep -q '^repository = ' Cargo.toml || fail "Cargo.toml has no repository's address"
}

check_tree
check_versions
check_changelog
check_tag
[[ $mode != publish ]] || check_addresses
[[ $failed = 0 ]] || exit 1

ci/packages.sh
ci/reproducible.sh --full
# What the checks wrote is ignored by git, or they changed what they checked.
check_tree
[[ $failed = 0 ]] || exit 1

case $mode in
    check) echo "$version can be released: ci/release.sh --tag $version" ;;
    tag)
        git tag --annotate "$tag" --message "pagemill $version"
        echo "created the tag $tag on $(git rev-parse --short HEAD); nothing is published"
        ;;
    publish) cargo publish --workspace --locked ;;
esac
