#!/usr/bin/env bash
# Miri runs the tests of pagemill and pagemill-pool and stops at undefined behaviour.
#
# Arguments are passed to the tests: `ci/miri.sh fragment` runs those with that in their names.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "SKIPPED: miri.sh: no nightly toolchain with the component miri"
    exit 0
fi

# strict-provenance: a pointer made from an integer alone is an error.
# symbolic-alignment-check: an address that is aligned by luck does not count as aligned.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-symbolic-alignment-check ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/miri

# Each binary of tests, so that as many run at once as there are CPUs: Miri itself uses one.
targets=("pagemill --lib")
for file in crates/pagemill/tests/*.rs crates/pagemill/tests/*/main.rs; do
    name=${file#crates/pagemill/tests/}
    name=${name%/main.rs}
    targets+=("pagemill --test ${name%.rs}")
done
targets+=("pagemill-pool --lib")

cargo +nightly miri setup
cargo +nightly miri test --package pagemill --features alloc --lib --tests --no-run
cargo +nightly miri test --package pagemill-pool --lib --no-run

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Runs one binary; its output appears at its end, in one piece.
run_one() {
    local package target log code=0 start=$SECONDS features=()
    read -r package target <<<"$1"
    log=$2/$package${target//[^a-z]/_}
    [[ $package != pagemill ]] || features=(--features alloc)
    # shellcheck disable=SC2086 # Two words on purpose.
    cargo +nightly miri test --package "$package" "${features[@]}" $target -- "${@:3}" \
        >"$log" 2>&1 || code=$?
    sed "1i --- $1, $((SECONDS - start)) s" "$log"
    return "$code"
}
export -f run_one
printf '%s\0' "${targets[@]}" |
    xargs --null --max-procs="$(nproc)" -I{} bash -c 'run_one "$@"' - {} "$logs" "$@"
