#!/bin/sh
# Builds the runtime of scripts, build/quickjs.wasm. With update: replaces the prebuilt module of the plugin and its manifest.
#
# It needs Zig (for C, C++ and Zig), Node's npm, and cargo. ../build.sh says how to get Zig. cargo and npm fetch the sources of
# QuickJS-NG, Ada and the packages of js/package.json, and compare them with the lock files.
set -eu
cd "$(dirname "$0")"

out=../build/quickjs
prebuilt=../../caddy/internal/quickjs
mkdir -p $out

zig() {
    if (unset -f zig; command -v zig) >/dev/null 2>&1; then command zig "$@"
    elif python3 -c 'import ziglang' 2>/dev/null; then python3 -m ziglang "$@"
    else ../build/tools/zig/bin/python3 -m ziglang "$@"
    fi
}
export ZIG_LOCAL_CACHE_DIR="$PWD/../build/zig" ZIG_GLOBAL_CACHE_DIR="$PWD/../build/zig"

# The layer in JavaScript.
npm ci --prefix js --silent --no-audit --no-fund
js/node_modules/.bin/esbuild js/layer.js --bundle --format=iife --global-name=layer --target=es2023 --log-level=warning \
    --minify-whitespace --minify-syntax --legal-comments=none \
    '--banner:js=(function () {' '--footer:js=return layer.default;})()' --outfile=$out/layer.js

# The sources in C and C++.
cargo vendor --quiet --locked --manifest-path sources/Cargo.toml $out/vendor >/dev/null
quickjs=$out/vendor/rquickjs-sys/quickjs
ada=$out/vendor/ada-url/deps

flags="-target wasm32-wasi -O3 -s -DNDEBUG -ffile-prefix-map=$PWD=quickjs"
wasi="-D_GNU_SOURCE -DEMSCRIPTEN=1 -DFE_DOWNWARD=0 -DFE_UPWARD=0 -D_WASI_EMULATED_PROCESS_CLOCKS -D_WASI_EMULATED_SIGNAL"
warnings="-Wno-implicit-const-int-float-conversion -Wno-unused-parameter"
for source in libregexp libunicode dtoa; do
    zig cc $flags $wasi $warnings -c $quickjs/$source.c -o $out/$source.o
done
zig cc $flags $wasi $warnings -std=c23 -I$quickjs -I$ada -Isrc --embed-dir=$out -c src/main.c -o $out/main.o
zig c++ $flags -std=c++20 -fno-exceptions -fno-rtti -I$ada -c $ada/ada.cpp -o $out/ada.o
zig build-obj src/native.zig -target wasm32-wasi -O ReleaseFast -fstrip -femit-bin=$out/native.o
zig c++ $flags -mexec-model=reactor -Wl,-z,stack-size=1572864 -o ../build/quickjs.wasm \
    $out/main.o $out/ada.o $out/native.o $out/libregexp.o $out/libunicode.o $out/dtoa.o \
    -lwasi-emulated-process-clocks -lwasi-emulated-signal
chmod 644 ../build/quickjs.wasm

if [ "${1:-}" = update ]; then
    cp ../build/quickjs.wasm $prebuilt/quickjs.wasm
    {
        echo "# The runtime of scripts: guests/quickjs/build.sh update writes it, with Zig $(zig version), QuickJS-NG of rquickjs-sys 0.14.0,"
        echo "# Ada of ada-url 3.4.6, and the npm packages of guests/quickjs/js/package-lock.json."
        (cd $prebuilt && sha256sum quickjs.wasm)
    } >$prebuilt/SHA256SUMS
fi
