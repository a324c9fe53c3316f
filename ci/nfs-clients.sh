#!/usr/bin/env bash
# Real NFS clients against the server: libnfs, rpcinfo, showmount, and a Linux kernel in qemu.
#
# SERVER=ganesha judges nfs-ganesha instead, which shows that the checks are fair. Any other value
# is the path of a program pagemill; without one it is built. Everything runs in namespaces of its
# own, which end with this script: no process, mount or address is left outside. Cases that may fail
# or be skipped are listed in ci/nfs/expected with their reasons; any other makes this fail.
#
# CHECKS="fsx pjdfstest" runs these alone. What was said is kept in target/nfs-clients/logs.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$PWD/ci
cache=${CARGO_TARGET_DIR:-$PWD/target}/nfs-clients
logs=$cache/logs
all_checks=(mounts rpcinfo showmount libnfs everyday fsx pjdfstest together exports restart)
SERVER=${SERVER:-}
. ci/nfs/tools.sh

# Says that check $1 does not run, and why.
skip() {
    echo "SKIPPED: nfs-clients.sh: $*"
    skipped+=("$1")
}

# Tells whether one of these checks is to run.
wants() {
    local wanted=" ${CHECKS:-${all_checks[*]}} " name
    for name in "$@"; do
        [[ $wanted != *" $name "* ]] || return 0
    done
    return 1
}

# Gets whatever is missing. What cannot be had leads to checks that are skipped by name.
prepare() {
    mkdir -p "$logs"
    install_packages rpcinfo=rpcbind nfs-ls=libnfs-utils showmount=nfs-common \
        busybox=busybox-static cpio=cpio qemu-system-x86_64=qemu-system-x86 || true
    if [[ $SERVER = ganesha ]]; then
        install_packages ganesha.nfsd="nfs-ganesha nfs-ganesha-vfs"
    elif [[ -z $SERVER ]]; then
        # As a test needs it: this is the build that ci/test-release.sh and ci/install.sh use.
        cargo test --quiet --workspace --profile smoke --no-run --test cli
        SERVER=${CARGO_TARGET_DIR:-$PWD/target}/smoke/pagemill
    fi
    local vm=yes
    command -v qemu-system-x86_64 >/dev/null && command -v busybox >/dev/null &&
        command -v cpio >/dev/null || vm="qemu, busybox or cpio is not installed"
    [[ $vm != yes ]] || ! ldd "$(command -v busybox)" >/dev/null 2>&1 || vm="busybox is not static"
    [[ $vm != yes ]] || fetch_kernel || vm="no Debian kernel could be had"
    if [[ $vm = yes ]] && wants fsx pjdfstest together; then
        build_suites || vm="cargo could not install fsx and pjdfstest"
    fi
    echo "$vm" >"$cache/vm"
}

# What follows runs inside the namespaces.

check_rpcinfo() {
    local answer program
    for program in "$nfs_port 100003" "$mount_port 100005"; do
        # shellcheck disable=SC2086 # Two words on purpose.
        answer=$(rpc_ping $program 3) && echo "$answer" &&
            [[ $answer = *"version 3 ready and waiting"* ]] || return
    done
    # What is not there must be refused by name, not by silence.
    ! answer=$(rpc_ping "$nfs_port" 100099 1 2>&1) && echo "$answer" &&
        [[ $answer = *unavailable* ]] || return
    ! answer=$(rpc_ping "$nfs_port" 100003 9 2>&1) && echo "$answer" &&
        [[ $answer = *mismatch* ]]
}

check_showmount() {
    local answer
    start_rpcbind
    if [[ $SERVER != ganesha ]]; then
        # What registers a server that does not do it by itself; showmount always asks port 111.
        server_stop
        SERVER_OPTIONS="--rpcbind" server_start || return
    fi
    rpcinfo -p 127.0.0.1
    rpcinfo -n "$nfs_port" -t 127.0.0.1 100003 3 || return
    answer=$(timeout 20 showmount --no-headers -e 127.0.0.1) && echo "$answer" &&
        [[ $answer = "$export "* ]]
}

check_libnfs() {
    local url="nfs://127.0.0.1$export" query="?nfsport=$nfs_port&mountport=$mount_port&version=3"
    head -c 268435456 /dev/urandom >"$work/up"
    echo 'a short file' >"$export/short"
    mkdir "$export/folder"
    timeout 20 nfs-ls "$url/$query" | tee "$work/ls" || return
    # Mode, links, owner, group, size and name.
    grep -q '^-rw-r--r-- .* 13 short$' "$work/ls" && grep -q '^drwxr-xr-x .* folder$' "$work/ls" ||
        return
    [[ $(timeout 20 nfs-cat "$url/short$query") = 'a short file' ]] || return
    timeout 60 nfs-cp "$work/up" "$url/big$query" || return
    timeout 60 nfs-cp "$url/big$query" "$work/down" || return
    timeout 60 nfs-cat "$url/big$query" >"$work/cat" || return
    sha256sum "$work/up" "$export/big" "$work/down" "$work/cat" | tee "$work/sums"
    [[ $(awk '{ print $1 }' "$work/sums" | sort -u | wc -l) -eq 1 ]] || return
    rm "$export/big" "$work"/{up,down,cat}
}

# The same operations through the mount and on a file system of the guest's own.
check_everyday() {
    vm_run everyday 400
    local code=$?
    [[ $code = 0 ]] || { tail -n 5 "$logs/everyday.log"; return 1; }
    ci/nfs/compare "$server_name" ci/nfs/everyday.expected <(tr -d '\r' <"$logs/everyday.log")
}

check_fsx() {
    vm_run fsx 240
    local code=$?
    grep -a '^fsx: ' "$logs/fsx.log" || echo "fsx said nothing"
    return "$code"
}

check_pjdfstest() {
    # Failures do not matter yet: which of them were expected is for the list to say.
    vm_run pjdfstest 240
    tr -d '\r' <"$logs/pjdfstest.log" | grep -a '^Summary: ' || {
        echo "pjdfstest did not come to its end"
        return 1
    }
    ci/nfs/judge "$server_name" ci/nfs/expected <(tr -d '\r' <"$logs/pjdfstest.log")
}

check_together() {
    vm_run together 240
    local code=$?
    grep -a '^together: ' "$logs/together.log"
    [[ $code = 0 ]] || tail -n 5 "$logs/together.log"
    return "$code"
}

check_exports() {
    if [[ $SERVER = ganesha ]]; then
        echo "not for nfs-ganesha, whose options are written in another way"
        return 0
    fi
    mkdir -p "$export"/{ro,secure,others} "$export/squashed/private"
    echo text >"$export/ro/file"
    chmod 777 "$export/squashed"
    chmod 700 "$export/squashed/private"
    server_stop || return
    SERVER_OPTIONS="--export $export/ro:ro,insecure --export $export/squashed:rw,insecure \
        --export $export/secure:rw --export $export/others:rw,insecure,client=10.9.8.7" \
        server_start || return
    vm_run exports 120 || { tail -n 5 "$logs/exports.log"; return 1; }
    grep -a '^exports: ' "$logs/exports.log"
}

# The server is killed twice in the middle of a copy by a client that asks until it is answered.
check_restart() {
    local start=$SECONDS
    head -c 134217728 /dev/urandom >"$export/source"
    vm_run copy 240 &
    local vm=$! size megabytes
    for megabytes in 16 64; do
        until size=$(stat -c %s "$export/copied" 2>/dev/null) && ((size >= megabytes << 20)); do
            kill -0 "$vm" 2>/dev/null || { tail -n 5 "$logs/copy.log"; return 1; }
            sleep 0.05
        done
        server_kill
        echo "killed with $((size >> 20)) MiB in the file, after $((SECONDS - start)) s"
        server_start || return
    done
    wait "$vm" || { tail -n 5 "$logs/copy.log"; return 1; }
    tr -d '\r' <"$logs/copy.log" | grep -a '^copy: '
    cmp "$export/source" "$export/copied" && cmp "$export/source" "$export/again" || return
    rm "$export"/{source,copied,again}
}

# Runs one check in a fresh export with a fresh server.
run_check() {
    local name=$1 start=$SECONDS code=0
    echo "--- $name"
    mount -t tmpfs -o size=2g,mode=755 none "$export"
    # In a subshell of its own: what a check sets or loses is gone with it.
    (
        trap 'kill -KILL "$server_pid" 2>/dev/null || true' EXIT
        server_start || exit
        "check_$name" || { echo "the server's last messages:"; tail -n 5 "$logs/server.log"; exit 1; }
        server_stop
    ) || code=1
    umount --lazy "$export"
    echo "--- $name: $([[ $code = 0 ]] && echo passed || echo FAILED) after $((SECONDS - start)) s"
    return "$code"
}

run_all() {
    export=/run/export
    work=/run/work
    skipped=()
    server_name=$(basename "$SERVER")
    . ci/nfs/server.sh
    . ci/nfs/vm.sh
    ip link set lo up
    # Private: what is outside neither sees this nor is reached by way of them.
    mount -t tmpfs -o size=6g none /run
    mkdir "$export" "$work"
    : >"$logs/server.log"
    local failed=() name vm
    vm=$(cat "$cache/vm")
    [[ $vm != yes ]] || vm_build || vm="the guest could not be packed"
    for name in ${CHECKS:-"${all_checks[@]}"}; do
        case $name in
            # It has run already.
            mounts) continue ;;
            rpcinfo | showmount) needed=$name ;;
            libnfs) needed=nfs-cp ;;
            *) [[ $vm = yes ]] || { skip "$name: $vm"; continue; } ;;
        esac
        command -v "${needed:-true}" >/dev/null || { skip "$name: $needed is missing"; continue; }
        run_check "$name" || failed+=("$name")
    done
    if [[ ${#failed[@]} -gt 0 ]]; then
        echo "failed against $server_name: ${failed[*]}; see $logs"
        exit 1
    fi
}

if [[ ${1:-} = --inside ]]; then
    run_all
    exit
fi
prepare
if ! unshare --net --mount --pid --fork true 2>/dev/null; then
    echo "SKIPPED: nfs-clients.sh: needs the right to make namespaces: run it as root"
    exit 0
fi
# File systems that tests mount in namespaces of their own: overlays, FUSE, one that hangs.
if wants mounts && [[ $SERVER != ganesha ]]; then
    echo "--- mounts"
    install_packages bindfs=bindfs mkfs.ext4=e2fsprogs || true
    # With the features of the workspace, as ci/test.sh builds them.
    cargo test --quiet --workspace --test mounts --test hang -- --nocapture
fi
export SERVER CHECKS="${CHECKS:-}"
exec timeout --kill-after=10 1200 unshare --net --mount --pid --fork --kill-child --mount-proc \
    "$PWD/ci/nfs-clients.sh" --inside
