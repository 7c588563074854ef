# Part of the Makefile: what a release is made of, into dist/. .github/workflows/release.yml calls it.
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REGISTRY ?= ghcr.io/mcpauth
export VERSION REGISTRY RUST_TARGET PROFILE

##@ Release
.PHONY: cli-dist
cli-dist: rust ## dist/: kubectl-mcpauth for this machine, or for RUST_TARGET, as an archive with its checksum
	scripts/release.sh cli

.PHONY: programs-dist
programs-dist: rust ## dist/linux-ARCH/: the programs of the images for this machine
	scripts/release.sh programs

.PHONY: chart-dist
chart-dist: helm ## dist/: the chart as an archive, with VERSION in it
	scripts/release.sh chart

.PHONY: release-images
release-images: ## Push and sign the images of dist/linux-amd64/ and dist/linux-arm64/, with SBOM and provenance, to REGISTRY
	scripts/release.sh push-images

.PHONY: release-chart
release-chart: chart-dist ## Push and sign the chart, to REGISTRY/charts
	scripts/release.sh push-chart
