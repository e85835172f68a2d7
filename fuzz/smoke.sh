#!/bin/sh
# Each fuzz target for SECONDS seconds (5): on stable, through the targets' own loop. GOJINN_LIBFUZZER=1: with libFuzzer and
# coverage, in another target directory (the engines are compiled once more, which takes minutes).
set -eu
cd "$(dirname "$0")/.."
seconds=${SECONDS:-0}
# Some shells count in this variable by themselves, from 0.
[ "$seconds" -ge 1 ] || seconds=5
targets=${*:-$(ls fuzz/fuzz_targets | sed 's/\.rs$//')}
CARGO=${CARGO:-cargo}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR

if [ "${GOJINN_LIBFUZZER:-0}" != 1 ]; then
    "$CARGO" build --release --workspace --bins --locked
    for target in $targets; do
        "$CARGO_TARGET_DIR/release/$target" --seconds "$seconds"
    done
    exit
fi

# Only the project's own crates report coverage: the wrapper is for them alone, and the seeds do not drown in the engines'.
CARGO_TARGET_DIR=$PWD/fuzz/target
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/with-coverage \
    "$CARGO" build --release -p gojinn-fuzz --bins --features libfuzzer --locked
for target in $targets; do
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus" "fuzz/artifacts/$target"
    # New inputs go to the first directory; seeds are only read.
    "$CARGO_TARGET_DIR/release/$target" "$corpus" "fuzz/seeds/$target" -max_total_time="$seconds" -timeout=30 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1
done
