#!/bin/sh
# Builds the guests: build.sh all|corpus|go|update|toolchains|<language>. Call it through the Makefile beside it; the recipes are written here only,
# but for that of the runtime of scripts, which is in quickjs/build.sh.
set -eu
cd "$(dirname "$0")"

# The versions that the prebuilt guests were made with; other versions are worth a try.
LLVM=${LLVM:-22}
ZIG_VERSION=0.17.1
ASSEMBLYSCRIPT_VERSION=0.28.20

prebuilt='c cpp rust zig assemblyscript'
# What a language has of these, as LANGUAGE/GUEST.
guests_of() {
    case $1 in
    c | rust) echo "hello calls next cgi" ;;
    *) echo "hello calls next" ;;
    esac
}
manifest=SHA256SUMS

# Whether a program is on the PATH; functions of this script by the same name do not count.
have() { (unset -f "$1"; command -v "$1") >/dev/null 2>&1; }

# --- toolchains: how each is called, whether it is installed, and how to get it ---

zig() {
    if have zig; then command zig "$@"
    elif python3 -c 'import ziglang' 2>/dev/null; then python3 -m ziglang "$@"
    else build/tools/zig/bin/python3 -m ziglang "$@"
    fi
}

asc() {
    if have asc; then command asc "$@"; else build/tools/assemblyscript/node_modules/.bin/asc "$@"; fi
}

# rustup's wasm target if it is installed, else Debian's rustc, which builds std from its source.
rust_route() {
    if have cargo && [ -e "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/wasm32-wasip1/lib" ]; then echo target
    elif have cargo && [ -x /usr/bin/rustc ] && [ -e /usr/lib/rustlib/src/rust/library/std ] &&
        [ -e /usr/lib/wasm32-wasi/crt1-command.o ] && have "wasm-ld-$LLVM"; then echo debian
    fi
}

# Prints the version of a language's toolchain, or fails if there is none.
version() {
    case $1 in
    go) have go && go version ;;
    c) has_clang builtins && "clang-$LLVM" --version | head -n 1 ;;
    cpp) has_clang cpp && "clang++-$LLVM" --version | head -n 1 ;;
    rust) case $(rust_route) in
        target) rustc --version ;;
        debian) /usr/bin/rustc --version ;;
        *) return 1 ;;
        esac ;;
    zig) v=$(zig version 2>/dev/null) && echo "zig $v" ;;
    assemblyscript) v=$(asc --version 2>/dev/null) && echo "asc $v" ;;
    quickjs) v=$(version zig) && have npm && have node && have cargo && echo "$v" ;;
    wat) have wat2wasm && echo "wat2wasm $(wat2wasm --version)" ;;
    esac
}

has_clang() {
    have "clang-$LLVM" && have "wasm-ld-$LLVM" && [ -e /usr/include/wasm32-wasi ] || return 1
    case $1 in
    cpp) [ -e /usr/lib/wasm32-wasi/libc++.a ] ;;
    *) [ -e "/usr/lib/llvm-$LLVM/lib/clang/$LLVM/lib/wasi/libclang_rt.builtins-wasm32.a" ] ;;
    esac
}

# Prints the command that installs a language's toolchain (Debian, as root, in this directory).
install_command() {
    case $1 in
    go) echo "see https://go.dev/dl (1.24 or newer)" ;;
    c) echo "apt-get install -y clang-$LLVM lld-$LLVM wasi-libc libclang-rt-$LLVM-dev-wasm32" ;;
    cpp) echo "$(install_command c) libc++-$LLVM-dev-wasm32 libc++abi-$LLVM-dev-wasm32" ;;
    rust) if have rustup
        then echo "rustup target add wasm32-wasip1 || apt-get install -y rustc-web rust-web-src wasi-libc lld-$LLVM"
        else echo "apt-get install -y cargo-web rustc-web rust-web-src wasi-libc lld-$LLVM"
        fi ;;
    zig) echo "python3 -m venv build/tools/zig && build/tools/zig/bin/pip install -q ziglang==$ZIG_VERSION" ;;
    assemblyscript) echo "npm install --silent --no-audit --no-fund --prefix build/tools/assemblyscript assemblyscript@$ASSEMBLYSCRIPT_VERSION" ;;
    wat) echo "apt-get install -y wabt" ;;
    quickjs) echo "npm, cargo, and: $(install_command zig)" ;;
    esac
}

# --- recipes: the shell text that makes build/<language>-<guest>.wasm; the manifest quotes them ---

recipe() {
    clang_flags="--target=wasm32-wasi -Wno-deprecated -Wall -Wextra -Oz -s"
    case $1 in
    c) echo "clang-$LLVM $clang_flags -std=c11 -o build/c-$2.wasm c/$2/$2.c" ;;
    cpp) echo "clang++-$LLVM $clang_flags -std=c++20 -fno-exceptions -fno-rtti -o build/cpp-$2.wasm cpp/$2/$2.cpp" ;;
    zig)
        zig_flags="-target wasm32-wasi -O ReleaseSmall -fstrip"
        zig_out="--stack 65536 --cache-dir build/zig --global-cache-dir build/zig -femit-bin=build/zig-$2.wasm"
        case $2 in
        hello) echo "zig build-exe zig/hello/hello.zig $zig_flags $zig_out" ;;
        *) echo "zig build-exe $zig_flags --dep gojinn -Mroot=zig/$2/$2.zig -Mgojinn=zig/gojinn.zig $zig_out" ;;
        esac ;;
    assemblyscript) echo "asc assemblyscript/$2/$2.ts -O3z --converge --noAssert --runtime incremental --use abort= -o build/assemblyscript-$2.wasm" ;;
    rust)
        cargo="cargo build -q --release --locked --manifest-path rust/$2/Cargo.toml --target-dir build/rust --target wasm32-wasip1"
        case $(rust_route) in
        target) echo "RUSTFLAGS=\"--remap-path-prefix=\${CARGO_HOME:-\$HOME/.cargo}=cargo --remap-path-prefix=\$PWD=guests\" $cargo" ;;
        # Panics end without a message and without source locations: that is 20 KB, and no path of the building machine.
        debian) echo "RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-$LLVM" \
            "RUSTFLAGS='-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Clink-self-contained=no" \
            "-Clink-arg=/usr/lib/wasm32-wasi/crt1-command.o -Clink-arg=-L/usr/lib/wasm32-wasi -Lnative=/usr/lib/wasm32-wasi'" \
            "$cargo -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size" ;;
        esac
        echo "&& cp build/rust/wasm32-wasip1/release/$2.wasm build/rust-$2.wasm" ;;
    esac | tr '\n' ' ' | sed 's/ $//'
}

# --- building ---

# Builds one language's guests, or says what is missing. Fails only if a build fails.
build() {
    if ! version "$1" >/dev/null; then
        printf '%-15s not built: no toolchain here. To install it: %s\n' "$1" "$(install_command "$1")"
        return 0
    fi
    mkdir -p build
    case $1 in
    go) build_go ;;
    quickjs) quickjs/build.sh ;;
    wat) for source in wat/*.wat; do
            wat2wasm --debug-names "$source" -o "build/wat-$(basename "$source" .wat).wasm"
        done ;;
    *) for guest in $(guests_of "$1"); do eval "$(recipe "$1" "$guest")"; done ;;
    esac
    printf '%-15s built with %s\n' "$1" "$(version "$1")"
}

build_go() (
    export GOOS=wasip1 GOARCH=wasm GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false"
    out=$PWD/build
    cd go
    for guest in hello echo inspect probe fresh cgi; do go build -o "$out/go-$guest.wasm" "./$guest"; done
    for guest in reactor probe-reactor; do go build -buildmode=c-shared -o "$out/go-$guest.wasm" "./$guest"; done
    # Separate modules, so that only these need a download.
    for guest in markdown github; do (cd "$guest" && go build -o "$out/go-$guest.wasm" .); done
    cd ../gojinn
    go build -o "$out/go-serve.wasm" ./examples/hello
    go build -o "$out/go-mux.wasm" ./examples/mux
    for guest in cookie split headers redirects calls next; do go build -o "$out/go-$guest.wasm" "./examples/$guest"; done
)

# Twelve programs over widely used libraries, in a separate module: the first build downloads them.
build_corpus() (
    export GOOS=wasip1 GOARCH=wasm GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false"
    out=$PWD/build
    mkdir -p "$out"
    cd go/corpus
    for program in */main.go; do
        program=${program%/main.go}
        go build -o "$out/corpus-$program.wasm" "./$program"
    done
)

build_all() {
    for language in go $prebuilt wat quickjs; do build "$language"; done
}

# --- the prebuilt guests ---

# Replaces the prebuilt guests by fresh builds and writes the manifest. A language without a toolchain keeps its file and its lines.
update() {
    for language in $prebuilt; do build "$language"; done
    {
        echo "# The prebuilt guests: tool, recipe and SHA-256 of each. Written by make update; sha256sum -c SHA256SUMS checks it."
        for language in $prebuilt; do
            for guest in $(guests_of "$language"); do
                file=$language/$guest/$guest.wasm
                if version "$language" >/dev/null; then
                    cp "build/$language-$guest.wasm" "$file"
                    chmod 644 "$file"
                    echo "# $file: $(version "$language"): $(recipe "$language" "$guest")"
                    sha256sum "$file"
                else
                    grep -F " $file" "$manifest" || echo "build.sh: $file has no recipe yet" >&2
                fi
            done
        done
    } >build/$manifest
    mv build/$manifest $manifest
}

toolchains() {
    for language in $prebuilt wat; do
        version "$language" >/dev/null && continue
        echo "installing: $(install_command "$language")"
        eval "$(install_command "$language")"
    done
}

case ${1:-all} in
all) build_all ;;
corpus) build_corpus ;;
update | toolchains) "$1" ;;
go | c | cpp | rust | zig | assemblyscript | wat | quickjs) build "$1" ;;
*)
    echo "build.sh: no target $1; there are: all corpus go c cpp rust zig assemblyscript wat quickjs update toolchains" >&2
    exit 2
    ;;
esac
