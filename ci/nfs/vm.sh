# A small virtual machine whose kernel is the NFS client. To be sourced.
#
# The guest has busybox, the two suites and the modules of the client, and runs one job of
# ci/nfs/guest/jobs; what it says comes out of the serial port. Its network is qemu's user mode:
# 10.0.2.2 is the loopback interface of the namespace that qemu runs in.

# shellcheck shell=bash disable=SC2154

# In the order in which they are loaded; what is not in the package is built into the kernel.
modules=(failover net_failover virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev
    virtio_pci virtio_net netfs fscache sunrpc grace lockd nfs_acl nfs nfsv3)

# Packs $cache/initrd.
vm_build() {
    local root=$cache/root module file number=10
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc,lib,mnt,proc,sys,tmp}
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    local suite
    for suite in "${suites[@]}"; do
        # Absent where no check that runs needs it.
        [[ ! -x $cache/$suite/bin/${suite%@*} ]] || cp "$cache/$suite/bin/${suite%@*}" "$root/bin/"
    done
    cp "$here/nfs/guest/init" "$root/init"
    cp "$here"/nfs/guest/{jobs,everyday,pjdfstest.toml} "$root/etc/"
    chmod +x "$root/init"
    printf '%s\n' root:x:0:0::/:/bin/sh nobody:x:65534:65534::/:/bin/sh \
        tests:x:1001:1001::/:/bin/sh alice:x:2001:2001::/:/bin/sh bob:x:2002:2002::/:/bin/sh \
        carol:x:2003:2003::/:/bin/sh >"$root/etc/passwd"
    printf '%s\n' root:x:0: nobody:x:65534: tests:x:1001: alice:x:2001: bob:x:2002: carol:x:2003: \
        staff:x:2100:alice,bob >"$root/etc/group"
    for module in "${modules[@]}"; do
        file=$(find "$cache/kernel/lib/modules" -name "$module.ko" -print -quit)
        [[ -z $file ]] || cp "$file" "$root/lib/$((number++))-$module.ko"
    done
    (cd "$root" && find . | cpio --quiet --create --format=newc | gzip -1) >"$cache/initrd"
}

# Runs job $1 in a guest for at most $2 seconds; its output goes to $logs/$1.log.
# Returns what the job returned, or 1 if it did not come to an end.
vm_run() {
    local job=$1 limit=$2 log=$logs/$1.log kernel
    kernel=$(compgen -G "$cache/kernel/boot/vmlinuz-*" | tail -n 1)
    # -no-reboot with panic=-1: a guest that panics ends qemu instead of staying.
    timeout --kill-after=5 "$limit" qemu-system-x86_64 -accel tcg -machine q35 -m 768 -smp 1 \
        -nodefaults -no-user-config -display none -no-reboot -serial "file:$log" \
        -kernel "$kernel" -initrd "$cache/initrd" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off job=$job export=$export \
port=$nfs_port mountport=$mount_port ${VM_OPTIONS:-}" \
        -netdev user,id=net -device virtio-net-pci,netdev=net >"$log.qemu" 2>&1 </dev/null || true
    local code
    code=$(tr -d '\r' <"$log" | sed -n 's/^guest: job ended with \([0-9]*\)$/\1/p')
    return "${code:-1}"
}
