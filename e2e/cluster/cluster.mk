# Part of the Makefile: containers, the kind cluster, and the programs that are built from Go modules. See README.md
# in this folder for how they are built without a registry.
CLUSTER := e2e/cluster

export ETCD ?= $(MCP_AUTH_CACHE)/bin/etcd
export KUBE_APISERVER ?= $(MCP_AUTH_CACHE)/bin/kube-apiserver
OWN_KUBECONFIG := $(MCP_AUTH_CACHE)/kubeconfig
export KUBECONFIG ?= $(OWN_KUBECONFIG)
# The image that is loaded into the test cluster under the name of the operator's default image.
export POSTGRES_IMAGE ?= docker.io/library/postgres:15

# Sets DOCKER_HOST and the like where the engine is the project's own.
ENGINE = eval "$$($(CLUSTER)/engine.sh env)"
# The examples name a released image; the cluster gets the local build under that name.
IMAGES = $(addprefix ghcr.io/mcpauth/,$(foreach name,operator authserver resource-proxy,$(name):dev $(name):previous) notes:dev notes:$(VERSION))

##@ Containers and cluster
.PHONY: compose-up
compose-up: images ## Start compose.yaml: the servers and PostgreSQL as containers
	scripts/tools.sh compose
	$(ENGINE); docker compose up --detach --wait

.PHONY: compose-down
compose-down: ## Stop the containers of compose-up and delete their data
	$(ENGINE); docker compose down --volumes

.PHONY: cluster-up
cluster-up: images ## Create the kind cluster mcp-auth, or reuse an existing one, and load the images
	$(CLUSTER)/images.sh metrics-server
	$(CLUSTER)/cluster.sh up
	$(CLUSTER)/cluster.sh load $(IMAGES) $(POSTGRES_IMAGE) mcpauth.local/metrics-server:1
	$(CLUSTER)/cluster.sh metrics
	@printf '\nThe cluster mcp-auth is up. To use it:\n  export KUBECONFIG=%s PATH=%s:$$PATH\n  kubectl get nodes\nIts ports on this machine: http://localhost:9000 (authserver), http://localhost:9001 (MCP server)\n' '$(OWN_KUBECONFIG)' '$(MCP_AUTH_CACHE)/bin'

.PHONY: cluster-down
cluster-down: ## Delete the cluster, and stop the Docker engine if cluster-up started one
	$(CLUSTER)/cluster.sh down

.PHONY: install
install: helm ## Install or upgrade the operator in the cluster in KUBECONFIG
	helm upgrade --install mcp-auth-operator charts/mcp-auth-operator --namespace mcp-auth-system --create-namespace \
		--set images.operator.tag=dev,images.authserver.tag=dev,images.resourceProxy.tag=dev --wait --timeout 180s

.PHONY: e2e
e2e: rust ## Run the end-to-end suite on the cluster in KUBECONFIG (default: that of cluster-up); TEST=NAME runs one scenario
	scripts/tools.sh python
ifeq ($(KUBECONFIG),$(OWN_KUBECONFIG))
	$(MAKE) cluster-up
endif
	$(ENGINE); $(CARGO_TEST) --test kind $(if $(TEST),-- '$(TEST)')

# Stops the cluster, because it needs the same ports; cluster-up starts it again.
.PHONY: test-compose
test-compose: images ## Test compose.yaml; needs the cluster's ports and stops the cluster
	scripts/tools.sh compose python
	$(CLUSTER)/cluster.sh stop
	$(ENGINE); $(CARGO_TEST) --test compose

.PHONY: images
images: rust ## Build the images of the programs and of PostgreSQL
	$(BUILD)
	$(CLUSTER)/engine.sh up
	$(CLUSTER)/images.sh apps postgres

.PHONY: api-server helm parts
api-server:
	$(CLUSTER)/programs.sh etcd kubernetes
helm:
	$(CLUSTER)/programs.sh node helm3
# Slow builds that do not depend on code in this repository.
parts:
	$(CLUSTER)/programs.sh
	$(CLUSTER)/engine.sh up
	$(CLUSTER)/images.sh base node postgres metrics-server
	scripts/tools.sh python chart
