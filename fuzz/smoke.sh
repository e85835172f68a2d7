#!/bin/sh
# Each fuzz target for SECONDS seconds (30): on stable, through the targets' own loop, and Go's for the target caddyfile, without
# coverage. GOJINN_LIBFUZZER=1: with libFuzzer and
# coverage, in another target directory (the engines are compiled once more, which takes minutes).
set -eu
cd "$(dirname "$0")/.."
seconds=${SECONDS:-0}
# Some shells count in this variable by themselves, from 0.
[ "$seconds" -ge 1 ] || seconds=30
targets=${*:-$(ls fuzz/fuzz_targets | sed 's/\.rs$//') caddyfile}
CARGO=${CARGO:-cargo}
GO=${GO:-go}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR

if [ "${GOJINN_LIBFUZZER:-0}" != 1 ]; then
    "$CARGO" build --release --workspace --bins --locked
    for target in $targets; do
        if [ "$target" = caddyfile ]; then
            (cd caddy && CGO_ENABLED=0 "$GO" test -c -o "$CARGO_TARGET_DIR/caddyfile.test" . &&
                "$CARGO_TARGET_DIR/caddyfile.test" -test.run '^$' -test.fuzz '^FuzzCaddyfile$' -test.fuzztime "${seconds}s" \
                    -test.fuzzcachedir "$CARGO_TARGET_DIR/caddyfile.cache")
        else
            "$CARGO_TARGET_DIR/release/$target" --seconds "$seconds"
        fi
    done
    exit
fi

# Only the project's own crates report coverage: the wrapper is for them alone, and the seeds do not drown in the engines'.
CARGO_TARGET_DIR=$PWD/fuzz/target
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/with-coverage \
    "$CARGO" build --release -p gojinn-fuzz --bins --features libfuzzer --locked
for target in $targets; do
    [ "$target" != caddyfile ] || continue
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus" "fuzz/artifacts/$target"
    # New inputs go to the first directory; seeds are only read.
    "$CARGO_TARGET_DIR/release/$target" "$corpus" "fuzz/seeds/$target" -max_total_time="$seconds" -timeout=30 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1
done
