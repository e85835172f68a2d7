#!/bin/sh
# Builds the runtime of scripts, build/quickjs.wasm. With update: replaces the prebuilt module of the plugin and its manifest.
#
# It needs Zig (for C, C++ and Zig), Node.js with npm, and cargo. ../build.sh says how to get Zig. cargo and npm fetch the sources of
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
for bundle in layer streams; do
    js/node_modules/.bin/esbuild js/$bundle.js --bundle --format=iife --global-name=layer --target=es2023 --log-level=warning \
        --minify-whitespace --minify-syntax --legal-comments=none \
        '--banner:js=(function () {' '--footer:js=return layer.default;})()' --outfile=$out/$bundle.js
done

# The sources in C and C++.
cargo vendor --quiet --locked --manifest-path sources/Cargo.toml $out/vendor >/dev/null
quickjs=$out/quickjs
rm -rf $quickjs
cp -r $out/vendor/rquickjs-sys/quickjs $quickjs
# A loop says where it is: QuickJS sets cur_pc before calls only. The opcode behind a jump is at pc, and cur_pc is one more.
jumps='if (unlikely(js_poll_interrupts(ctx)))'
test "$(grep -c "$jumps" $quickjs/quickjs.c)" = 7 || { echo "quickjs.c polls for interrupts in another way than before" >&2; exit 1; }
sed -i "s/$jumps/sf->cur_pc = pc + 1; $jumps/" $quickjs/quickjs.c
# How deep a recursion is shows in the stack in memory only. So natives that recurse and ask for it take room there, in proportion to
# what they take of the engine's own stack.
room() { # the argument of the check, the bytes, how often it is there
    test "$(grep -c "js_check_stack_overflow([a-z>-]*, $1)" $quickjs/quickjs.c)" = $3 ||
        { echo "quickjs.c checks its stack in another way than before" >&2; exit 1; }
    sed -i "s/js_check_stack_overflow(\([a-z>-]*\), $1)/js_check_stack_overflow(\1, ROOM($2))/" $quickjs/quickjs.c
}
room 0 256 13
room 1000 1024 2
# The parser asks for it in its scanner only, which does not recurse.
awk '/^static .*(js_parse_unary|js_parse_assign_expr2|js_parse_statement_or_decl|js_create_function)\(/ { found = 1 }
    /;$/ { found = 0 } /^{$/ && found { $0 = "{ (void)ROOM(512);"; found = 0 } { print }' $quickjs/quickjs.c >$quickjs/patched.c
mv $quickjs/patched.c $quickjs/quickjs.c
test "$(grep -c '^{ (void)ROOM' $quickjs/quickjs.c)" = 4 || { echo "quickjs.c parses in another way than before" >&2; exit 1; }
ada=$out/vendor/ada-url/deps

# 2 MiB of it are for recursion in scripts, see stack_size in main.c.
stack=2621440
flags="-target wasm32-wasi -O3 -s -DNDEBUG -ffile-prefix-map=$PWD=quickjs"
wasi="-D_GNU_SOURCE -DEMSCRIPTEN=1 -DFE_DOWNWARD=0 -DFE_UPWARD=0 -D_WASI_EMULATED_PROCESS_CLOCKS -D_WASI_EMULATED_SIGNAL"
warnings="-Wno-implicit-const-int-float-conversion -Wno-unused-parameter"
for source in libregexp libunicode dtoa; do
    zig cc $flags $wasi $warnings -c $quickjs/$source.c -o $out/$source.o
done
emulated="-lwasi-emulated-process-clocks -lwasi-emulated-signal"
parts="$out/libregexp.o $out/libunicode.o $out/dtoa.o"
zig cc $flags $wasi $warnings -std=c23 -I$quickjs src/compile.c $parts $emulated -Wl,-z,stack-size=1048576 -o $out/compile.wasm
for bundle in layer streams; do
    node --no-warnings compile.mjs $out/compile.wasm <$out/$bundle.js >$out/$bundle.bytecode
done
# Without builtins, so that no function of the heap is made a call of another one.
zig cc $flags -fno-builtin -std=c23 -c src/heap.c -o $out/heap.o
zig cc $flags -std=c23 src/heap_test.c $out/heap.o -o $out/heap_test.wasm
node --no-warnings compile.mjs $out/heap_test.wasm
zig cc $flags $wasi $warnings -std=c23 -I$quickjs -I$ada -Isrc --embed-dir=$out -DSTACK_SIZE=$stack -c src/main.c -o $out/main.o
zig c++ $flags -std=c++20 -fno-exceptions -fno-rtti -I$ada -c $ada/ada.cpp -o $out/ada.o
zig build-obj src/native.zig -target wasm32-wasi -O ReleaseFast -fstrip -femit-bin=$out/native.o
zig c++ $flags -mexec-model=reactor -Wl,-z,stack-size=$stack -o ../build/quickjs.wasm \
    $out/main.o $out/heap.o $out/ada.o $out/native.o $parts $emulated
chmod 644 ../build/quickjs.wasm

if [ "${1:-}" = update ]; then
    cp ../build/quickjs.wasm $prebuilt/quickjs.wasm
    {
        echo "# The runtime of scripts: guests/quickjs/build.sh update writes it, with Zig $(zig version), QuickJS-NG of rquickjs-sys 0.14.0,"
        echo "# Ada of ada-url 3.4.6, and the npm packages of guests/quickjs/js/package-lock.json."
        (cd $prebuilt && sha256sum quickjs.wasm)
    } >$prebuilt/SHA256SUMS
fi
