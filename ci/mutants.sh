#!/usr/bin/env bash
# Mutants of the core and of the pool's owner: each is found by a test, or listed as a survivor.
#
# All of them are some 4,000 and take 30 hours, so .ci/run does not call this. A run goes on where the
# last one stopped: results are kept in target/mutants, a folder for each shard of a file.
#
#   ci/mutants.sh                     every file, 8 mutants a shard, until it is ended
#   ci/mutants.sh watermark claim     these files
#   MUTANTS_MINUTES=25 ci/mutants.sh  as many shards as begin within 25 minutes
#   ci/mutants.sh --check             compares what was found so far with the list, and runs nothing
#
# A survivor is written as in ci/mutants/survivors.txt: the file, the function and the change, without
# a line number, so that moved code keeps its entry. One that is not listed there makes this fail.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo mutants --version >/dev/null 2>&1; then
    echo "SKIPPED: mutants.sh: cargo-mutants is not installed: cargo install cargo-mutants --locked"
    exit 0
fi
if ! command -v jq >/dev/null; then
    echo "SKIPPED: mutants.sh: jq is not installed"
    exit 0
fi

names=(watermark claim pageblock fragment pcp free bulk zone buddy owner)
results=${CARGO_TARGET_DIR:-$PWD/target}/mutants
list=ci/mutants/survivors.txt
per_shard=8
minutes=${MUTANTS_MINUTES:-}
mode=run
if [[ ${1:-} = --check ]]; then
    mode=check
    shift
fi
[[ $# -eq 0 ]] || names=("$@")
mkdir -p "$results"

# The files of one name, as cargo-mutants finds them, and the package whose tests judge them.
files_of() {
    case $1 in
        owner) echo "pagemill-pool crates/pagemill-pool/src/owner.rs" ;;
        bulk) echo "pagemill crates/pagemill/src/bulk/*.rs" ;;
        *) echo "pagemill crates/pagemill/src/$1.rs" ;;
    esac
}

# Prints mutants of an outcome as the list has them: file, function, change.
keys() {
    jq --raw-output --arg summary "$1" '
        .outcomes[] | select(.summary == $summary) | .scenario.Mutant |
        "\(.file): \(.function.function_name // "-"): \(.genre): \(.name | sub("^[^ ]+ "; ""))"' "$2"
}

run_name() {
    local package files nr shards shard folder
    read -r package files <<<"$(files_of "$1")"
    local mutants=(cargo mutants --package "$package" --file "$files" --colors never --no-shuffle)
    nr=$("${mutants[@]}" --list | wc -l)
    shards=$(((nr + per_shard - 1) / per_shard))
    # The core's tests alone judge the core: those of its users take longer and find little more.
    local tests=(-- --package "$package" --lib --tests)
    [[ $package != pagemill ]] || tests=(--features alloc "${tests[@]}")
    for ((shard = 0; shard < shards; shard++)); do
        folder=$results/$1/$shard-of-$shards
        [[ ! -f $folder/done ]] || continue
        if [[ -n $minutes ]] && ((SECONDS >= minutes * 60)); then
            echo "mutants.sh: $minutes minutes are over, before shard $shard of $shards of $1"
            return 0
        fi
        rm -rf "$folder"
        mkdir -p "$folder"
        echo "--- $1, shard $shard of $shards"
        # 2: some survived, 3: some ran too long; both are results.
        local code=0
        "${mutants[@]}" --shard "$shard/$shards" --output "$folder" --timeout 300 \
            --cap-lints true "${tests[@]:0:0}" ${MUTANTS_ARGS:-} "${tests[@]}" || code=$?
        [[ $code = 0 || $code = 2 || $code = 3 ]] || return "$code"
        touch "$folder/done"
    done
}

if [[ $mode = run ]]; then
    for name in "${names[@]}"; do
        run_name "$name"
    done
fi

new=0
for outcomes in "$results"/*/*/mutants.out/outcomes.json; do
    [[ -f $outcomes ]] || continue
    while IFS= read -r key; do
        if ! grep --quiet --fixed-strings --line-regexp -- "$key" "$list"; then
            echo "survived, and is not in $list: $key"
            new=1
        fi
    done < <(keys MissedMutant "$outcomes")
done
exit "$new"
