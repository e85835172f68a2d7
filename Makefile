# Builds, runs and tests everything. make help lists the targets.

CARGO ?= cargo
GO ?= go
CC ?= cc
PREFIX ?= /usr/local
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# The packed library that Go links: see ffi/package.sh.
DIST := $(CURDIR)/bin/lib
LIBRARY := $(DIST)/lib/libgojinn.a
# Go's build cache sees neither the archive nor what pkg-config says, but it sees the flags: the library's hash is one.
cgo = CGO_ENABLED=1 PKG_CONFIG_PATH="$(DIST)/lib/pkgconfig" CGO_CFLAGS="-g -O2 -DGOJINN_LIB=$$(sha256sum $(LIBRARY) | cut -c1-16)"

.PHONY: all run run-once test lib caddy install header guests bench bench-quick bench-references bench-http fuzz-smoke \
	tools check-go test-rust test-abi test-guests test-go test-shipping clean help

all: caddy ## same as caddy

run: caddy ## build everything, serve the README's function through the README's Caddyfile, show a request answered
	scripts/readme serve

run-once: caddy ## the same, and stop after the request
	scripts/readme once

test: tools test-rust test-abi test-guests test-go ## all tests

lib: tools ## the static library, its header and gojinn.pc, in bin/lib
	$(CARGO) build --release --workspace --locked
	ffi/package.sh $(CARGO_TARGET_DIR)/release/libgojinn.a $(DIST)

caddy: lib ## Caddy with the plugin: bin/caddy
	cd caddy && $(cgo) $(GO) build -trimpath -o ../bin/caddy ./gojinn

install: lib ## the library, header and gojinn.pc below PREFIX (for xcaddy, see README)
	ffi/package.sh $(CARGO_TARGET_DIR)/release/libgojinn.a "$(DESTDIR)$(PREFIX)"

header: ## write ffi/include/gojinn.h anew from the sources, and caddy's copy of it
	GOJINN_WRITE_HEADER=1 $(CARGO) test --release --workspace --locked --test header >/dev/null || true
	cp ffi/include/gojinn.h caddy/internal/engine/gojinn.h
	$(CARGO) test --release --workspace --locked --test header

guests: ## rebuild every guest whose toolchain is here; says which is missing
	$(MAKE) -C guests all

bench: bench-references ## every backend x every guest, into docs/benchmarks.md and target/bench/results.json
	$(CARGO) bench --workspace --bench engine --locked -- --all

bench-quick: bench-references ## the rows behind the goals, in under five minutes
	$(CARGO) bench --workspace --bench engine --locked -- --quick

bench-references: tools
	$(MAKE) -C guests go
	cd benches/wazero && $(GO) build -o ../../target/bench/wazero .

bench-http: caddy ## whole Caddy: functions against respond and reverse_proxy, into docs/benchmarks.md
	$(MAKE) -C guests go
	benches/http/run.sh --profile --write

fuzz-smoke: ## each fuzz target for a few seconds
	fuzz/smoke.sh

check-go: ## the plugin over a fake engine, the fast loop: needs Go alone, no Rust, no cgo
	@scripts/tools go
	@cd caddy && files=$$(gofmt -l .) && test -z "$$files" || { echo "run gofmt -w in caddy/ on:" $$files; exit 1; }
	cd caddy && CGO_ENABLED=0 $(GO) vet ./...
	@# Where a C compiler is, the files that need cgo are vetted as well: over the header, which is in the tree.
	if command -v $(CC) >/dev/null; then cd caddy && CGO_ENABLED=1 PKG_CONFIG=true $(GO) vet ./...; fi
	cd caddy && CGO_ENABLED=0 $(GO) test -timeout 10m ./...

test-rust: tools ## formatting, lints, unit tests, the conformance suite and snapshots of real programs on every backend
	$(MAKE) -C guests go corpus
	$(CARGO) fmt --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --release --workspace --locked
	cd engine-core/model && $(CARGO) run --release --locked

test-abi: lib ## a C program over the header alone, under ASAN and Valgrind
	CC="$(CC)" ffi/tests/c/run.sh $(DIST)

test-guests: tools ## rebuild the guests whose toolchain is here and compare them with the prebuilt ones
	$(MAKE) -C guests check

test-go: caddy ## the plugin: vet, unit and end-to-end tests, with the race detector, without cgo
	$(MAKE) -C guests go
	cd caddy && test -z "$$(gofmt -l .)" || { cd caddy; gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	cd caddy && $(cgo) $(GO) vet ./...
	cd caddy && $(cgo) $(GO) test -timeout 10m -count=1 ./...
	cd caddy && $(cgo) GOEXPERIMENT=cgocheck2 $(GO) test -timeout 10m -count=1 -race ./...
	cd caddy && CGO_ENABLED=0 $(GO) test -timeout 10m -count=1 ./...

test-shipping: caddy ## xcaddy, a relinked library, the README's commands
	scripts/shipping

tools:
	@scripts/tools

clean: ## remove bin
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1: \2/p' Makefile
