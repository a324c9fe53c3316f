#!/usr/bin/env bash
# Miri runs the tests of pagemill, pagemill-pool and pagemill-slab and stops at undefined behaviour.
#
# Left out are the unit tests of the modules buddy, pageblock and watermark of pagemill, and the tests model
# and exhaust of pagemill-pool: they run safe code, for minutes each. So is the test exhaust of pagemill-slab,
# whose steps model has, too.
#
# Arguments are passed to the tests: `ci/miri.sh fragment` runs those with that in their names. The tests
# may take MIRI_MINUTES together, 15 unless set. What has not ended by then is named as skipped; what
# it ran was fine.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "SKIPPED: miri.sh: no nightly toolchain with the component miri"
    exit 0
fi

# strict-provenance: a pointer made from an integer alone is an error.
# symbolic-alignment-check: an address that is aligned by luck does not count as aligned.
# ignore-leaks: tests of things that live for ever leak them on purpose; that no page is lost is what the
# tests' own counts are for.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-symbolic-alignment-check -Zmiri-ignore-leaks ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/miri

# Safe code with naive models that take minutes each under Miri, which has nothing to find there.
safe=(--skip buddy:: --skip pageblock:: --skip watermark::)

# Each binary of tests, so that as many run at once as there are CPUs: Miri itself uses one. Those with
# the most unsafe code under them come first, then short ones.
first=(fragment promises trace wakeups)
targets=("pagemill-pool --lib" "pagemill --lib" "pagemill-slab --lib" "${first[@]/#/pagemill --test }")
for file in crates/pagemill-pool/tests/*.rs crates/pagemill-slab/tests/*.rs crates/pagemill/tests/*.rs crates/pagemill/tests/*/main.rs; do
    package=${file#crates/}
    package=${package%%/*}
    name=${file#crates/*/tests/}
    name=${name%/main.rs}
    case "$package $name" in
        # The pool's random and exhaustive runs are for speed.
        "pagemill-pool model.rs" | "pagemill-pool exhaust.rs" | "pagemill-slab exhaust.rs") ;;
        *) [[ " ${first[*]} " == *" ${name%.rs} "* ]] || targets+=("$package --test ${name%.rs}") ;;
    esac
done

cargo +nightly miri setup
cargo +nightly miri test --package pagemill --features alloc --lib --tests --no-run
cargo +nightly miri test --package pagemill-pool --lib --tests --no-run
cargo +nightly miri test --package pagemill-slab --lib --tests --no-run

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
end=$(($(date +%s) + ${MIRI_MINUTES:-15} * 60))
export end safe_modules="${safe[*]}"

# Runs one binary; its output appears at its end, in one piece.
run_one() {
    local package target log code=0 start=$SECONDS features=() left=$((end - $(date +%s)))
    if ((left <= 0)); then
        echo "SKIPPED: miri.sh: $1: no time is left"
        return 0
    fi
    read -r package target <<<"$1"
    log=$2/$package${target//[^a-z]/_}
    [[ $package != pagemill ]] || features=(--features alloc)
    # shellcheck disable=SC2086 # Several words on purpose.
    timeout "$left" \
        cargo +nightly miri test --package "$package" "${features[@]}" $target -- $safe_modules "${@:3}" \
        >"$log" 2>&1 || code=$?
    sed "1i --- $1, $((SECONDS - start)) s" "$log"
    if [[ $code = 124 ]]; then
        echo "SKIPPED: miri.sh: $1 did not end in time; see its last test above"
        return 0
    fi
    return "$code"
}
export -f run_one
printf '%s\0' "${targets[@]}" |
    xargs --null --max-procs="$(nproc)" -I{} bash -c 'run_one "$@"' - {} "$logs" "$@"
