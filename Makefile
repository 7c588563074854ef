# make help lists the targets. What they need they install or build, into $(MCP_AUTH_CACHE).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export MCP_AUTH_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mcp-auth-operator
export CARGO_TARGET_DIR ?= $(MCP_AUTH_CACHE)/target
export PATH := $(MCP_AUTH_CACHE)/bin:$(PATH)
export ETCD ?= $(MCP_AUTH_CACHE)/bin/etcd
export KUBE_APISERVER ?= $(MCP_AUTH_CACHE)/bin/kube-apiserver
export MCP_PYTHON ?= $(MCP_AUTH_CACHE)/venv/bin/python
# Found when a recipe runs: the package may be installed by the line before.
ifndef POSTGRES_BIN
export POSTGRES_BIN = $(shell ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
endif
OWN_KUBECONFIG := $(MCP_AUTH_CACHE)/kubeconfig
export KUBECONFIG ?= $(OWN_KUBECONFIG)
# The image that the cluster of the tests has in place of the operator's default.
export POSTGRES_IMAGE ?= docker.io/library/postgres:15

CLUSTER := e2e/cluster
# Sets DOCKER_HOST and the like where the engine is the project's own.
ENGINE = eval "$$($(CLUSTER)/engine.sh env)"
# Always the whole workspace: with -p cargo would choose other features and build the dependencies again.
CARGO_TEST := cargo test --workspace --locked
# tests PACKAGE-PATTERN: sets $names to the --test options of the integration tests of these packages; no test is an error.
tests = names=$$(cargo metadata --no-deps --format-version 1 | python3 -c 'import json, re, sys; \
	names = ["--test=" + t["name"] for p in json.load(sys.stdin)["packages"] if re.fullmatch(sys.argv[1], p["name"]) \
	for t in p["targets"] if t["kind"] == ["test"]]; print(*names) if names else sys.exit("no test in " + sys.argv[1])' '$(1)')
# Dev builds of the image's programs.
BUILD := cargo build --workspace --locked --bins

##@ Try it
.PHONY: demo
demo: rust ## Run MANIFEST (examples/notes.yaml) as processes, without a cluster; ONCE=1 ends after the walk through the flow
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/kubectl-mcpauth local -f '$(or $(MANIFEST),examples/notes.yaml)' $(if $(ONCE),--once)

.PHONY: compose-up
compose-up: images ## Start compose.yaml: the servers and Postgres as containers
	scripts/tools.sh compose
	$(ENGINE); docker compose up --detach --wait

.PHONY: compose-down
compose-down: ## Stop it and remove its data
	$(ENGINE); docker compose down --volumes

##@ Test
.PHONY: test
test: ## Everything, as CI does: installs what it needs, prints where the time goes
	scripts/test.sh

.PHONY: fmt
fmt: rust ## Format the code
	cargo fmt --all

.PHONY: lint
lint: shell fmt-check clippy deny ## Format, clippy, shellcheck, licences and sources of dependencies

.PHONY: circles
circles: ## No circle of imports between the modules of a crate
	python3 scripts/test_import_circles.py
	scripts/import-circles.py

.PHONY: unit
unit: rust ## Unit tests, and the integration tests of the servers (both stores, pages in Chromium; starts its own Postgres)
	scripts/tools.sh postgres browser
	$(call tests,mcp-authserver|mcp-resource-proxy|notes-mcp-server|mcpauth-api); $(CARGO_TEST) --lib --bins $$names

.PHONY: test-api
test-api: rust ## The operator on a real API server: etcd and kube-apiserver as processes
	$(CLUSTER)/programs.sh etcd kubernetes
	$(BUILD)
	$(call tests,mcp-auth-operator); $(CARGO_TEST) $$names

.PHONY: test-chart
test-chart: rust ## What the chart renders, and helm lint
	$(CLUSTER)/programs.sh node
	$(CARGO_TEST) --test chart

.PHONY: e2e
e2e: rust ## The end-to-end suite on the cluster that KUBECONFIG names, by default the one of cluster-up
	scripts/tools.sh python
ifeq ($(KUBECONFIG),$(OWN_KUBECONFIG))
	$(MAKE) cluster-up
endif
	$(ENGINE); $(CARGO_TEST) --test kind

.PHONY: bench
bench: rust ## Ratios against floors in the same run, and memory (release builds, nginx, pgbench, a real API server)
	scripts/tools.sh bench
	$(CLUSTER)/programs.sh etcd kubernetes
	cargo build --workspace --locked --release --bins
	OPERATOR_PROGRAM=$(CARGO_TARGET_DIR)/release/mcp-auth-operator $(CARGO_TEST) --test memory -- --nocapture
	$(CARGO_TARGET_DIR)/release/bench

##@ Cluster
.PHONY: cluster-up
cluster-up: images ## Make the kind cluster mcp-auth, or take over the one that is there, and load the images
	$(CLUSTER)/cluster.sh up
	$(CLUSTER)/cluster.sh load $(IMAGES) $(POSTGRES_IMAGE)
	@printf '\nThe cluster mcp-auth is up. To use it:\n  export KUBECONFIG=%s PATH=%s:$$PATH\n  kubectl get nodes\nIts ports on this machine: http://localhost:9000 (authserver), http://localhost:9001 (MCP server)\n' '$(OWN_KUBECONFIG)' '$(MCP_AUTH_CACHE)/bin'

.PHONY: cluster-down
cluster-down: ## Remove the cluster, and the Docker engine if cluster-up started one
	$(CLUSTER)/cluster.sh down

.PHONY: install
install: ## Install or upgrade the operator in the cluster that KUBECONFIG names
	$(CLUSTER)/programs.sh node
	helm upgrade --install mcp-auth-operator charts/mcp-auth-operator --namespace mcp-auth-system --create-namespace \
		--set images.operator.tag=dev,images.authserver.tag=dev,images.resourceProxy.tag=dev --wait --timeout 180s

##@ Build
.PHONY: build
build: rust ## Build the programs, into $(CARGO_TARGET_DIR)/debug
	$(BUILD)

.PHONY: generate
generate: rust ## Write the generated files (crds/, the chart's CRDs)
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/crdgen

IMAGES := $(addprefix ghcr.io/mcpauth/,operator:dev authserver:dev resource-proxy:dev notes:dev)
.PHONY: images
images: rust ## Build the images of the programs, and of Postgres
	$(BUILD)
	$(CLUSTER)/engine.sh up
	$(CLUSTER)/images.sh apps postgres

.PHONY: clean
clean: cluster-down ## Remove the cluster and all of the cache
	rm -rf $(addprefix '$(MCP_AUTH_CACHE)'/,bin parts locks run log venv docker docker-data target kubeconfig)

.PHONY: env
env: ## Print the environment of the targets: eval "$(make -s env)"
	@printf 'export %s\n' $(foreach name,MCP_AUTH_CACHE CARGO_TARGET_DIR PATH ETCD KUBE_APISERVER MCP_PYTHON POSTGRES_BIN KUBECONFIG POSTGRES_IMAGE,'$(name)=$($(name))')
	@$(CLUSTER)/engine.sh env

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

# The stages of scripts/test.sh that are of no interest alone.
.PHONY: rust shell fmt-check clippy generate-check build-tests deny test-compose parts
rust:
	@scripts/tools.sh rust
shell:
	scripts/tools.sh shellcheck
	shellcheck -x -P SCRIPTDIR scripts/*.sh $(CLUSTER)/*.sh $(CLUSTER)/*/*.sh $(CLUSTER)/runc-without-sys-resource .ci/run
fmt-check: rust
	cargo fmt --all --check
clippy: rust
	cargo clippy --workspace --all-targets --locked -- -D warnings
generate-check: rust
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/crdgen --check
build-tests: rust
	$(CARGO_TEST) --no-run
# The advisories are in a database on the internet: checked where it can be fetched.
deny: rust
	scripts/tools.sh deny
	cargo deny --locked --log-level error check bans licenses sources
	@if cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo 'advisories: not checked, their database cannot be fetched from here'; fi
# It wants the ports of the cluster, which is stopped for it; cluster-up starts it again.
test-compose: images
	scripts/tools.sh compose python
	$(CLUSTER)/cluster.sh stop
	$(ENGINE); $(CARGO_TEST) --test compose
# What takes long and depends on no code of ours.
parts:
	$(CLUSTER)/programs.sh
	$(CLUSTER)/engine.sh up
	$(CLUSTER)/images.sh base node postgres
	scripts/tools.sh python deny
