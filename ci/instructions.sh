#!/usr/bin/env bash
# Instructions per page on the hot paths, counted by callgrind, must stay within their budgets.
#
# Counts do not depend on how busy the machine is, so a path that got longer shows at once. Each
# budget is the count seen when it was set plus about 5 %, for other compilers; lower it with the
# code. A path is run for R rounds and for 2 R: the difference leaves out start-up and page faults.
# Under valgrind the C library has no restartable sequences, so each call pays about 30 instructions
# for the CPU's number that it does not pay outside, and claims the CPU's lists by an exchange.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
    echo "SKIPPED: instructions.sh: valgrind is not installed"
    exit 0
fi
cargo build --quiet --release --package pagemill-host --example hot_path
program=${CARGO_TARGET_DIR:-target}/release/examples/hot_path

total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

failed=0
# Rows of operation, pages in a call, rounds, budget: instructions per page, allocation plus free.
count_rows() {
    while read -r op n rounds budget; do
        once=$(total "$op" "$n" "$rounds")
        twice=$(total "$op" "$n" $((2 * rounds)))
        per_page=$(awk -v d=$((twice - once)) -v p=$((n * rounds)) 'BEGIN { printf "%.1f", d / p }')
        verdict=ok
        if awk -v a="$per_page" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
            verdict='TOO MANY'
            failed=1
        fi
        printf '%-13s n=%-4s %7s instructions per page, budget %6s  %s\n' \
            "$op" "$n" "$per_page" "$budget" "$verdict"
    done
}
# A row of an order counts blocks. The orders 4 to 8 and 10 go through the zone, and so do most of 512
# blocks of the orders 1 and 3.
count_rows <<'TABLE'
array 64 1000 12.4
array 512 200 9.5
array 1 10000 161
single 1 10000 152
list 64 1000 37.8
list 1 10000 172
burst 64 500 26.7
spread 64 700 172
order0 1 10000 206
order1 8 2000 196
order9 1 5000 206
order1 512 40 680
order3 512 40 862
order4 8 1000 805
order6 8 1000 810
order8 8 1000 865
order10 8 1000 657
vec 64 1000 6.1
vec 1 10000 168
local 64 1000 3.7
local 1 10000 74.5
local-single 1 10000 63
request 1 10000 206
request 8 2000 45
request 64 1000 12.4
request-write 1 10000 189
TABLE

# The same by frame number; see the head of the example. A number may cost 1.3 times what the handle costs
# for single frames, blocks and ranges, and twice what it costs for arrays. Handles, when these budgets were
# set: single 144, array 11.8, spread 164.4, block of 8 frames 22.0, range of 33 frames 55.6, of 700 4.0.
cargo build --quiet --release --package pagemill-host --example pfn_path
program=${CARGO_TARGET_DIR:-target}/release/examples/pfn_path
count_rows <<'TABLE'
array-pfn 64 1000 21.2
single-pfn 1 10000 178
spread-pfn 64 700 177
block-pfn 8 1000 29.6
range-pfn 33 300 70.4
range-pfn 700 200 5.2
TABLE

# A page through the page pool: path, loop, budget. What the benchmark's own loop costs (none,
# none-bulk) is taken off. The budgets of fast, ring-bulk and slow are a quarter of what Linux
# 6.1 takes for allocation plus free on the three paths of its page_pool: 20+41, 57+72, 110+304.
# Four instructions of ring look whether the pool has ended meanwhile (a fence, a load, a branch).
cargo build --quiet --release --package pagemill-pool --example pool_path
program=${CARGO_TARGET_DIR:-target}/release/examples/pool_path
per_page() {
    awk -v d=$(($(total "$1" 2000) - $(total "$1" 1000))) 'BEGIN { printf "%.2f", d / 64000 }'
}
none=$(per_page none)
none_bulk=$(per_page none-bulk)
while read -r path loop budget; do
    net=$(awk -v a="$(per_page "$path")" -v l="${!loop}" 'BEGIN { printf "%.1f", a - l }')
    verdict=ok
    if awk -v a="$net" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
        verdict='TOO MANY'
        failed=1
    fi
    printf 'pool %-9s %7s instructions per page, budget %6s  %s\n' \
        "$path" "$net" "$budget" "$verdict"
done <<'TABLE'
fast none 15.25
ring none 50
ring-bulk none_bulk 32.25
slow none 103.5
slow-bulk none_bulk 51
frag none 178
TABLE

# An object of the slab freed and another allocated: path, its loop, budget. The loop is taken off. The last
# column has an empty pair of claims on the CPU taken off, too: under valgrind, such a pair is most of the cost.
# Peers at the time, the same way: mimalloc 0.1.52 69, talc 5.1 92, rlsf 0.2 110, the last two without a lock.
cargo build --quiet --release --package pagemill-slab --example slab_path
program=${CARGO_TARGET_DIR:-target}/release/examples/slab_path
per_pair() {
    awk -v d=$(($(total "$1" 200000) - $(total "$1" 100000))) 'BEGIN { printf "%.2f", d / 100000 }'
}
loop=$(per_pair loop)
claim=$(per_pair claim)
printf 'slab %-16s %7s instructions\n' 'loop' "$loop" 'claim' "$claim"
while read -r path budget; do
    net=$(awk -v a="$(per_pair "$path")" -v l="$loop" 'BEGIN { printf "%.1f", a - l }')
    without=$(awk -v a="$net" -v c="$claim" 'BEGIN { printf "%.1f", a - c }')
    verdict=ok
    if awk -v a="$net" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
        verdict='TOO MANY'
        failed=1
    fi
    printf 'slab %-16s %7s instructions per pair, budget %6s, %6s without claims  %s\n' \
        "$path" "$net" "$budget" "$without" "$verdict"
done <<'TABLE'
larson 153
larson-unchecked 139
TABLE
# An object allocated and freed while 65,536 are: sizes and refill, budget, with the loop.
while read -r path budget; do
    per_object=$(awk -v d=$(($(total "$path" 4) - $(total "$path" 2))) 'BEGIN { printf "%.1f", d / 131072 }')
    verdict=ok
    if awk -v a="$per_object" -v b="$budget" 'BEGIN { exit !(a > b) }'; then
        verdict='TOO MANY'
        failed=1
    fi
    printf 'slab %-17s %6s instructions per object, budget %6s  %s\n' \
        "$path" "$per_object" "$budget" "$verdict"
done <<'TABLE'
grow-64-single 261
grow-64-bulk 259
grow-64-split 260
grow-mixed-single 336
grow-mixed-bulk 329
grow-mixed-split 330
grow-512-single 385
grow-512-bulk 369
grow-512-split 373
TABLE
exit "$failed"
