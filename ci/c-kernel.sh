#!/usr/bin/env bash
# The C interface of a kernel: its tests in a process, by gcc and clang, with AddressSanitizer and under
# valgrind; a kernel in C that boots; what a bulk call costs there; the size of the library.
set -euo pipefail
cd "$(dirname "$0")/.."

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
    for test in layout calls threads wrong; do
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
    else
        skip "valgrind is not installed"
    fi
    if ! command -v qemu-system-x86_64 >/dev/null; then
        skip "qemu-system-x86_64 is not installed, so nothing was booted"
        continue
    fi
    output=$(CC=$compiler examples/c-kernel/run.sh --icount)
    echo "$output"
    # The guide's table: the call, and its instructions from Rust and from C.
    awk -v output="$output" -F'|' '
        NF == 5 && /^\| `alloc_pages_bulk` / { stated["allocate"] = $4 + 0 }
        NF == 5 && /^\| `release_pages`, / { stated["free"] = $4 + 0 }
        END {
            match(output, /call: [0-9]+ ticks to allocate, [0-9]+/)
            split(substr(output, RSTART, RLENGTH), words, " ")
            now["allocate"] = words[2]
            now["free"] = words[6]
            for (call in now) {
                if (now[call] > stated[call] * 1.05 || now[call] < stated[call] * 0.95) {
                    printf "docs/kernel-guide.md: to %s 64 pages: the guide says %d, the kernel counts %d\n",\
                        call, stated[call], now[call]
                    failed = 1
                }
            }
            exit failed
        }
    ' "$guide"
done
