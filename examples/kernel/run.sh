#!/usr/bin/env bash
# Builds the image and boots it under QEMU; succeeds if the image says that all its checks held.
#
# run.sh [--machine q35|pc|microvm] [--memory SIZE] [--cpus N] [--icount]
#        [--build-only | --no-build] [-- QEMU-OPTION...]
#
# SIZE is 64M or more, with the suffix M (the default) or G; N is 1 to 64.
# --icount makes the time stamp counter count instructions; the CPUs take turns then.
set -euo pipefail
cd "$(dirname "$0")"

machine=q35
memory=256M
cpus=1
icount=()
build=true
boot=true
# A boot takes a few seconds, and more than a minute on a busy machine.
limit_s=300

memory_min_mib=64
cpus_max=64

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "${0##*/}"
}

refuse() {
    echo "run.sh: $1" >&2
    exit 2
}

while [[ $# -gt 0 ]]; do
    case $1 in
        --machine | --memory | --cpus)
            [[ $# -ge 2 ]] || refuse "$1 needs a value; --help lists the options"
            declare "${1#--}=$2"
            shift
            ;;
        --icount) icount=(-icount 'shift=0') ;;
        --build-only) boot=false ;;
        --no-build) build=false ;;
        --)
            shift
            break
            ;;
        -h | --help)
            usage
            exit
            ;;
        *) refuse "unknown option '$1'; --help lists the options" ;;
    esac
    shift
done

case $machine in
    q35 | pc | microvm) ;;
    *) refuse "--machine $machine: allowed are q35, pc and microvm" ;;
esac
[[ $memory =~ ^[0-9]{1,9}[MG]?$ ]] ||
    refuse "--memory $memory: allowed are sizes such as 64M or 4G"
memory_mib=$((10#${memory%[MG]}))
[[ $memory != *G ]] || memory_mib=$((memory_mib * 1024))
# The image begins at 16 MiB: in less memory it hangs, and the checks need some more.
[[ $memory_mib -ge $memory_min_mib ]] ||
    refuse "--memory $memory is too little: at least ${memory_min_mib}M are needed"
[[ $cpus =~ ^[1-9][0-9]?$ && $cpus -le $cpus_max ]] ||
    refuse "--cpus $cpus: allowed are 1 to $cpus_max"

image=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/pagemill-kernel
if "$build"; then
    # Flags and profiles from outside would take the place of those of this folder; without them,
    # and without whole-program optimisation, core's code would use the red zone.
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET "${!CARGO_PROFILE_@}"
    # The versions that the workspace uses; cargo drops the entries that the image does not need.
    cp ../../Cargo.lock Cargo.lock
    cargo build --quiet --release
fi
"$boot" || exit 0

# This machine has a serial line only if it is told to.
[[ $machine != microvm ]] || machine=microvm,isa-serial=on
status=0
# -nodefaults, -no-reboot: nothing but what is named here, and a crash ends the run.
timeout --kill-after=5 "$limit_s" qemu-system-x86_64 \
    -machine "$machine" -m "$memory" -smp "$cpus" "${icount[@]}" -kernel "$image" \
    -nodefaults -display none -serial stdio -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=4 "$@" </dev/null || status=$?

# The image exits with 16; QEMU makes 2 * 16 + 1 of it, which is no status of its own.
case $status in
    33) exit 0 ;;
    35 | 37) echo "run.sh: a check failed (status $status)" >&2 ;;
    124 | 137) echo "run.sh: not done after $limit_s s" >&2 ;;
    *) echo "run.sh: QEMU ended with status $status: the machine did not run to its end" >&2 ;;
esac
exit 1
