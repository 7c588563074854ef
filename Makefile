# make help lists the targets. What they need they install or build, into $(MCP_AUTH_CACHE).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export MCP_AUTH_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mcp-auth-operator
export CARGO_TARGET_DIR ?= $(MCP_AUTH_CACHE)/target
export PATH := $(MCP_AUTH_CACHE)/bin:$(PATH)
export MCP_CLIENTS ?= $(MCP_AUTH_CACHE)/clients/node_modules/.bin
export MCP_PYTHON ?= $(MCP_AUTH_CACHE)/venv/bin/python
export SCHEMATHESIS_PYTHON ?= $(MCP_AUTH_CACHE)/schemathesis/bin/python
# Evaluated when a recipe runs, because the line before may install the package.
ifndef POSTGRES_BIN
export POSTGRES_BIN = $(shell ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
endif

# Always the whole workspace: with -p, cargo would select other features and rebuild the dependencies.
BUILD := cargo build --workspace --locked --bins
CARGO_TEST := cargo test --workspace --locked
# The profiles are in .config/nextest.toml; TEST=NAME runs the tests whose names contain it.
NEXTEST = cargo nextest run --workspace --locked $(if $(TEST),'$(TEST)') --profile

##@ Try it
.PHONY: demo
demo: rust ## Run MANIFEST (default examples/notes.yaml) as local processes, without a cluster; ONCE=1 exits after the scripted flow
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/kubectl-mcpauth local -f '$(or $(MANIFEST),examples/notes.yaml)' $(if $(ONCE),--once)

##@ Check
.PHONY: check
check: fmt-check circles wording clippy generate-check unit ## The quick checks for everyday work: Rust only, no services, no cluster

.PHONY: fmt
fmt: rust ## Format the code
	cargo fmt --all

.PHONY: clippy
clippy: rust ## Lint the Rust code
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# Checked separately, as make fuzz builds it: in the workspace, features that other packages enable would hide missing ones.
	cargo check --locked --package mcpauth-fuzz-targets

.PHONY: circles
circles: ## Check that the modules of each crate have no import cycles
	python3 scripts/test_import_circles.py
	scripts/import-circles.py

.PHONY: wording
wording: ## Check the wording of messages, descriptions and documentation
	scripts/wording.py

.PHONY: unit
unit: rust ## Tests that need only Rust; TEST=NAME (here and below) runs those whose names contain NAME
	scripts/tools.sh nextest
	$(NEXTEST) unit

.PHONY: lint
lint: shell workflows fmt-check circles wording clippy deny ## All lints: Rust, shell, workflows, wording, licences and sources of dependencies

##@ Test
.PHONY: test
test: ## Run everything, as CI does; installs what it needs and prints where the time went
	scripts/test.sh

.PHONY: test-servers
test-servers: rust ## Test the servers end to end: both stores (starts its own PostgreSQL), pages in Chromium, clients from npm and PyPI, OpenAPI with schemathesis
	scripts/tools.sh nextest postgres browser collector python clients schemathesis
	$(BUILD)
	$(NEXTEST) servers

.PHONY: test-api
test-api: rust api-server ## Test the operator against a real API server (etcd and kube-apiserver as processes)
	scripts/tools.sh nextest postgres
	$(BUILD)
	$(NEXTEST) api

.PHONY: test-chart
test-chart: rust helm api-server ## Test the chart with Helm 3 and 4, a real API server, kubernetes-validate and checkov
	scripts/tools.sh nextest chart
	$(BUILD)
	$(NEXTEST) chart
	scripts/chart.sh

.PHONY: test-long
test-long: rust ## Repeat the flood and race tests for LONG (default 10m), then flood one server for FLOOD_MINUTES (default 60)
	scripts/tools.sh nextest postgres
	$(NEXTEST) long --stress-duration '$(or $(LONG),10m)'
	FLOOD_MINUTES=$(or $(FLOOD_MINUTES),60) $(CARGO_TEST) --test http floods::all_in_turn -- --ignored --nocapture

.PHONY: fuzz
fuzz: rust ## Fuzz untrusted input and the configuration files: each target (or TARGET) for SECONDS (default 60)
	scripts/tools.sh fuzz
	scripts/fuzz.sh '$(or $(SECONDS),60)' $(TARGET)

.PHONY: bench
bench: rust api-server ## Benchmark against baselines in the same run, and measure memory (release builds, nginx, pgbench, a real API server); ROWS=N (default 10000000, 4 GB of disk) for the lookups
	scripts/tools.sh bench
	cargo build --workspace --locked --release --bins
	OPERATOR_PROGRAM=$(CARGO_TARGET_DIR)/release/mcp-auth-operator $(CARGO_TEST) --test api memory:: -- --nocapture
	PROXY_PROGRAM=$(CARGO_TARGET_DIR)/release/mcp-resource-proxy $(CARGO_TEST) --test proxy memory:: -- --nocapture --test-threads 1
	$(CARGO_TARGET_DIR)/release/bench $(if $(ROWS),--rows $(ROWS))
	AUTHSERVER_PROGRAM=$(CARGO_TARGET_DIR)/release/mcp-authserver $(CARGO_TEST) --test http floods::how_long -- --ignored --nocapture

.PHONY: scale
scale: rust api-server ## Measure OBJECTS (default 1000) protected servers against a plain client: times, requests, rest for QUIET (default 300) seconds
	cargo build --workspace --locked --release --bins
	OPERATOR_PROGRAM=$(CARGO_TARGET_DIR)/release/mcp-auth-operator $(CARGO_TEST) --release --test api memory::three -- --ignored --nocapture
	OBJECTS=$(or $(OBJECTS),1000) QUIET=$(or $(QUIET),300) \
	  $(CARGO_TEST) --release --test api scale:: -- --ignored --nocapture --test-threads 1

##@ Build
.PHONY: build
build: rust ## Build the programs into $(CARGO_TARGET_DIR)/debug
	$(BUILD)

.PHONY: generate
generate: rust ## Regenerate crds/ and the chart's CRDs
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/crdgen

.PHONY: clean
clean: cluster-down ## Delete the cluster and the whole cache
	rm -rf $(addprefix '$(MCP_AUTH_CACHE)'/,bin parts locks run log venv chart-tools schemathesis docker docker-data fuzz target kubeconfig)

.PHONY: env
env: ## Print the environment of the targets: eval "$(make -s env)"
	@printf 'export %s\n' $(foreach name,MCP_AUTH_CACHE CARGO_TARGET_DIR PATH MCP_CLIENTS ETCD KUBE_APISERVER MCP_PYTHON SCHEMATHESIS_PYTHON POSTGRES_BIN KUBECONFIG POSTGRES_IMAGE,'$(name)=$($(name))')
	@$(CLUSTER)/engine.sh env

include e2e/cluster/cluster.mk
include scripts/release.mk

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stages of scripts/test.sh that are rarely run alone.
.PHONY: rust shell workflows fmt-check generate-check build-tests deny
rust:
	@scripts/tools.sh rust
shell:
	scripts/tools.sh shellcheck
	shellcheck -x -P SCRIPTDIR operator/src/desired/postgres/*.sh scripts/*.sh $(CLUSTER)/*.sh $(CLUSTER)/*/*.sh $(CLUSTER)/runc-without-sys-resource .ci/run
workflows:
	scripts/tools.sh actionlint shellcheck
	actionlint
fmt-check: rust
	cargo fmt --all --check
generate-check: rust
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/crdgen --check
build-tests: rust
	$(CARGO_TEST) --no-run
# Advisories are checked only if their database can be downloaded.
deny: rust
	scripts/tools.sh deny
	cargo deny --locked --log-level error check bans licenses sources
	@if cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo 'advisories: not checked, because the advisory database cannot be downloaded'; fi
