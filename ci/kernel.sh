#!/usr/bin/env bash
# The example kernel: formatted, without warnings, and every machine that it is for boots and passes.
set -euo pipefail
cd "$(dirname "$0")/../examples/kernel"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/kernel

# It is a workspace of its own, which no check of the other crates reaches.
cargo fmt --check
cp ../../Cargo.lock Cargo.lock
cargo clippy --all-targets -- -D warnings

# A workspace cannot inherit lints from another, so they stand in both manifests.
lints() {
    sed -n "/^\[$1rust\]/,/^\$/p; /^\[$1clippy\]/,/^\$/p" "$2" | sed "s/^\[$1/[/; /^\$/d"
}
if ! diff <(lints 'workspace\.lints\.' ../../Cargo.toml) <(lints 'lints\.' Cargo.toml); then
    echo "the lints of examples/kernel/Cargo.toml are not those of the workspace" >&2
    exit 1
fi

if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "SKIPPED: kernel.sh: qemu-system-x86_64 is not installed, so nothing was booted"
    exit 0
fi
./run.sh --build-only

# Compares the costs in the guide's table with those that a run printed. 5 % is for other compilers.
compare_with_guide() {
    awk -F'|' '
        FNR == 1 { file++ }
        # A row of the guide: N, single, list, array.
        file == 1 && NF == 6 && $2 ~ /^ *[0-9]+ *$/ {
            nr_rows++
            for (i = 3; i <= 5; i++) guide[$2 + 0, i] = $i + 0
        }
        file == 2 && /^ping:/ { is_ping = 1 }
        file == 2 && /^burst:/ { is_ping = 0 }
        # A row of the run: N, and for each way the costs of alloc, free and both.
        file == 2 && is_ping && ($1 + 0, 3) in guide {
            nr_found++
            for (i = 3; i <= 5; i++) {
                split($(i - 1), costs, " ")
                was = guide[$1 + 0, i]
                if (costs[3] > was * 1.05 || costs[3] < was * 0.95) {
                    printf "docs/kernel-guide.md: N = %d, column %d: the guide says %s, the image ", \
                        $1, i - 1, was
                    printf "counts %s; record the table again\n", costs[3]
                    failed = 1
                }
            }
        }
        END {
            if (nr_rows == 0 || nr_rows != nr_found) {
                printf "docs/kernel-guide.md: %d of %d rows are in the output\n", nr_found, nr_rows
                failed = 1
            }
            exit failed
        }
    ' ../../docs/kernel-guide.md "$1" >&2
}

# Compares the limits that the guide states with those that a run printed. 5 % is for other compilers.
check_limits() {
    awk -F'|' '
        function value(text) { gsub(/[^0-9.]/, "", text); return text + 0 }
        FNR == 1 { file++ }
        file == 1 && $2 ~ /worst stack depth/ { guide["stack"] = value($3) }
        file == 1 && $2 ~ /longest section with interrupts off/ { guide["section"] = value($3) }
        file == 1 && $2 ~ /metadata, with the lists/ { guide["metadata"] = value($3) }
        file == 2 && /^worst stack depth: / { split($0, words, " "); now["stack"] = words[4] }
        file == 2 && /^longest section with interrupts off: / {
            split($0, words, " ")
            now["section"] = words[6]
        }
        file == 2 && /^metadata: / { split($0, words, " "); now["metadata"] = words[2] / words[5] }
        END {
            nr = split("stack section metadata", limits, " ")
            for (i = 1; i <= nr; i++) {
                was = guide[limits[i]]
                is = now[limits[i]]
                if (was == 0 || is > was * 1.05 || is < was * 0.95) {
                    printf "docs/kernel-guide.md: %s: the guide says %s, the image %s; record it again\n", \
                        limits[i], was, is
                    failed = 1
                }
            }
            exit failed
        }
    ' ../../docs/kernel-guide.md "$1" >&2
}

# Compares the costs of blocks with the guide's table. The zone's depend on the frames that the image
# uses, so only much higher ones fail.
compare_orders() {
    awk -F'|' '
        FNR == 1 { file++ }
        # A row of the guide: order, one by one for N = 1, 8 and 64, by request for the same, Linux.
        file == 1 && NF == 10 && $2 ~ /^ *[0-9]+ *$/ {
            nr_rows += 3
            for (i = 0; i < 3; i++) {
                n = 8 ^ i
                guide[$2 + 0, n, 2] = $(3 + i) + 0
                guide[$2 + 0, n, 3] = $(6 + i) + 0
            }
        }
        file == 2 && /^orders:/ { is_orders = 1 }
        file == 2 && /^$/ { is_orders = 0 }
        # A row of the run: order and N, and for each way the costs of alloc, free and both.
        file == 2 && is_orders && split($1, key, " ") == 2 && (key[1] + 0, key[2] + 0, 2) in guide {
            nr_found++
            order = key[1] + 0
            for (i = 2; i <= 3; i++) {
                split($i, costs, " ")
                was = guide[order, key[2] + 0, i]
                is_listed = order <= 3 || order == 9
                allowed = was * 1.4
                least = i == 2 ? 1400 : 2400
                if (is_listed && key[2] <= 8 && i == 2) allowed = was * 1.05
                else if (allowed < least) allowed = least
                if (costs[3] > allowed) {
                    printf "docs/kernel-guide.md: order %d, N = %d: the guide says %s, the image counts %s\n", \
                        order, key[2], was, costs[3]
                    failed = 1
                }
            }
        }
        END {
            if (nr_rows == 0 || nr_rows != nr_found) {
                printf "docs/kernel-guide.md: %d of %d rows of blocks are in the output\n", nr_found, nr_rows
                failed = 1
            }
            exit failed
        }
    ' ../../docs/kernel-guide.md "$1" >&2
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
# The boot whose costs the guide shows.
RECORDED='--machine q35 --memory 256M --icount'
# That for the costs of blocks: 64 blocks of each order are a part of its memory.
RECORDED_BLOCKS='--machine q35 --memory 1G --icount'

# 4 GiB: a part of it lies above 4 GiB, behind the hole that the machines keep for devices.
while read -r options; do
    echo "--- run.sh $options"
    read -ra words <<<"$options"
    ./run.sh --no-build "${words[@]}" | tee "$output"
    if [[ $options = "$RECORDED" ]]; then
        compare_with_guide "$output"
        check_limits "$output"
    fi
    if [[ $options = "$RECORDED_BLOCKS" ]]; then
        compare_orders "$output"
    fi
done <<'BOOTS'
--machine q35 --memory 64M
--machine q35 --memory 4G --cpus 2
--machine microvm --memory 64M --cpus 2
--machine microvm --memory 4G
--machine pc --memory 256M --cpus 4
--machine q35 --memory 256M --icount
--machine q35 --memory 1G --icount
--machine microvm --memory 64M --cpus 2 --icount
BOOTS
