#!/usr/bin/env bash
# Builds the container image localhost/pagemill with buildah, without a registry.
#
# build.sh [PROGRAM]: without a program, it builds target/release/pagemill. The libraries come from this
# machine: build again after their updates.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${1:-}
if [[ -z $program ]]; then
    cargo build --quiet --release --package pagemill-cli
    program=${CARGO_TARGET_DIR:-target}/release/pagemill
fi
context=target/packaging/container
rm -rf "$context"
mkdir -p "$context/root/usr/bin" "$context"/root/{srv,tmp,var/lib} "$context/state/pagemill"
chmod 1777 "$context/root/tmp"
chmod 700 "$context/state/pagemill"
install -m 755 --strip "$program" "$context/root/usr/bin/pagemill"
# Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$library" "$context/root$library"
done
buildah build --isolation chroot --tag pagemill --file packaging/container/Containerfile "$context"

# Others must not read the secret in the state folder. Mounting needs root.
if [[ $(id -u) -eq 0 ]]; then
    container=$(buildah from localhost/pagemill)
    trap 'buildah rm "$container" >/dev/null' EXIT
    found=$(stat --format '%a %u:%g' "$(buildah mount "$container")/var/lib/pagemill")
    if [[ $found != '700 65534:65534' ]]; then
        echo "build.sh: /var/lib/pagemill of the image has mode and owner $found, not 700 65534:65534" >&2
        exit 1
    fi
fi
