#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: fuzzes each target (all by default) for SECONDS. Inputs that increase the coverage are
# kept in the cache, where the next run starts. Inputs that fail are in fuzz/artifacts/: fix the bug, and add the file to
# fuzz/corpus/TARGET, which the tests replay.
source "$(dirname "$0")/../e2e/cluster/lib.sh"
cd "$top"

seconds=$1
shift
[ $# -gt 0 ] || set -- fuzz/fuzz_targets/*.rs
# No sanitizer: the code is safe Rust, and a sanitizer needs a nightly compiler.
options=(--sanitizer none)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}/fuzz

# The same dependency versions as the programs.
cp Cargo.lock fuzz/

for target in "$@"; do
    target=$(basename "$target" .rs)
    say "fuzzing $target for $seconds s"
    mkdir -p "$cache/fuzz/$target"
    nice cargo fuzz run "${options[@]}" "$target" "$cache/fuzz/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -print_final_stats=1
done
