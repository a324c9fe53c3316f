#!/usr/bin/env bash
# Mutants of the core and of the pool's owner: each is found by a test, or listed as a survivor.
#
# All of them are some 4,000 and take 30 hours, so .ci/run does not call this. A run goes on where the
# last one stopped: target/mutants keeps the results, a folder for each shard of a file.
#
#   ci/mutants.sh                     every file, until it is ended
#   ci/mutants.sh watermark claim     these files
#   MUTANTS_MINUTES=25 ci/mutants.sh  the shards that begin within 25 minutes
#   ci/mutants.sh --check             compares the results so far with the list, and runs nothing
#
# ci/mutants/survivors.txt has a survivor's package, function and change, without file or line number, so
# that code which moves keeps its entry. A survivor that is not listed makes this fail. Remove
# target/mutants once tests or code have changed.
set -euo pipefail
cd "$(dirname "$0")/.."

list=ci/mutants/survivors.txt
results=${CARGO_TARGET_DIR:-$PWD/target}/mutants
per_shard=8

# The package of a name, and its files as cargo-mutants is told them.
files_of() {
    case $1 in
        owner) echo "pagemill-pool crates/pagemill-pool/src/**/owner.rs" ;;
        bulk) echo "pagemill crates/pagemill/src/bulk/*.rs" ;;
        buddy | pageblock | zone | pcp | watermark | free | claim | fragment)
            echo "pagemill crates/pagemill/src/**/$1.rs" ;;
        *) echo "mutants.sh: no file is called $1" >&2; return 1 ;;
    esac
}

# Runs the shards of a name that have no results yet.
run_name() {
    local package file nr shards shard folder code
    read -r package file <<<"$(files_of "$1")"
    local mutants=(cargo mutants --package "$package" --file "$file" --no-shuffle --colors never)
    # Only the tests of the package itself, without those of its documentation.
    local tests=(--lib --tests)
    [[ $package != pagemill ]] || mutants+=(--features alloc)
    nr=$("${mutants[@]}" --list | wc -l)
    shards=$(((nr + per_shard - 1) / per_shard))
    for ((shard = 0; shard < shards; shard++)); do
        folder=$results/$1/$shard-of-$shards
        [[ ! -f $folder/done ]] || continue
        if [[ -n ${MUTANTS_MINUTES:-} ]] && ((SECONDS >= MUTANTS_MINUTES * 60)); then
            echo "mutants.sh: $MUTANTS_MINUTES minutes are over: shard $shard of $shards of $1 is next"
            return 0
        fi
        rm -rf "$folder"
        mkdir -p "$folder"
        echo "--- $1, shard $shard of $shards"
        code=0
        # --baseline skip: that the tests pass unchanged is for ci/test.sh to say.
        CARGO_TARGET_DIR=$results/build "${mutants[@]}" --shard "$shard/$shards" --output "$folder" \
            --baseline skip --timeout "${MUTANTS_TIMEOUT:-300}" -- "${tests[@]}" || code=$?
        # 2: some survived. 3: the tests of some did not end, which tells that they were found.
        [[ $code = 0 || $code = 2 || $code = 3 ]] || return "$code"
        touch "$folder/done"
    done
}

# Prints the survivors of the results so far, as the list has them.
survivors() {
    local outcomes
    for outcomes in "$results"/*/*/mutants.out/outcomes.json; do
        [[ -f $outcomes ]] || continue
        jq --raw-output '.outcomes[] | select(.summary == "MissedMutant") | .scenario.Mutant
            | "\(.package): \(.function.function_name // "-"): \(.name | sub("^[^ ]+ "; ""))"' "$outcomes"
    done | sort -u
}

for tool in cargo-mutants jq; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIPPED: mutants.sh: $tool is not installed (cargo install cargo-mutants --locked)"
        exit 0
    fi
done
if [[ ${1:-} != --check ]]; then
    [[ $# -gt 0 ]] ||
        set -- watermark claim pageblock fragment owner pcp free bulk zone buddy
    for name in "$@"; do
        run_name "$name"
    done
fi
new=$(survivors | grep --invert-match --line-regexp --fixed-strings --file="$list" || true)
if [[ -n $new ]]; then
    echo "survivors that $list does not have:"
    echo "$new"
    exit 1
fi
