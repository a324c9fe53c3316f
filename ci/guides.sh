#!/usr/bin/env bash
# Builds and runs the programs of docs/guides as a stranger would: the crates are packed, unpacked
# elsewhere, and compiled in a minimal root that has only Rust and a C compiler, without a network.
#
# ci/guides.sh             all guides
# ci/guides.sh NAME...     these guides
# ci/guides.sh --readme    the README's two commands in a clone in that root; takes half an hour
#
# debootstrap makes the root once, as root, in target/guides. Where it cannot, the programs are built
# and run in a temporary folder instead.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/target/guides
suite=bookworm
# What the root has beside the smallest set of Debian's packages.
packages=gcc,libc6-dev
# Seconds that a program may take.
limit_s=120

skipped() {
    echo "SKIPPED: guides.sh: $1"
}

# Makes the minimal root, once.
make_root() {
    local root=$cache/root
    [[ ! -e $root.complete ]] || return 0
    if [[ $(id -u) -ne 0 ]] || ! command -v debootstrap >/dev/null; then
        skipped "no minimal root: needs root and debootstrap"
        return 1
    fi
    rm -rf "$root"
    mkdir -p "$cache"
    if ! debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$cache/log" 2>&1; then
        tail -5 "$cache/log"
        skipped "no minimal root: debootstrap failed"
        return 1
    fi
    # As in any installed system or container.
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    touch "$root.complete"
}

# Packs the crates that are products and unpacks them in $tree/crates. They are not in the registry
# yet: a configuration for all of $tree tells cargo where they are. A file that is the same as in the
# last run keeps its time, so that cargo does not compile it again.
unpack_crates() {
    local new=$tree/new crate name file
    rm -rf target/package/*.crate "$new"
    mkdir -p "$new" "$tree/.cargo"
    CARGO_TARGET_DIR=target cargo package --quiet --workspace --no-verify --allow-dirty \
        --exclude pagemill-testkit --exclude xtask
    for crate in target/package/*.crate; do
        tar -xmf "$crate" -C "$new"
    done
    while IFS= read -r -d '' file; do
        if cmp -s "$new/$file" "$tree/crates/$file"; then
            touch -r "$tree/crates/$file" "$new/$file"
        fi
    done < <(cd "$new" && find . -type f -print0)
    rm -rf "$tree/crates"
    mv "$new" "$tree/crates"
    {
        echo '[patch.crates-io]'
        for crate in "$tree"/crates/*; do
            name=${crate##*/}
            echo "${name%-*} = { path = \"crates/$name\" }"
        done
    } >"$tree/.cargo/config.toml"
}

# Copies the programs, and fetches what they need from others, in the versions of the workspace.
copy_guides() {
    local name package
    for name in "$@"; do
        rm -rf "${tree:?}/$name"
        cp -rp "examples/guides/$name" "$tree/$name"
        package=$tree/$name
        if [[ $name == c ]]; then
            # The libraries for it are those of a package of this repository, with its dependencies.
            package=.
            cp Cargo.lock "$tree"/crates/pagemill-c-*/
        else
            cp Cargo.lock "$package/"
        fi
        # What an earlier run fetched is enough, so try without a network first.
        (cd "$package" && { cargo fetch --quiet --offline 2>/dev/null || cargo fetch --quiet; })
    done
    cp -p ci/guides/inside "$tree/"
}

# Runs a command in the minimal root: $tree is /guides there, $target is /target, and the toolchain
# and the registry's crates are those of this user.
in_root() {
    local root=$cache/root registry=${CARGO_HOME:-$HOME/.cargo}/registry toolchain
    toolchain=$(rustc --print sysroot)
    mkdir -p "$root/guides" "$root/target" "$root/opt/rust" "$root/root/.cargo/registry" "$target"
    # The mounts and the network, which is a loopback interface, end with the command. The root is a
    # mount point, as in a container: tests that make mounts private need one.
    # shellcheck disable=SC2016 # the inner shell expands these
    unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c '
        root=$1
        mount --bind "$root" "$root"
        mount --bind "$2" "$root/guides"
        mount --bind "$3" "$root/target"
        mount --bind "$4" "$root/opt/rust"
        mount --bind "$5" "$root/root/.cargo/registry"
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount -t tmpfs tmpfs "$root/tmp"
        mount --rbind /dev "$root/dev"
        ip link set lo up
        shift 5
        exec env --ignore-environment PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            CARGO_TARGET_DIR=/target chroot "$root" "$@"
    ' in_root "$root" "$tree" "$target" "$toolchain" "$registry" "$@"
}

# Boots the kernel of the guide as its cargo configuration does.
boot() {
    local image=$target/x86_64-unknown-none/debug/guide-kernel runner output
    if ! command -v qemu-system-x86_64 >/dev/null; then
        skipped "kernel: built, not booted: qemu-system-x86_64 is not installed"
        return 0
    fi
    runner=$(sed -n 's/^runner = "\(.*\)"$/\1/p' examples/guides/kernel/.cargo/config.toml)
    # shellcheck disable=SC2086 # a command line
    output=$(timeout "$limit_s" $runner "$image" </dev/null)
    echo "$output"
    # A crash ends QEMU with the same status.
    grep -q '^all pages are free again' <<<"$output"
}

# Runs the packets program on one end of a virtual pair, in a network of its own.
echo_on_veth() {
    if [[ $(id -u) -ne 0 ]] || ! command -v ip >/dev/null; then
        skipped "packets: not run on an interface: needs root and ip"
        return 0
    fi
    if ! unshare --net ip link add guide0 type veth peer name guide1 2>/dev/null; then
        skipped "packets: not run on an interface: the kernel makes no virtual pair"
        return 0
    fi
    # unshare ignores other signals, and the program ends with it.
    timeout --signal=KILL "$limit_s" unshare --net --mount --pid --fork --kill-child \
        ci/guides/veth "$target/debug/guide-packets"
}

run_guides() {
    local guides=("$@")
    unpack_crates
    copy_guides "${guides[@]}"
    if [[ $root == true ]]; then
        in_root /guides/inside "${guides[@]}"
    else
        CARGO_TARGET_DIR=$target "$tree/inside" "${guides[@]}"
    fi
    for name in "${guides[@]}"; do
        case $name in
            kernel) boot ;;
            packets) echo_on_veth ;;
        esac
    done
    echo "guides.sh: built and ran ${guides[*]}"
}

# Runs the README's two commands in a clone.
run_readme() {
    tree=$cache/clone
    rm -rf "$tree"
    git clone --quiet . "$tree"
    cargo fetch --quiet --locked
    in_root bash -euo pipefail -c '
        cd /guides
        unset CARGO_TARGET_DIR
        export CARGO_NET_OFFLINE=true
        start=$SECONDS
        cargo run --release -- bench
        echo "guides.sh: the first command took $((SECONDS - start)) s"
        start=$SECONDS
        cargo test --workspace
        echo "guides.sh: the second command took $((SECONDS - start)) s"
    '
}

tree=$cache/tree
target=$cache/target
root=true
if ! make_root; then
    root=false
    # Not below this repository: cargo would take the packages for members of its workspace.
    tree=$(mktemp -d)
    trap 'rm -rf "$tree"' EXIT
    target=$cache/target-host
fi
mkdir -p "$tree"

if [[ ${1-} == --readme ]]; then
    if [[ $root == false ]]; then
        skipped "--readme needs the root"
        exit 0
    fi
    run_readme
else
    if [[ $# -eq 0 ]]; then
        set -- examples/guides/*/
        set -- "${@%/}"
        set -- "${@##*/}"
    fi
    run_guides "$@"
fi
