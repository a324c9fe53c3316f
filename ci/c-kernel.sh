#!/usr/bin/env bash
# The C interface of a kernel: its tests in a process, by gcc and clang, with AddressSanitizer and under
# valgrind; a kernel in C that boots, in which a bulk call costs at most 30 instructions more than in a
# kernel in Rust; the size of the library.
set -euo pipefail
cd "$(dirname "$0")/.."

# Instructions that a call from C may cost more than the same call from Rust, for 64 pages.
CALL_MAX=30

target=${CARGO_TARGET_DIR:-target}
out=$target/c-kernel
library=$out/libpagemill_kernel.a
tests=crates/pagemill-c/tests/kernel
guide=docs/kernel-guide.md

skip() {
    echo "SKIPPED: c-kernel.sh: $1"
}

has_target() {
    [[ -d $(rustc --print target-libdir --target "$1") ]]
}

build_library() {
    cargo rustc --quiet --package pagemill-c --lib --no-default-features --crate-type staticlib --release \
        --target "$1"
}

# Other machines: what the library needs from outside is checked where it is linked, on x86-64.
for machine in aarch64-unknown-none riscv64gc-unknown-none-elf; do
    if has_target "$machine"; then
        build_library "$machine"
    else
        skip "$machine is not installed (rustup target add $machine)"
    fi
done

if ! has_target x86_64-unknown-none; then
    skip "x86_64-unknown-none is not installed (rustup target add x86_64-unknown-none)"
    exit 0
fi
cargo clippy --quiet --package pagemill-c --no-default-features --target x86_64-unknown-none -- -D warnings
mkdir -p "$out"
build_library x86_64-unknown-none
cp "$target/x86_64-unknown-none/release/libpagemill_c.a" "$library"

# The value in the guide's row that begins with a text.
stated() {
    awk -F'|' -v row="$1" 'index($2, row) == 2 { gsub(/[^0-9.]/, "", $3); print $3; exit }' "$guide"
}

# The code of the library's own member; the others are the compiler's, of which little is linked.
code=$(size -A "$library" 2>/dev/null | awk '
    / \(ex / || /^[^ ]+\.o:?/ { own = /^pagemill_c/ }
    own && $1 ~ /^\.text/ { code += $2 }
    END { print code }
')
echo "the library has $code bytes of code"
awk -v code="$code" -v stated="$(stated 'library for C, all functions')" 'BEGIN {
    off = code / 1000 - stated
    if (stated == 0 || off > stated / 10 || -off > stated / 10) {
        print "docs/kernel-guide.md: says that the library has " stated " KB of code"
        exit 1
    }
}' >&2

# The library is for code at the lower or the upper 2 GiB of the addresses, so not for a PIE.
run_tests() {
    local compiler=$1 test
    shift
    for test in layout calls threads wrong attack; do
        "$compiler" -std=gnu11 -Wall -Wextra -Werror -O1 -gdwarf-4 -no-pie "$@" -I crates/pagemill-c/include \
            -o "$out/$test" "$tests/$test.c" "$library" -Wl,-z,noexecstack -lpthread
        ASAN_OPTIONS=handle_sigill=0 timeout 120 "$out/$test"
    done
}

headers_are_plain() {
    local compiler=$1
    "$compiler" -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only -x c crates/pagemill-c/include/pagemill_kernel.h
    "$compiler" -std=c++98 -Wno-long-long -Wno-variadic-macros -Wall -Wextra -Werror -fsyntax-only -x c++ \
        crates/pagemill-c/include/pagemill_kernel.h
}

# Compares the costs that the kernels in Rust and in C printed with each other, and with the guide's table: the
# call, and its instructions from Rust and from C.
compare_costs() {
    awk -v rust="$1" -v c="$2" -v most="$CALL_MAX" -F'|' '
        function read(output, costs, words) {
            if (!match(output, /call: [0-9]+ ticks to allocate, [0-9]+/)) exit failed = 1
            split(substr(output, RSTART, RLENGTH), words, " ")
            costs["allocate"] = words[2]
            costs["free"] = words[6]
        }
        function check(call, language, cost, stated) {
            if (cost > stated * 1.05 || cost < stated * 0.95) {
                printf "docs/kernel-guide.md: to %s 64 pages from %s: the guide says %d, the kernel counts %d\n",\
                    call, language, stated, cost
                failed = 1
            }
        }
        NF == 5 && /^\| `alloc_pages_bulk` / { in_rust["allocate"] = $3 + 0; in_c["allocate"] = $4 + 0 }
        NF == 5 && /^\| `release_pages`, / { in_rust["free"] = $3 + 0; in_c["free"] = $4 + 0 }
        END {
            read(rust, of_rust)
            read(c, of_c)
            for (call in of_c) {
                more = of_c[call] - of_rust[call]
                printf "%-8s 64 pages: %d instructions from C, %d from Rust, %d more, budget %d\n",\
                    call, of_c[call], of_rust[call], more, most
                if (more > most) {
                    print "TOO MANY: " call
                    failed = 1
                }
                check(call, "Rust", of_rust[call], in_rust[call])
                check(call, "C", of_c[call], in_c[call])
            }
            exit failed
        }
    ' "$guide"
}

for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        skip "$compiler is not installed"
        continue
    fi
    echo "--- $compiler"
    headers_are_plain "$compiler"
    run_tests "$compiler" -fsanitize=address
    run_tests "$compiler"
    if command -v valgrind >/dev/null; then
        for test in calls threads; do
            timeout 300 valgrind --quiet --leak-check=full --error-exitcode=1 "$out/$test"
        done
        timeout 300 valgrind --quiet --error-exitcode=1 "$out/attack" 1 20
    else
        skip "valgrind is not installed"
    fi
    if ! command -v qemu-system-x86_64 >/dev/null; then
        skip "qemu-system-x86_64 is not installed, so nothing was booted"
        continue
    fi
    from_rust=${from_rust:-$(examples/c-kernel/run.sh --rust --icount)}
    from_c=$(CC=$compiler examples/c-kernel/run.sh --icount)
    echo "$from_c"
    compare_costs "$from_rust" "$from_c"
done
