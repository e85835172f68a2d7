#!/usr/bin/env bash
# Packs the static library for linking: package.sh <libgojinn.a from cargo> <prefix>
#
# Writes <prefix>/lib/libgojinn.a, <prefix>/include/gojinn.h and <prefix>/lib/pkgconfig/gojinn.pc. The archive holds one object
# in which every symbol but gojinn_* is local: two Rust archives in one program would clash otherwise.
set -euo pipefail
archive=$1
prefix=$2
here=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$prefix/lib/pkgconfig" "$prefix/include"
prefix=$(cd "$prefix" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ld -r --whole-archive "$archive" -o "$work/gojinn.o"
# The standard library's objects carry LLVM bitcode, which is none any more once it is joined.
objcopy --remove-section=.llvmbc --remove-section=.llvmcmd --strip-debug --wildcard --keep-global-symbol='gojinn_*' "$work/gojinn.o"
rm -f "$work/libgojinn.a"
ar rcsD "$work/libgojinn.a" "$work/gojinn.o"
cmp -s "$work/libgojinn.a" "$prefix/lib/libgojinn.a" || cp "$work/libgojinn.a" "$prefix/lib/libgojinn.a"
cp "$here/include/gojinn.h" "$prefix/include/gojinn.h"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -1)
# Libs names the archive itself: an installed shared library would win over -lgojinn. And it names the native libraries,
# because Go calls pkg-config without --static.
cat > "$prefix/lib/pkgconfig/gojinn.pc" <<PC
Name: gojinn
Description: Serverless WebAssembly functions: the engine behind the Caddy plugin
Version: $version
Cflags: -I$prefix/include
Libs: $prefix/lib/libgojinn.a -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
PC
