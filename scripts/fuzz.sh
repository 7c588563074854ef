#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: feeds each target (all, if none is named) from libFuzzer for so long. What is interesting
# is kept in the cache and is where the next run begins; what fails is in fuzz/artifacts/: fix it, and add the file to
# fuzz/corpus/TARGET, which the tests replay.
source "$(dirname "$0")/../e2e/cluster/lib.sh"
cd "$top"

seconds=$1
shift
[ $# -gt 0 ] || set -- fuzz/fuzz_targets/*.rs
# The code is safe Rust: a sanitizer would find nothing in it, and needs an unstable compiler.
options=(--sanitizer none)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}/fuzz

# The versions that the programs have.
cp Cargo.lock fuzz/

for target in "$@"; do
    target=$(basename "$target" .rs)
    say "fuzzing $target for $seconds s"
    mkdir -p "$cache/fuzz/$target"
    nice cargo fuzz run "${options[@]}" "$target" "$cache/fuzz/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -print_final_stats=1
done
