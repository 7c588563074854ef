#!/usr/bin/env bash
# release-rehearsal.sh: what release.yml does, to a registry on this machine, and a look at what came out. It differs in:
# - the signatures: by a key and without a transparency log, because Fulcio and Rekor are on the internet;
# - the other architecture: this machine's programs under its name. Nothing is run in the build;
# - the base image and the SBOM scanner: made here. BuildKit finds them under their own names.
source "$(dirname "$0")/../e2e/cluster/lib.sh"
cd "$top"
work=$(mktemp -d)
export VERSION=0.0.0-rehearsal DOCKER_CONFIG=$work/docker BUILDX_BUILDER=rehearsal COSIGN_PASSWORD=
unset DOCKER_HOST
# PROGRAM=IMAGE
images=(mcp-auth-operator=operator mcp-authserver=authserver mcp-resource-proxy=resource-proxy kubectl-mcpauth=cli notes-mcp-server=notes)
servers=()

finish() {
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -rf "$work" "$top/dist"
}
trap finish EXIT

tools() { # FOLDER
    cd scripts/go/release || return
    CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags '-s -w' -o "$1/" tool
}

# Debian's packages only, as the published base has them.
rootfs() { mmdebstrap --quiet --format=tar --variant=extract --architectures="$1" --include=libc6,libgcc-s1,busybox-static bookworm "$2/rootfs.tar"; }

answers() { curl --silent --output /dev/null "http://$host/"; }

# ghcr.io wants a login too: so it is seen whether all that pushes finds the one of docker/login-action.
start_registry() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    host=localhost:$port
    export REGISTRY=$host/mcpauth
    perl -e 'print "rehearsal:", crypt("rehearsal", q($2y$05$rehearsalrehearsalrehe)), "\n"' >"$work/htpasswd"
    cat >"$work/registry.yaml" <<EOF
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
auth: {htpasswd: {realm: rehearsal, path: $work/htpasswd}}
EOF
    "$bin/registry" serve "$work/registry.yaml" >"$work/registry.log" 2>&1 &
    servers+=($!)
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    ln -s "$bin/buildx" "$DOCKER_CONFIG/cli-plugins/docker-buildx"
    printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$host" "$(printf rehearsal:rehearsal | base64)" >"$DOCKER_CONFIG/config.json"
    wait_for answers
}

start_buildkit() {
    cat >"$work/buildkitd.toml" <<EOF
root = "$work/buildkit"
[grpc]
address = ["unix://$work/buildkitd.sock"]
[worker.oci]
networkMode = "host"
[registry."docker.io"]
mirrors = ["$host"]
EOF
    "$bin/buildkitd" --config "$work/buildkitd.toml" >"$work/buildkitd.log" 2>&1 &
    servers+=($!)
    docker buildx create --name "$BUILDX_BUILDER" --driver remote "unix://$work/buildkitd.sock" >/dev/null
    wait_for docker buildx inspect
}

wait_for() {
    for _ in $(seq 60); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.5
    done
    tail -n 5 "$work"/*.log >&2
    die "a server did not respond within 30 s: see its log above"
}

# What the Dockerfile and --sbom=true name on docker.io.
push_foreign_images() {
    local arch tar
    mkdir "$work/scanner"
    for arch in amd64 arm64; do
        mkdir -p "$work/base/$arch"
        tar=$(part "release-base-$arch" "$(key "$(declare -f rootfs)")" rootfs "$arch")/rootfs.tar
        ln "$tar" "$work/base/$arch/" 2>/dev/null || cp "$tar" "$work/base/$arch/"
    done
    # shellcheck disable=SC2016 # BuildKit's variable
    printf 'FROM scratch\nARG TARGETARCH\nADD $TARGETARCH/rootfs.tar /\n' >"$work/base/Dockerfile"
    quiet docker buildx build --platform linux/amd64,linux/arm64 --tag "$host/library/debian:12-slim" --push "$work/base"
    cp "$bin/syft" "$work/scanner/"
    cat >"$work/scanner/scan" <<'EOF'
#!/bin/busybox sh
# BuildKit's protocol for scanners, around syft.
set -eu
export HOME=/tmp SYFT_CHECK_FOR_APP_UPDATE=false
sbom=$(/syft scan --quiet --output spdx-json "dir:$BUILDKIT_SCAN_SOURCE")
printf '{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "predicate": %s}' "$sbom" \
    >"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
EOF
    chmod +x "$work/scanner/scan"
    printf 'FROM docker.io/library/debian:12-slim\nCOPY syft scan /\nENTRYPOINT ["/scan"]\n' >"$work/scanner/Dockerfile"
    quiet docker buildx build --tag "$host/docker/buildkit-syft-scanner:stable-1" --push "$work/scanner"
}

# Functions, because release.sh calls these by name: what no variable tells cosign and helm.
cosign() {
    case $1 in
    sign | sign-blob) command "$bin/cosign" "$@" --key "$work/cosign.key" --signing-config "$work/signing.json" ;;
    verify | verify-blob) command "$bin/cosign" "$@" --key "$work/cosign.pub" --insecure-ignore-tlog ;;
    *) command "$bin/cosign" "$@" ;;
    esac
}
helm() {
    case $1 in
    push | pull) command helm "$@" --plain-http ;;
    *) command helm "$@" ;;
    esac
}

make_key() {
    (cd "$work" && quiet cosign generate-key-pair)
    quiet cosign signing-config create --out "$work/signing.json"
}

# check WHAT COMMAND...
check() {
    quiet "${@:2}" || die "$1: failed, see above"
    echo "ok: $1"
}

digest() { docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'; }

# has IMAGE FIELD JQ: true for both platforms, of what buildx knows about them.
has() {
    local platform
    for platform in linux/amd64 linux/arm64; do
        docker buildx imagetools inspect "$1" --format "{{json (index .$2 \"$platform\")}}" | jq --exit-status "$3" || return
    done
}

platforms() { docker buildx imagetools inspect --raw "$1" | jq --exit-status '[.manifests[].platform | "\(.os)/\(.architecture)"] | contains(["linux/amd64", "linux/arm64"])'; }

check_images() {
    local pair name program image
    for pair in "${images[@]}"; do
        program=${pair%=*} name=${pair#*=}
        image=$REGISTRY/$name:$VERSION
        check "$name: both platforms" platforms "$image"
        check "$name: version and user" has "$image" Image ".config.User == \"65532:65532\" and .config.Labels[\"org.opencontainers.image.version\"] == \"$VERSION\""
        check "$name: SBOM" has "$image" SBOM "[.SPDX.files[].fileName] | index(\"usr/local/bin/$program\")"
        check "$name: provenance" has "$image" Provenance '.SLSA.buildDefinition.resolvedDependencies | length > 0'
        check "$name: signature" cosign verify "$REGISTRY/$name@$(digest "$image")"
    done
}

check_chart() {
    local chart=$REGISTRY/charts/mcp-auth-operator
    check "chart: pull" helm pull "oci://$chart" --version "$VERSION" --destination "$work"
    check "chart: renders" helm template mcp-auth-operator "$work/mcp-auth-operator-$VERSION.tgz"
    check "chart: signature" cosign verify "$chart@$(digest "$chart:$VERSION")"
}

check_files() {
    local file archives=(dist/kubectl-mcpauth-*.tar.gz)
    for file in "${archives[@]}" dist/*.tgz; do
        check "$file: signature" cosign verify-blob --bundle "$file.sigstore.json" "$file"
    done
    check "${archives[0]}: checksum" sh -c 'cd dist && sha256sum --check ./*.sha256'
    tar -C "$work" -xzf "${archives[0]}"
    check "kubectl-mcpauth: runs" "$work/kubectl-mcpauth" --version
}

[ "$(id -u)" = 0 ] || die "BuildKit runs containers: run this as root"
command -v docker >/dev/null || need_packages docker.io
need_packages runc mmdebstrap jq curl
need_go
bin=$(part release-tools "$(key scripts/go/release/go.mod scripts/go/release/go.sum)" tools)
export -f cosign helm
export bin work

rm -rf dist
make -s programs-dist cli-dist
for arch in amd64 arm64; do
    [ -d dist/linux-$arch ] || cp -r dist/linux-* dist/linux-$arch
done
start_registry
start_buildkit
push_foreign_images
make_key
make -s release-images release-chart release-files
check_images
check_chart
check_files
echo 'release rehearsal: passed'
