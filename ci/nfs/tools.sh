# What the NFS checks need from outside: packages, a kernel, two test suites. To be sourced.
#
# Everything but packages lands in $cache and is used again. Nothing here touches the system
# beyond apt-get: the kernel is unpacked, not installed.

# shellcheck shell=bash disable=SC2154

kernel_release=6.1.0-56-cloud-amd64
# Debian drops old kernels from its mirrors; then any of this series will do.
kernel_series='^linux-image-6\.1\.0-[0-9]+-cloud-amd64$'
suites=(fsx@0.3.2 pjdfstest@0.2.2)

# Installs packages unless the commands that they bring are there: COMMAND=PACKAGE, and the names of
# more packages in the same argument.
install_packages() {
    local pair missing=()
    for pair in "$@"; do
        # shellcheck disable=SC2206 # One argument, several packages.
        command -v "${pair%%=*}" >/dev/null || missing+=(${pair#*=})
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "cannot install ${missing[*]}: needs root and apt-get"
        return 1
    fi
    # The lists may be old, and are seldom needed.
    DEBIAN_FRONTEND=noninteractive timeout 300 \
        apt-get install --yes --no-install-recommends "${missing[@]}" && return
    timeout 120 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 300 \
        apt-get install --yes --no-install-recommends "${missing[@]}"
}

# Unpacks a Debian kernel into $cache/kernel, if there is none.
fetch_kernel() {
    compgen -G "$cache/kernel/boot/vmlinuz-*" >/dev/null && return
    local package=linux-image-$kernel_release download
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        timeout 120 apt-get update || true
    fi
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        package=$(apt-cache search --names-only "$kernel_series" | awk '{ print $1 }' |
            sort --version-sort | tail -n 1)
        [[ -n $package ]] || { echo "apt knows no kernel of the series"; return 1; }
    fi
    download=$(mktemp -d)
    # apt-get fetches as a user of its own where that user may write.
    chmod 777 "$download"
    if (cd "$download" && timeout 300 apt-get download "$package"); then
        rm -rf "$cache/kernel.new"
        dpkg-deb --extract "$download"/linux-image-*.deb "$cache/kernel.new" &&
            mv "$cache/kernel.new" "$cache/kernel"
    fi
    rm -rf "$download"
    compgen -G "$cache/kernel/boot/vmlinuz-*" >/dev/null
}

# Builds the test suites into $cache, each into a folder that has its version in its name.
#
# Statically: the guest has no libraries.
build_suites() {
    local suite
    for suite in "${suites[@]}"; do
        [[ ! -x $cache/$suite/bin/${suite%@*} ]] || continue
        # --target: without it, the flags would hold for build scripts too, which cannot be static.
        RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=$cache/build \
            timeout 900 cargo install --quiet --locked --root "$cache/$suite" \
            --target x86_64-unknown-linux-gnu "$suite" || return
    done
    rm -rf "$cache/build"
}
