#!/usr/bin/env bash
# Runs abi.c plain, under ASAN and under Valgrind, and faults.c: run.sh <prefix of the packed library>
set -euo pipefail
prefix=$1
here=$(cd "$(dirname "$0")" && pwd)
guests=$here/../../../guests/c
modules=("$guests/hello/hello.wasm" "$guests/cgi/cgi.wasm")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
cc=${CC:-cc}
# shellcheck disable=SC2046 # pkg-config prints words
build() { "$cc" -std=c11 -Wall -Wextra -Werror -D_DEFAULT_SOURCE -g "$@" "$here/abi.c" -o "$work/abi" $(pkg-config --cflags --libs gojinn); }

echo "== plain"
build
"$work/abi" "${modules[@]}"
if nm -g --defined-only "$prefix/lib/libgojinn.a" | awk 'NF == 3 { print $3 }' | grep -v '^gojinn_'; then
    echo "the library exports symbols other than gojinn_*" >&2
    exit 1
fi

echo "== the system fails"
wraps=$(printf -- '-Wl,--wrap=%s ' mmap mmap64 mprotect madvise memfd_create pthread_create clock_gettime)
# shellcheck disable=SC2046,SC2086 # pkg-config prints words, and these are words
"$cc" -std=c11 -Wall -Wextra -Werror -D_GNU_SOURCE -g "$here/faults.c" -o "$work/faults" $wraps $(pkg-config --cflags --libs gojinn)
"$work/faults" "$guests/hello/hello.wasm" 2> "$work/panics" || { tail -20 "$work/panics" >&2; exit 1; }

echo "== C++ reads the header"
printf '#include "gojinn.h"\nint main() { return gojinn_abi_version() == GOJINN_ABI_VERSION ? 0 : 1; }\n' > "$work/header.cc"
if command -v c++ >/dev/null 2>&1; then
    # shellcheck disable=SC2046
    c++ -Wall -Werror $(pkg-config --cflags gojinn) -c "$work/header.cc" -o "$work/header.o"
else
    echo "skipped: no c++"
fi

echo "== ASAN"
build -fsanitize=address -fno-omit-frame-pointer
nm "$work/abi" > "$work/symbols"
grep -q __asan_init "$work/symbols" || { echo "ASAN is not in the program" >&2; exit 1; }
# The engines' own handlers answer SIGSEGV: that is how guests trap.
ASAN_OPTIONS=handle_segv=0:handle_sigill=0:handle_sigfpe=0:detect_leaks=1 "$work/abi" "${modules[@]}"

echo "== Valgrind"
if command -v valgrind >/dev/null 2>&1; then
    build
    # Invalid reads, writes and frees, and leaks. Not uninitialised values: Valgrind does not know what PAGEMAP_SCAN writes, and
    # optimised Rust compares padding it then ignores. Fair scheduling: the thread that cancels must get its turn.
    valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite --undef-value-errors=no \
        --fair-sched=yes \
        "$work/abi" "${modules[@]}"
else
    echo "skipped: no valgrind (Debian: apt-get install valgrind)"
fi
