#!/usr/bin/env bash
# pagemill builds without std and without alloc; needs no bare-metal target. The code of every public
# call together is as large as docs/kernel-guide.md says.
#
# no_std.sh [--sizes]: with the option, prints the table of sizes as the guide has it, and ends.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}/no_std
proof=ci/no_std-proof
calls=$proof/src/calls.rs
guide=docs/kernel-guide.md
# Bytes of code that all public calls may have together.
CODE_MAX=249000

# Each public function is in the proof. Exempt are names that every type has, `Ring`, which needs a heap,
# and claims, which a kernel leaves to pagemill.
exempt='^(fmt|new|get|pfn|node|source|len|is_empty|deref|drop|clone)$'
missing=()
while read -r name; do
    [[ $name =~ $exempt ]] || grep -qE "(\.|::)$name(::<|\(|\))|\b$name\(" "$calls" || missing+=("$name")
done < <(
    # Up to a file's tests. `AllocPages` is a trait, whose functions have no `pub`.
    find crates/pagemill/src -name '*.rs' ! -path '*/tests*' ! -path '*loom*' ! -name ring.rs ! -name claim.rs -print0 |
        xargs -0 awk '/^#\[cfg\(.*test/ { nextfile } { print FILENAME ": " $0 }' |
        sed -nE -e 's/.*: +pub (const |unsafe )*fn ([a-z_0-9]+).*/\2/p' \
            -e 's/.*alloc_pages\.rs: +(unsafe )?fn ([a-z_0-9]+).*/\2/p' | sort -u
)
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "$calls: these public functions are missing: ${missing[*]}" >&2
    exit 1
fi

# The versions that the workspace uses; cargo drops the entries that the proof does not need.
cp Cargo.lock "$proof/Cargo.lock"

# The proof has a panic handler and no global allocator, so linking std or alloc is an error.
# -nostdlib: nothing of the C library is linked either, what is needed from it stays undefined.
library=$target/release/libno_std_proof.so
build() {
    CARGO_TARGET_DIR=$target RUSTFLAGS="-Clink-arg=-nostdlib ${RUSTFLAGS:-}" \
        cargo build --release --manifest-path "$proof/Cargo.toml" --lib "$@"
}
code_of_library() {
    size -A "$library" | awk '$1 == ".text" { print $2 }'
}
build --features small
small=$(code_of_library)
build

# The compiler may call these for copies and comparisons on any target. The personality routine is named
# by the host's precompiled core, which can unwind; ci/targets.sh links without it. Nothing else is
# allowed.
needed=$(nm --dynamic --undefined-only "$library" | awk '$1 == "U" { print $2 }')
for symbol in ${needed//@*/}; do
    case $symbol in
        memcpy | memmove | memset | memcmp | bcmp | rust_eh_personality) ;;
        *) echo "pagemill needs $symbol from outside" >&2; exit 1 ;;
    esac
done
# Helpers that the compiler's library supplies, such as a division of 128 bits (__udivti3).
helpers=$(nm --defined-only "$library" | awk '$2 ~ /[tTwW]/ && $3 ~ /^__/ { print $3 }')
if [[ -n $helpers ]]; then
    echo "pagemill calls helpers of the compiler: $helpers" >&2
    exit 1
fi

# Bytes of code by what they belong to, as rows of a table. A function that is inlined counts where it
# was inlined.
sizes() {
    nm --print-size --size-sort --demangle --defined-only "$library" |
        awk '$3 ~ /[tTwW]/ { print $1, $2, $4, $5, $6, $7, $8, $9 }' | sort -u -k1,1 |
        while read -r _ size name; do echo "$((16#$size)) $name"; done |
        awk -v small="$small" '
            function part(name) {
                if (name ~ /Display|Debug|calls::message|core::fmt|core::str/) return "messages"
                if (name ~ /setup::|config::|Shrinkers>?::new/) return "setup"
                if (name ~ /check::|validate|view|book::|stats::|calls::view/) return "views and checks"
                if (name ~ /contig|frame_range|zone::runs/) return "contiguous ranges"
                if (name ~ /by_pfn|pfns/) return "frames by number"
                if (name ~ /request|policy/) return "requests and policies"
                if (name ~ /bulk|page::list|page_vec|calls::lists/) return "bulk calls, lists, vectors"
                if (name ~ /account/) return "accounts"
                if (name ~ /reclaim|shrinker|wait::/) return "reclaim and waiting"
                if (name ~ /reserve::/) return "reserves"
                if (name ~ /shared|fragment|recycle/) return "shared pages, fragments, recycling"
                if (name ~ /fault|hooks|owner/) return "debugging"
                if (name ~ /zone::/) return "zones"
                if (name ~ /page_alloc|percpu|page::|calls::|platform|base::|memmap/)
                    return "single pages and blocks"
                return "other"
            }
            { bytes = $1; sub(/^[0-9]+ /, ""); sum[part($0)] += bytes; all += bytes }
            END {
                for (name in sum) printf "| %s | %.1f |\n", name, sum[name] / 1000 | "sort -t\"|\" -k3,3nr"
                close("sort -t\"|\" -k3,3nr")
                printf "| all | %.1f |\n", all / 1000
                printf "| a kernel with setup, single pages and blocks only | %.1f |\n", small / 1000
            }
        '
}

if [[ ${1:-} = --sizes ]]; then
    sizes
    exit
fi

code=$(code_of_library)
if [[ $code -gt $CODE_MAX ]]; then
    echo "all public calls together have $code bytes of code; the limit in ci/no_std.sh is $CODE_MAX" >&2
    exit 1
fi
# Each row of the guide's table holds within 20 % and 1 KB: other compilers inline other functions.
sizes | awk -F'|' '
    FNR == 1 { file++ }
    { part = $2; gsub(/^ +| +$/, "", part) }
    file == 1 { now[part] = $3 + 0; nr_parts++ }
    file == 2 && /^\| part \| KB of code \|$/ { inside = 1; next }
    file == 2 && !/^\|/ { inside = 0 }
    file == 2 && inside && $3 !~ /---/ {
        nr++
        off = now[part] - $3
        if (!(part in now) || off > 1 + $3 / 5 || -off > 1 + $3 / 5) {
            printf "%s: %s: the table says %s KB, the proof has %.1f; ", FILENAME, part, $3 + 0, now[part]
            print "print the table by ci/no_std.sh --sizes"
            failed = 1
        }
    }
    END {
        if (nr != nr_parts) {
            printf "the table of the guide has %d rows, the proof %d parts; print it by ci/no_std.sh --sizes\n", \
                nr, nr_parts
        }
        exit failed || nr != nr_parts
    }
' - "$guide" >&2
echo "all public calls together: $code bytes of code"
