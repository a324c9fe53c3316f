#!/usr/bin/env bash
# Miri runs the tests of pagemill and pagemill-pool and stops at undefined behaviour.
#
# Arguments are passed to the tests: `ci/miri.sh fragment` runs those with that in their names. A binary
# of tests that runs longer than MIRI_MINUTES is ended, and counts as skipped: what it ran was fine.
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
for file in crates/pagemill-pool/tests/*.rs; do
    name=${file#crates/pagemill-pool/tests/}
    # Those that play many runs are for speed.
    [[ $name = model.rs || $name = exhaust.rs ]] || targets+=("pagemill-pool --test ${name%.rs}")
done
targets+=("pagemill-pool --lib")

cargo +nightly miri setup
cargo +nightly miri test --package pagemill --features alloc --lib --tests --no-run
cargo +nightly miri test --package pagemill-pool --lib --tests --no-run

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Runs one binary; its output appears at its end, in one piece.
run_one() {
    local package target log code=0 start=$SECONDS features=()
    read -r package target <<<"$1"
    log=$2/$package${target//[^a-z]/_}
    [[ $package != pagemill ]] || features=(--features alloc)
    # shellcheck disable=SC2086 # Two words on purpose.
    timeout "${MIRI_MINUTES:-12}m" \
        cargo +nightly miri test --package "$package" "${features[@]}" $target -- "${@:3}" \
        >"$log" 2>&1 || code=$?
    sed "1i --- $1, $((SECONDS - start)) s" "$log"
    if [[ $code = 124 ]]; then
        echo "SKIPPED: miri.sh: $1 was ended after ${MIRI_MINUTES:-12} minutes; see its last test above"
        return 0
    fi
    return "$code"
}
export -f run_one
printf '%s\0' "${targets[@]}" |
    xargs --null --max-procs="$(nproc)" -I{} bash -c 'run_one "$@"' - {} "$logs" "$@"
