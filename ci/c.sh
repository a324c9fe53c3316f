#!/usr/bin/env bash
# The C interface: the libraries install, export the functions of the header and nothing else, and pass
# the tests in C with gcc and clang, under valgrind and AddressSanitizer. A bulk call from C costs at most
# 30 instructions more than from Rust. The guide's program compiles without warnings and leaks nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Instructions that a bulk call from C may cost more than the same call from Rust; one that allocates more than
# 256 pages; and one that describes what it wants in a structure, each field of which is checked.
CALL_MAX=30
MANY_MAX=40
REQUEST_MAX=160

tests=crates/pagemill-c/tests/c
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wstrict-prototypes -Werror)
failed=0

skipped() {
    echo "SKIPPED: c.sh: $1"
}

fail() {
    echo "$1"
    failed=1
}

for tool in make nm pkg-config; do
    command -v "$tool" >/dev/null || { skipped "$tool is not installed"; exit 0; }
done
compilers=()
for compiler in gcc clang; do
    if command -v "$compiler" >/dev/null; then
        compilers+=("$compiler")
    else
        skipped "$compiler is not installed"
    fi
done
[[ ${#compilers[@]} -gt 0 ]] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Moved after it was installed, as a package is: pkg-config is told where it is. Cargo's variables say where it builds.
machine=$(rustc -vV | sed -n 's/^host: //p')
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/c
CARGO_BUILD_TARGET=$machine CARGO_TARGET_DIR=$target make --quiet -C crates/pagemill-c all install \
    BUILD="$work/built" PREFIX=/usr DESTDIR="$work/root"
for kind in so a; do
    cmp "$target/$machine/release/libpagemill_c.$kind" "$work/built/libpagemill.$kind"
done
export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
export PKG_CONFIG_PATH=$work/root/usr/lib/pkgconfig LD_LIBRARY_PATH=$work/root/usr/lib
read -ra cflags <<<"$(pkg-config --cflags pagemill)"
read -ra libs <<<"$(pkg-config --libs pagemill)"
read -ra private <<<"$(pkg-config --static --libs-only-l pagemill)"
static=("$work/root/usr/lib/libpagemill.a" "${private[@]:1}")
read -ra all_static <<<"$(pkg-config --static --libs pagemill)"

declared=$(sed -n 's/^[a-z].* \**\(pagemill_[a-z_]*\)(.*/\1/p' "$work/root/usr/include/pagemill.h" |
    grep -vxE 'pagemill_page_(pfn|order)' | sort)
exported=$(nm -D --defined-only "$work/root/usr/lib/libpagemill.so" | awk '{ print $3 }' | sort)
[[ $declared == "$exported" ]] ||
    fail "the header and the shared library differ: $(diff <(echo "$declared") <(echo "$exported"))"

# compile COMPILER OUTPUT SOURCE FLAG...: with all warnings, as errors.
compile() {
    "$1" -g -O1 -std=gnu99 "${warnings[@]}" -pthread "${cflags[@]}" -o "$2" "$3" "${@:4}"
}

# run NAME COMMAND...: a test, whose output is shown if it fails.
run() {
    local log=$work/log
    if "${@:2}" >"$log" 2>&1; then
        echo "ok: $1"
    else
        cat "$log"
        fail "FAILED: $1"
    fi
}

for compiler in "${compilers[@]}"; do
    echo '#include <pagemill.h>' >"$work/header.c"
    "$compiler" -std=c99 -fsyntax-only "${warnings[@]}" "${cflags[@]}" "$work/header.c"
    "$compiler" -x c++ -std=c++98 -fsyntax-only -Wall -Wextra -Wconversion -Werror "${cflags[@]}" "$work/header.c"
    compile "$compiler" "$work/layout" "$tests/layout.c" -std=c11
    for test in basic calls pool random threads wrong attack; do
        program=$work/$compiler-$test
        compile "$compiler" "$program" "$tests/$test.c" "${libs[@]}"
        run "$compiler $test" "$program"
        compile "$compiler" "$program-static" "$tests/$test.c" "${static[@]}"
        run "$compiler $test, static" "$program-static"
        # No shared library at all, not even that of C. The linker warns of dlopen, which the host calls.
        if [[ ! -e $("$compiler" -print-file-name=libc.a) ]]; then
            skipped "$compiler $test with -static: libc.a is not installed"
        elif compile "$compiler" "$program-all-static" "$tests/$test.c" -static "${all_static[@]}" \
            2>"$work/log"; then
            run "$compiler $test, -static" "$program-all-static"
        else
            cat "$work/log"
            fail "FAILED: $compiler $test does not link with -static"
        fi
        if ! compile "$compiler" "$program-asan" "$tests/$test.c" "${libs[@]}" \
            -fsanitize=address,undefined -fno-sanitize-recover=all 2>"$work/log"; then
            tail -2 "$work/log"
            skipped "$compiler $test under AddressSanitizer: does not link"
            continue
        fi
        run "$compiler $test, AddressSanitizer" "$program-asan"
    done
done

for seed in $RANDOM $RANDOM $RANDOM; do
    run "random, seed $seed" "$work/${compilers[0]}-random" "$seed" 50000
    run "attack, from seed $seed on" "$work/${compilers[0]}-attack" "$seed" 200
done

guide=examples/guides/c
for compiler in "${compilers[@]}"; do
    [[ -e $guide/main.c ]] || continue
    compile "$compiler" "$work/guide" "$guide/main.c" "${libs[@]}"
    run "$compiler guide" "$work/guide"
    # The guide's program uses every function of the header.
    for name in $declared pagemill_page_pfn pagemill_page_order; do
        grep -q "\b$name(" "$guide/main.c" || fail "$guide/main.c does not call $name"
    done
done

if ! command -v valgrind >/dev/null; then
    skipped "valgrind is not installed: no memory check, no instruction counts"
    exit "$failed"
fi
memcheck=(valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible
    --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=9)
for test in basic calls pool threads; do
    run "$test, valgrind" "${memcheck[@]}" "$work/${compilers[0]}-$test"
done
run "random, valgrind" "${memcheck[@]}" "$work/${compilers[0]}-random" 1 2000
run "attack, valgrind" "${memcheck[@]}" "$work/${compilers[0]}-attack" 1 20
[[ ! -e $work/guide ]] || run "guide, valgrind" "${memcheck[@]}" "$work/guide"

# Instructions of a call: those of the functions count_alloc_OP or count_free_OP of two programs that are alike.
cargo build --quiet --release --package pagemill-c --example count
"${compilers[0]}" -O2 -fno-optimize-sibling-calls "${cflags[@]}" -o "$work/count" "$tests/count.c" "${libs[@]}"
of_rust=${CARGO_TARGET_DIR:-target}/release/examples/count
# total HALF PROGRAM OP NR ROUNDS
total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect="*count_$1_*" \
        "${@:2}" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
per_call() {
    awk -v d=$(($(total "$@" 600) - $(total "$@" 300))) 'BEGIN { printf "%d", d / 300 + 0.5 }'
}
# Rows of operation, pages, and how many more instructions than from Rust allocating and freeing may cost.
while read -r op nr alloc_max free_max; do
    for half in alloc free; do
        most=${half}_max
        c=$(per_call "$half" "$work/count" "$op" "$nr")
        rust=$(per_call "$half" "$of_rust" "$op" "$nr")
        printf '%-7s n=%-3s %-5s %5d instructions from C, %5d from Rust, %4d more, budget %d\n' \
            "$op" "$nr" "$half" "$c" "$rust" "$((c - rust))" "${!most}"
        ((c > 0 && rust > 0 && c - rust <= ${!most})) || fail "TOO MANY: $op $nr $half"
    done
done <<TABLE
array 64 $CALL_MAX $CALL_MAX
array 512 $MANY_MAX $CALL_MAX
movable 64 $CALL_MAX $CALL_MAX
node1 64 $REQUEST_MAX $CALL_MAX
node2 64 $REQUEST_MAX $CALL_MAX
fill 64 $CALL_MAX $CALL_MAX
exactly 64 $CALL_MAX $CALL_MAX
single 1 30 60
pool 1 45 120
TABLE
exit "$failed"
