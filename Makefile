# Builds, runs and tests everything. make help lists the targets.

CARGO ?= cargo
GO ?= go
CC ?= cc
PREFIX ?= /usr/local
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# The engines that are built in. make caddy BACKENDS=wasmi compiles one of them only, which takes a few minutes.
BACKENDS ?= wasmtime wasmer wasmi
comma := ,
space := $(subst ,, )
every_backend := wasmer wasmi wasmtime
backends := $(sort $(subst $(comma),$(space),$(BACKENDS)))
ifneq ($(filter-out $(every_backend),$(backends)),)
$(error BACKENDS: unknown $(filter-out $(every_backend),$(backends)); there are: $(every_backend))
endif
ifeq ($(backends),$(every_backend))
# The whole workspace: with --package, cargo picks other features for shared dependencies and compiles the engines again.
cargo_build = $(CARGO) build --release --workspace --locked
else
ifeq ($(backends),)
$(error BACKENDS is empty; name at least one of: $(every_backend))
endif
ifneq ($(filter test test-%,$(MAKECMDGOALS)),)
$(error the tests need every backend: leave BACKENDS out)
endif
cargo_build = $(CARGO) build --release --locked --package gojinn-ffi --no-default-features \
	--features $(subst $(space),$(comma),$(backends))
endif

# When make was started: make run prints how long it took until the answer.
started := $(shell date +%s)

# The packed library that Go links: see ffi/package.sh.
DIST := $(CURDIR)/bin/lib
LIBRARY := $(DIST)/lib/libgojinn.a
# Go's build cache sees neither the archive nor what pkg-config says, but it sees the flags: a hash of both is one.
cgo = CGO_ENABLED=1 PKG_CONFIG_PATH="$(DIST)/lib/pkgconfig" CGO_CFLAGS="-g -O2 -DGOJINN_LIB=$$(cat $(LIBRARY) $(DIST)/lib/pkgconfig/gojinn.pc | sha256sum | cut -c1-16)"

.PHONY: all run run-once test check-go check-core check-docs fmt lib caddy install header guests bench bench-quick bench-references bench-http bench-calls bench-waiting bench-overload \
	fuzz-smoke hostile robustness tools test-rust test-backends test-abi test-guests test-go test-shipping clean help

all: caddy ## same as caddy

run: caddy ## build everything, serve the README's function with the README's Caddyfile, show a request and its answer
	@STARTED=$(started) scripts/readme serve $(backends)

run-once: caddy ## the same, and stop after the request
	@STARTED=$(started) scripts/readme once $(backends)

test: tools test-rust test-abi test-guests test-go ## all tests

check-go: ## the plugin over a fake engine, the fast loop: needs Go alone, no Rust, no cgo
	@scripts/tools go
	@cd caddy && files=$$(gofmt -l .) && test -z "$$files" || { echo "run gofmt -w in caddy/ on:" $$files; exit 1; }
	cd caddy && CGO_ENABLED=0 $(GO) vet ./...
	@# Where a C compiler is, the files that need cgo are vetted as well: over the header, which is in the tree.
	if command -v $(CC) >/dev/null; then cd caddy && CGO_ENABLED=1 PKG_CONFIG=true $(GO) vet ./...; fi
	cd caddy && CGO_ENABLED=0 $(GO) test -timeout 10m ./...
	@$(MAKE) --no-print-directory check-docs

check-core: ## engine-core alone: format, lints and its tests; compiles no engine
	$(MAKE) -C guests go
	$(CARGO) fmt --check
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core $(CARGO) clippy --release --package engine-core --all-targets --locked -- -D warnings
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core $(CARGO) test --release --package engine-core --locked

# Uncached, since Go's cache of test results does not notice changes outside of caddy/.
check-docs: ## the pages: links, words, figures, names of settings and modules, examples; needs Go alone
	@scripts/tools go
	cd caddy && CGO_ENABLED=0 $(GO) test -count=1 -run 'Docs|Figures|Examples' .

fmt: ## format all Rust and Go sources
	$(CARGO) fmt
	gofmt -w caddy guests benches

lib: tools ## the static library, its header and gojinn.pc, in bin/lib
	$(cargo_build)
	ffi/package.sh $(CARGO_TARGET_DIR)/release/libgojinn.a $(DIST)

caddy: lib ## Caddy with the plugin: bin/caddy
	cd caddy && $(cgo) $(GO) build -trimpath -o ../bin/caddy ./gojinn

install: lib ## the library, header and gojinn.pc below PREFIX (for xcaddy, see README)
	ffi/package.sh $(CARGO_TARGET_DIR)/release/libgojinn.a "$(DESTDIR)$(PREFIX)"

header: ## write ffi/include/gojinn.h from the sources, and caddy's copy of it
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

bench-waiting: caddy ## whole Caddy: thousands of functions that wait or stream, bodies of 1 GiB, reloads under streams; prints a table
	$(MAKE) -C guests go
	cd benches/http/waiting && $(GO) run . $(ARGS)

bench-overload: caddy ## whole Caddy: functions that are asked for three times as much as they can do; prints a table
	$(MAKE) -C guests go
	cd benches/http/waiting && $(GO) run . -only overload $(ARGS)

bench-http: caddy ## whole Caddy: functions against respond and reverse_proxy, into docs/benchmarks.md
	$(MAKE) -C guests go
	benches/http/run.sh --profile --write

bench-calls: lib ## what operations cost: from inside of a guest, beside Go's client alone, and without an engine
	cd caddy && $(cgo) $(GO) test -run '^$$' -bench 'CallsFromInside|SendHTTP|Store' -benchtime 3s .

hostile: tools ## the modules of the hostile guests, in guests/build/hostile
	$(CARGO) build --release --workspace --locked --example robustness
	$(CARGO_TARGET_DIR)/release/examples/robustness modules guests/build/hostile

ROUNDS ?= 3
robustness: tools ## hostile guests on every backend, ROUNDS times, into docs/robustness.md
	$(CARGO) build --release --workspace --locked --example robustness
	$(CARGO_TARGET_DIR)/release/examples/robustness report $(ROUNDS)

fuzz-smoke: ## each fuzz target for SECONDS seconds, 30
	fuzz/smoke.sh

test-rust: tools ## format, lints, docs, unit tests, the conformance suite and snapshots of real programs on every backend
	$(MAKE) -C guests go corpus
	$(CARGO) fmt --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --document-private-items --locked
	$(CARGO) test --release --workspace --locked
	$(CARGO_TARGET_DIR)/release/examples/embed guests/c/hello/hello.wasm | grep -x 'status: 200'
	cd engine-core/model && $(CARGO) run --release --locked

test-backends: tools ## lints of the library with each backend alone
	for backend in $(every_backend); do \
		$(CARGO) clippy --release --package gojinn-ffi --no-default-features --features $$backend --locked -- -D warnings || exit 1; \
	done

test-abi: lib ## a C program over the header alone, under ASAN and Valgrind
	CC="$(CC)" ffi/tests/c/run.sh $(DIST)

test-guests: tools ## rebuild the guests whose toolchain is here and compare them with the prebuilt ones
	$(MAKE) -C guests check

# All tests run with the race detector. Those that it changes or leaves out run without it, too: a test compares this pattern with
# the sources.
without_race := HTTP3|Reloads
test-go: caddy hostile ## the plugin: vet, unit and end-to-end tests, with the race detector, without cgo
	$(MAKE) -C guests go
	cd caddy && test -z "$$(gofmt -l .)" || { cd caddy; gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	cd caddy && $(cgo) $(GO) vet ./...
	cd caddy && $(cgo) ../scripts/go-test -timeout 15m -count=1 -run '$(without_race)' ./...
	cd caddy && $(cgo) GOEXPERIMENT=cgocheck2 ../scripts/go-test -timeout 30m -count=1 -race ./...
	cd caddy && CGO_ENABLED=0 ../scripts/go-test -timeout 10m -count=1 ./...
	@# Its go.mod follows that of the plugin.
	cd caddy/kv/nats/servertest && CGO_ENABLED=0 ../../../../scripts/go-test -mod=mod -timeout 10m -count=1 ./...

test-shipping: caddy ## xcaddy, a library that is linked again, the README's commands
	scripts/shipping

tools:
	@scripts/tools

clean: ## remove bin
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1: \2/p' Makefile
