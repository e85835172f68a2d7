#!/bin/sh
# Builds hello and probe with every Go release since wasip1, each in three ways, into build/versions/<release>[-<way>]/: for the
# snapshot tests, which run over such a directory when GOJINN_GUESTS names it. Not part of make all: each release is a download.
set -eu
cd "$(dirname "$0")"

# The last of each line that the Go module proxy has; another list: versions.sh go1.24.0 go1.26.8 ...
[ $# -gt 0 ] || set -- go1.21.13 go1.22.12 go1.23.12 go1.24.11 go1.25.8 go1.26.8

sources=$PWD/build/versions/sources
rm -rf build/versions
mkdir -p "$sources"
cp -r go/hello go/probe go/probe-reactor go/internal "$sources"
export GOOS=wasip1 GOARCH=wasm GOFLAGS=-buildvcs=false

for release; do
    # Language and defaults are those of the release, not of our go.mod.
    line=${release#go}
    echo "module github.com/pauloappbr/gojinn/guests/go

go $line" >"$sources/go.mod"
    case $line in 1.2[0-3].*) guests='hello probe' ;; *) guests='hello probe probe-reactor' ;; esac
    for way in plain trimpath stripped; do
        case $way in
        plain) out=build/versions/$release flags= ;;
        trimpath) out=build/versions/$release-$way flags=-trimpath ;;
        stripped) out=build/versions/$release-$way flags='-ldflags=-s -w' ;;
        esac
        mkdir -p "$out"
        for guest in $guests; do
            mode=
            case $guest in *reactor) mode=-buildmode=c-shared ;; esac
            (cd "$sources" && GOTOOLCHAIN=$release go build $mode ${flags:+"$flags"} -o "../../../$out/go-$guest.wasm" "./$guest")
        done
    done
    echo "$release: $guests"
done
rm -rf "$sources"
