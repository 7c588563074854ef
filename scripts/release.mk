# Part of the Makefile: what a release is made of, into dist/. .github/workflows/release.yml calls it.
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REGISTRY ?= ghcr.io/mcpauth
export VERSION REGISTRY RUST_TARGET PROFILE

##@ Release
.PHONY: cli-dist
cli-dist: rust ## Build kubectl-mcpauth for this machine, or for RUST_TARGET, into dist/, as an archive with its checksum
	scripts/release.sh cli

.PHONY: programs-dist
programs-dist: rust ## Build the programs for the images into dist/linux-ARCH/, for this machine's architecture
	scripts/release.sh programs

.PHONY: chart-dist
chart-dist: helm ## Package the chart with VERSION into dist/
	scripts/release.sh chart

.PHONY: release-images
release-images: ## Push the images of dist/linux-amd64/ and dist/linux-arm64/ to REGISTRY, signed, with SBOM and provenance
	scripts/release.sh push-images

.PHONY: release-chart
release-chart: chart-dist ## Push the chart to REGISTRY/charts, and sign it
	scripts/release.sh push-chart

.PHONY: release-files
release-files: ## Sign the archives and the chart in dist/
	scripts/release.sh sign-files

.PHONY: release-rehearsal
release-rehearsal: rust helm ## Make a release in a registry on this machine, and check it; as root, on Debian; replaces dist/
	scripts/release-rehearsal.sh
