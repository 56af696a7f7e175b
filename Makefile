# The commands of a checkout. Tests and examples run against the wheel installed in .venv, never the source tree.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Added to the command line of pytest, of the benchmarks and of the conformance run.
ARGS ?=
# The workspace that `make run` serves.
SITE ?= examples/site
# One build folder for every checkout: wasmtime takes minutes to compile, and a new clone need not pay again.
export CARGO_TARGET_DIR := $(or $(LOOP_TARGET_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/loop-kit/target)

# What the wheel is built from.
SOURCES := $(shell find Cargo.toml Cargo.lock LICENSE README.md pyproject.toml crates python \
	-type f -not -path '*/tests/*' -not -path 'crates/fuzz*' -not -path '*/.*' -not -path '*/__pycache__/*' | sort)

.PHONY: help setup run test lint format bench conformance interop wash fuzz soak wheel wit components page docs lock clean own-target FORCE

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/.installed node_modules/.installed sdk/node/dist/.built ## Make .venv with the built package, and install all that tests need

run: setup ## Develop examples/site: build it, serve it with its page, swap in what changes (SITE= takes another)
	$(BIN)/loop dev -m $(SITE)

test: setup own-target interop ## Run the tests of Rust, JavaScript and Python (ARGS= goes to pytest)
	tools/system_packages chromium curl docker-registry skopeo qemu-aarch64-static:qemu-user-static \
	  'aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
	tools/pinned conformance registry wkg > /dev/null
	for target in wasm32-wasip2 aarch64-unknown-linux-gnu; do \
	  test -d "$$(rustc --print target-libdir --target $$target)" || rustup target add $$target; \
	done
	NATS_SERVER=$(CURDIR)/$(BIN)/nats-server \
	  cargo test --release --locked -p loop-engine -p loop-fuzz -p loop-native -p loop-remote -p loop-wire \
	    -p loop-provider -p loop-provider-build -p loop-provider-conform
	node --test --test-reporter=spec examples/site/test/*.test.js tests/browser/*.test.mjs sdk/node/test/*.test.js
	WRPC_KV=$(CARGO_TARGET_DIR)/debug/examples/wrpc-kv $(BIN)/python -m pytest -n 2 $(ARGS)

# Clippy has the dev profile to itself: in the release profile it and maturin would rebuild pyo3 in turns.
lint: setup own-target ## Check format, types, stubs, vendored WIT and lints of both languages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest loop_kit._core
	tools/vendor_wit.py --check
	tools/build_components.py --check
	node_modules/.bin/tsc -p web/devserver
	node_modules/.bin/tsc -p web/docs
	$(BIN)/loop task page:build docs:build
	@for part in page live; do diff -qr web/devserver/build/$$part python/loop_kit/dev/$$part/files || \
	  { echo 'the page is not of its sources: `make page` makes it' >&2; exit 1; }; done
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --all --check --manifest-path components/Cargo.toml
	cargo metadata --quiet --locked --format-version=1 --manifest-path fuzz/Cargo.toml > /dev/null
	cargo clippy --all-targets --locked -- -D warnings
	tools/check_targets

format: setup ## Format the code of both languages and mend what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	cargo fmt --all --manifest-path components/Cargo.toml

# -P keeps bench/http.py from standing in for the standard library's http.
bench: setup .venv/.peers ## Measure hosting, HTTP, the wire, files, the network, building and swapping, against the peers
	tools/system_packages wrk fd-find b3sum chromium
	$(BIN)/python -P bench/hosting.py $(ARGS)
	$(BIN)/python -P bench/http.py $(ARGS)
	$(BIN)/python -P bench/wire.py $(ARGS)
	$(BIN)/python -P bench/files.py $(ARGS)
	$(BIN)/python -P bench/netx.py $(ARGS)
	$(BIN)/python -P bench/keyvalue.py $(ARGS)
	$(BIN)/python -P bench/dev.py $(ARGS)
	$(BIN)/python -P bench/swap.py $(ARGS)
	$(BIN)/python -P bench/edit.py $(ARGS)
	$(BIN)/python -P bench/tasks.py $(ARGS)
	$(BIN)/python -P bench/pkg.py

conformance: setup .venv/.peers ## Run the public suites in SUITES=folder and print each case that failed
	@[ -n "$(SUITES)" ] || { echo 'usage: make conformance SUITES=folder' >&2; exit 2; }
	$(BIN)/python tests/conformance/run.py "$(SUITES)" $(ARGS)

interop: ## Call, and be called by, the official wRPC crates
	cargo test --locked --manifest-path tests/interop/Cargo.toml

# Beside the tests, since building wash takes as long as all of them.
wash: setup ## Build and push by wash itself, and have it read what loop-kit pushed (builds wash, once)
	tools/system_packages docker-registry
	tools/pinned registry wash > /dev/null
	test -d "$$(rustc --print target-libdir --target wasm32-wasip2)" || rustup target add wasm32-wasip2
	$(BIN)/python -m pytest -m wash tests/wash $(ARGS)

fuzz: ## Fuzz the engine against wasmtime's own values (TIME=seconds for each target, ARGS= names targets)
	tools/fuzz.py --seconds=$(or $(TIME),300) $(ARGS)

soak: setup own-target ## Fuzz for long and repeat tests thousands of times (TIME=seconds for each oracle, ARGS= goes to pytest)
	$(BIN)/python -m tests.soak --seconds=$(or $(TIME),1800) -- $(ARGS)

wheel: dist/.built ## Build the wheel into dist/

wit: ## Vendor the WIT packages of WASI and others again
	tools/vendor_wit.py

components: | $(BIN)/loop ## Build the components that ship with loop-kit, for which it takes the target wasm32-unknown-unknown
	$(BIN)/loop task components guests

page: | $(BIN)/loop ## Bundle the page of the dev server, which is committed
	$(BIN)/loop task page

docs: setup ## Make the site of the docs, and serve it at 127.0.0.1:8080
	$(BIN)/loop task docs:build
	$(BIN)/loop serve web/docs/build/site

lock: setup ## Pin Python and JavaScript requirements anew, and the tools that loop-kit brings a lock of
	$(PIP) install uv==0.13.9
	for set in dev peers; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --generate-hashes \
	    --no-emit-index-url --custom-compile-command 'make lock' "requirements/$$set.in" -o "requirements/$$set.txt"; \
	done
	npm update --package-lock-only
	cd sdk/node && npm update --package-lock-only
	$(BIN)/python tools/lock_tools.py

clean: ## Remove what these commands made here (the shared build folder of Rust stays)
	rm -rf .venv node_modules dist sdk/node/node_modules sdk/node/dist examples/*/build web/*/build .loop .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A lock that changed makes a new environment, so that it holds what is pinned and nothing else.
.venv/.requirements: requirements/dev.txt
	tools/toolchains $(PYTHON)
	$(PYTHON) -m venv --clear .venv
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	touch $@

.venv/.peers: requirements/peers.txt .venv/.requirements
	$(PIP) install --require-hashes --requirement requirements/peers.txt
	touch $@

# Tasks run by whatever loop-kit is installed: what they make goes into the next one.
$(BIN)/loop:
	$(MAKE) setup

.venv/.installed: dist/.built
	$(PIP) install --no-deps --force-reinstall dist/*.whl
	$(PIP) check
	touch $@

dist/.built: $(SOURCES) dist/.sources .venv/.requirements | own-target
	rm -f dist/*.whl
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out dist
	touch $@

# Changes when a file appears or goes away, which the times of those that are left do not tell.
dist/.sources: FORCE
	@mkdir -p dist
	@printf '%s\n' $(SOURCES) | cmp -s - $@ || printf '%s\n' $(SOURCES) > $@

# Cargo tells sources by their time alone: what another checkout built last could pass for a build of this one.
own-target:
	@mkdir -p $(CARGO_TARGET_DIR); owner=$(CARGO_TARGET_DIR)/checkout; \
	if [ "$$(cat "$$owner" 2>/dev/null)" != '$(CURDIR)' ]; then \
	  for profile in dev release; do \
	    cargo clean --quiet --profile $$profile -p loop-engine -p loop-fuzz -p loop-fuzz-wire \
	      -p loop-native -p loop-provider -p loop-provider-build -p loop-provider-conform -p loop-py -p loop-remote \
	      -p loop-wire; \
	  done; \
	  echo '$(CURDIR)' > "$$owner"; \
	fi

node_modules/.installed: package.json package-lock.json .npmrc
	npm ci
	touch $@

sdk/node/node_modules/.installed: sdk/node/package.json sdk/node/package-lock.json sdk/node/.npmrc
	cd sdk/node && npm ci
	touch $@

sdk/node/dist/.built: sdk/node/node_modules/.installed sdk/node/tsconfig.json $(wildcard sdk/node/src/*.ts)
	rm -rf sdk/node/dist
	cd sdk/node && npm run --silent build
	touch $@
