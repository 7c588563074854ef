#!/usr/bin/env bash
# release.sh cli|programs|chart|push-images|push-chart|sign-files: the parts of a release, into dist/, and from there to REGISTRY.
# VERSION and REGISTRY come from release.mk; PROFILE (release) is cargo's.
source "$(dirname "$0")/../e2e/cluster/lib.sh"
cd "$top"
dist=$top/dist
version=${VERSION:?run this by make}
profile=${PROFILE:-release}
# PROGRAM=IMAGE
images=(mcp-auth-operator=operator mcp-authserver=authserver mcp-resource-proxy=resource-proxy kubectl-mcpauth=cli notes-mcp-server=notes)

# compile PACKAGE...: prints the folder with the programs.
compile() {
    local target=${RUST_TARGET:-} options=(--locked --profile "$profile") folder=${CARGO_TARGET_DIR:-$cache/target}
    if [ -n "$target" ]; then
        options+=(--target "$target")
        folder+=/$target
    fi
    cargo build "${options[@]}" "${@/#/--package=}" >&2
    # cargo's folder for the profile `dev` is `debug`.
    printf '%s/%s\n' "$folder" "${profile/#dev/debug}"
}

# platform: OS-ARCH as Go and Docker write it, of RUST_TARGET or of this machine.
platform() {
    local triple=${RUST_TARGET:-$(rustc -vV | sed -n 's/^host: //p')} os arch
    case $triple in
    *-linux-*) os=linux ;;
    *-apple-darwin) os=darwin ;;
    *) die "releases are not built for $triple: only Linux and macOS are supported" ;;
    esac
    case $triple in
    x86_64-*) arch=amd64 ;;
    aarch64-*) arch=arm64 ;;
    *) die "releases are not built for $triple: only x86_64 and aarch64 are supported" ;;
    esac
    printf '%s-%s\n' "$os" "$arch"
}

checksum() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

cli() {
    local from name
    name=kubectl-mcpauth-$version-$(platform)
    from=$(compile mcpauth-cli)
    rm -rf "${dist:?}/$name"
    mkdir -p "$dist/$name"
    cp "$from/kubectl-mcpauth" LICENSE "$dist/$name/"
    strip "$dist/$name/kubectl-mcpauth"
    tar -C "$dist/$name" -czf "$dist/$name.tar.gz" kubectl-mcpauth LICENSE
    rm -r "${dist:?}/$name"
    (cd "$dist" && checksum "$name.tar.gz" >"$name.tar.gz.sha256")
    echo "$dist/$name.tar.gz"
}

programs() {
    local from to pair
    to=$dist/$(platform)
    from=$(compile mcp-auth-operator mcp-authserver mcp-resource-proxy mcpauth-cli notes-mcp-server)
    mkdir -p "$to"
    for pair in "${images[@]}"; do
        strip -o "$to/${pair%=*}" "$from/${pair%=*}"
        echo "$to/${pair%=*}"
    done
}

chart() {
    mkdir -p "$dist"
    helm package charts/mcp-auth-operator --version "$version" --app-version "$version" --destination "$dist"
}

# One image per architecture, built without running anything, so without emulation. Then one manifest list for both.
push_images() {
    local pair program image arch
    for arch in amd64 arm64; do
        for pair in "${images[@]}"; do
            [ -x "$dist/linux-$arch/${pair%=*}" ] || die "$dist/linux-$arch/${pair%=*} is missing: run make programs-dist on linux-$arch and put its dist/linux-$arch here"
        done
    done
    for pair in "${images[@]}"; do
        program=${pair%=*} image=$REGISTRY/${pair#*=}
        for arch in amd64 arm64; do
            docker buildx build --platform "linux/$arch" --build-arg PROGRAM="$program" --sbom=true --provenance=mode=max \
                --label "org.opencontainers.image.version=$version" --tag "$image:$version-$arch" --push -f Dockerfile "$dist/linux-$arch"
        done
        docker buildx imagetools create --tag "$image:$version" "$image:$version-amd64" "$image:$version-arm64"
        # Sign the digest, because a tag can be moved.
        sign "$image@$(docker buildx imagetools inspect "$image:$version" --format '{{.Manifest.Digest}}')"
    done
}

push_chart() {
    local output digest
    output=$(helm push "$dist/mcp-auth-operator-$version.tgz" "oci://$REGISTRY/charts" 2>&1)
    printf '%s\n' "$output"
    digest=$(sed -n 's/^Digest: //p' <<<"$output")
    [ -n "$digest" ] || die "helm push printed no digest, so the chart cannot be signed: see its output above"
    sign "$REGISTRY/charts/mcp-auth-operator@$digest"
}

# Keyless: the identity is the workflow's.
sign() { cosign sign --yes --recursive "$1"; }

sign_files() {
    local file
    for file in "$dist"/*.tar.gz "$dist"/*.tgz; do
        [ -e "$file" ] || die "$file is missing: run make cli-dist and make chart-dist first"
        cosign sign-blob --yes --bundle "$file.sigstore.json" "$file"
    done
}

for step in "$@"; do
    case $step in
    cli | programs | chart) "$step" ;;
    push-images) push_images ;;
    push-chart) push_chart ;;
    sign-files) sign_files ;;
    *) die "usage: release.sh cli|programs|chart|push-images|push-chart|sign-files" ;;
    esac
done
