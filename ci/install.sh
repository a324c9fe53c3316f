#!/usr/bin/env bash
# Manual pages, completions, units and the contents of the packages are valid.
#
# PROGRAM is the path of a program pagemill; without it, the program is built.
set -euo pipefail
cd "$(dirname "$0")/.."

PROGRAM=${PROGRAM:-}
if [[ -z $PROGRAM ]]; then
    # As a test needs it: this is the build that ci/test-release.sh and ci/nfs-clients.sh use.
    cargo test --quiet --workspace --profile smoke --no-run --test cli
    PROGRAM=${CARGO_TARGET_DIR:-$PWD/target}/smoke/pagemill
fi
PROGRAM=$(realpath "$PROGRAM")
# What the units may be exposed to at most, by systemd-analyze security: 10 times its number.
EXPOSURE_MAX=29
assets=target/packaging
scratch=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT

skip() {
    echo "SKIPPED: install.sh: $*"
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# Tells whether a program is there, and says what is skipped without it.
has() {
    command -v "$1" >/dev/null || { skip "$2: $1 is not installed"; return 1; }
}

check_pages() {
    has mandoc "manual pages" || return 0
    local page said
    for page in "$assets"/man/man1/*.1; do
        # A page has no date, so that two builds of a version are equal.
        said=$(mandoc -T lint -W warning "$page" | grep -v 'missing date' || true)
        [[ -z $said ]] || fail "$said"
    done
}

check_completions() {
    local shell found
    for shell in bash:pagemill zsh:_pagemill; do
        has "${shell%:*}" "its completions" || continue
        "${shell%:*}" -n "$assets/completions/${shell#*:}"
    done
    has fish "its completions" || return 0
    found=$(fish --no-config --command "source $assets/completions/pagemill.fish
        complete --do-complete 'pagemill nfsd --log e'")
    [[ $found = error* ]] || fail "fish completes 'pagemill nfsd --log e' with '$found'"
}

check_units() {
    has systemd-analyze "systemd units" || return 0
    cp packaging/systemd/* "$scratch"
    # The program and its page are not installed here.
    sed -i "s#/usr/bin/pagemill#$PROGRAM#" "$scratch/pagemill-nfsd.service"
    MANPATH=$PWD/$assets/man: systemd-analyze verify "$scratch"/pagemill-nfsd.* 2>"$scratch/verify" ||
        fail "$(cat "$scratch/verify")"
    # An unknown key is only a warning. Other warnings are about units of this machine.
    ! grep pagemill-nfsd "$scratch/verify" >&2 || fail "the units have warnings"
    systemd-analyze security --offline=true --no-pager --threshold="$EXPOSURE_MAX" \
        "$scratch/pagemill-nfsd.service" >"$scratch/security" ||
        { cat "$scratch/security"; fail "the service is exposed to more than $EXPOSURE_MAX"; }
    tail -n 1 "$scratch/security"
    local unit
    for unit in service socket; do
        grep -q '^AssertPathExists=/etc/pagemill/exports$' "packaging/systemd/pagemill-nfsd.$unit" ||
            fail "pagemill-nfsd.$unit starts without exports"
    done
    grep -q '^RuntimeDirectoryPreserve=yes$' packaging/systemd/pagemill-nfsd.service ||
        fail "a stop of the service removes the status sockets of other processes"
    # The unit's command line, with exports of our own.
    mkdir "$scratch/export"
    echo "$scratch/export *(ro,insecure)" >"$scratch/exports"
    local options
    options=$(sed -n 's/^Environment="PAGEMILL_NFSD_OPTIONS=\(.*\)"/\1/p' "$scratch/pagemill-nfsd.service")
    [[ -n $options ]] || fail "the service has no PAGEMILL_NFSD_OPTIONS"
    # shellcheck disable=SC2086
    "$PROGRAM" nfsd --check --exports-file "$scratch/exports" $options
    [[ $("$PROGRAM" nfsd --check --exports-file packaging/exports 2>&1) = *"packaging/exports has no export"* ]] ||
        fail "packaging/exports exports something, or is not valid"
}

# Sends a call of NFS's NULL to port $1, and succeeds if the answer is that of an NFS server.
call_null() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    local words="80000028 00000007 00000000 00000002 000186a3 00000003 00000000 00000000 00000000"
    words+=" 00000000 00000000"
    # shellcheck disable=SC2059
    printf "$(sed 's/ //g; s/../\\x&/g' <<<"$words")" >&3
    local reply
    reply=$(timeout 60 head -c 28 <&3 | od -An -v -tx1 | tr -d ' \n')
    exec 3>&-
    [[ $reply = 800000180000000700000001* ]]
}

check_activation() {
    has systemd-socket-activate "socket activation" || return 0
    local port=20499 tries
    systemd-socket-activate --listen="127.0.0.1:$port" --setenv=STATE_DIRECTORY="$scratch/state" \
        "$PROGRAM" nfsd --exports-file "$scratch/exports" --log error &
    server=$!
    # Until it listens; the first connection starts the server.
    for ((tries = 0; tries < 600; tries++)); do
        if call_null "$port" 2>/dev/null; then
            [[ -f $scratch/state/nfsd.key ]] || fail "STATE_DIRECTORY has no nfsd.key"
            kill "$server"
            wait "$server" || fail "the server ended with $?"
            server=
            return
        fi
        kill -0 "$server" 2>/dev/null || fail "systemd-socket-activate could not listen on $port"
        sleep 0.1
    done
    fail "the server that systemd-socket-activate starts does not answer"
}

# Each file that the Debian package contains is there, and each path that the manifest names.
check_deb() {
    local manifest=crates/pagemill-cli/Cargo.toml path
    while read -r path; do
        compgen -G "crates/pagemill-cli/$path" >/dev/null || fail "$manifest names $path: no such file"
    done < <(sed -n '/^\[package.metadata.deb\]/,$p' "$manifest" | grep -oE '"\.\./\.\./[^"]*"' | tr -d '"')
    # Each page that the help of a command names.
    while read -r path; do
        grep -qF "\"../../$path\"" "$manifest" || fail "the help names $path, which the package lacks"
    done < <(grep -rhoE 'docs/[a-z-]+\.md' crates/pagemill-cli/src/args* crates/pagemill-cli/src/manual | sort -u)
    for path in packaging/deb/* packaging/container/build.sh; do
        [[ $path = *.sh ]] && bash -n "$path" || sh -n "$path"
    done
}

packaging/assets.sh "$PROGRAM"
check_pages
check_completions
check_units
check_activation
check_deb
