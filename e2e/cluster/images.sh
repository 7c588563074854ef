#!/usr/bin/env bash
# images.sh base|postgres|node|metrics-server|apps: builds images without a registry, from Debian packages and from the
# programs that programs.sh and cargo built, into the engine. Prints each image's name on stdout.
# shellcheck disable=SC2016,SC2054 # mmdebstrap expands $1 (the root) in its hooks; its lists have commas
source "$(dirname "$0")/lib.sh"
engine=$("$here/engine.sh" env) && eval "$engine"

suite=bookworm # Debian 12: newer systemd refuses cgroup v1
other_base=docker.io/library/debian:trixie-slim
postgres_image=${POSTGRES_IMAGE:-docker.io/library/postgres:15}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# rootfs NAME OPTION...: prints an archive with a file system of Debian packages.
rootfs() {
    local name=$1 dir
    shift
    need_packages mmdebstrap
    dir=$(part "rootfs-$name" "$(key "$suite" "$@")" debootstrap "$@")
    printf '%s\n' "$dir/rootfs.tar"
}

debootstrap() {
    local dir=${!#} sources=()
    # On the same Debian the machine's own sources are used: they are known to answer.
    if grep -qs "^VERSION_CODENAME=$suite$" /etc/os-release; then
        local file
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
            [ ! -s "$file" ] || sources=("$file")
        done
    fi
    nice -n 5 mmdebstrap --quiet --format=tar "${@:1:$#-1}" "$suite" "$dir/rootfs.tar" "${sources[@]}"
}

# imported IMAGE ROOTFS-NAME OPTION...: the image of that file system.
imported() {
    local image=$1 archive
    shift
    ! have_image "$image" || return 0
    archive=$(rootfs "$@")
    docker import "$archive" "$image" >/dev/null
}

# What our programs need, unpacked only, and busybox to look around in a container: a few MB.
# The published images have another base: the top Dockerfile takes it as BASE_IMAGE.
base() {
    # The programs are linked against this machine's C library: it must not be newer than the image's.
    if ! grep -qs "^VERSION_CODENAME=$suite$" /etc/os-release; then
        have_image "$other_base" || quiet docker pull "$other_base"
        echo "$other_base"
        return
    fi
    local options=(--variant=extract --include=libc6,libgcc-s1,busybox-static,netbase
        '--dpkgopt=path-exclude=/usr/share/*')
    local from image context=$cache/run/base
    from=mcpauth.local/base-files:$(key "$suite" "${options[@]}")
    image=mcpauth.local/base:$(key "$from" "$here/base/Dockerfile")
    if ! have_image "$image"; then
        need_packages ca-certificates
        imported "$from" base "${options[@]}"
        mkdir -p "$context"
        cp "$here/base/Dockerfile" /etc/ssl/certs/ca-certificates.crt "$context/"
        quiet docker build -q --build-arg BASE_IMAGE="$from" -t "$image" "$context"
    fi
    docker tag "$image" mcpauth.local/base:current
    echo "$image"
}

# Debian's PostgreSQL behind the contract of the official image, under the name that the tests configure.
postgres() {
    local options=(--variant=minbase --include=postgresql,libnss-wrapper
        # JIT is two thirds of the size and is not used.
        '--customize-hook=rm -rf "$1"/usr/lib/postgresql/*/lib/bitcode "$1"/usr/lib/postgresql/*/lib/llvmjit* "$1"/usr/lib/*/libLLVM* "$1"/usr/share/doc "$1"/usr/share/locale'
        '--customize-hook=rm -rf "$1"/var/lib/postgresql/* "$1"/etc/postgresql/*'
        '--customize-hook=chroot "$1" groupmod -g 999 postgres; chroot "$1" usermod -u 999 -g 999 postgres; chown -R 999:999 "$1"/var/lib/postgresql "$1"/var/run/postgresql')
    local from image
    from=mcpauth.local/postgres-base:$(key "$suite" "${options[@]}")
    image=mcpauth.local/postgres:$(key "$from" "$here"/postgres/*)
    if ! have_image "$image"; then
        if docker pull -q "$postgres_image" >/dev/null 2>&1; then
            echo "$postgres_image"
            return
        fi
        imported "$from" postgres "${options[@]}"
        quiet docker build -q --build-arg BASE_IMAGE="$from" -t "$image" "$here/postgres"
    fi
    docker tag "$image" "$postgres_image"
    echo "$postgres_image"
}

# The node image: what kind's own has, put together from packages and modules. See README.md.
node() {
    local options=(--variant=minbase --include=systemd,conntrack,iptables,nftables,iproute2,ethtool,mount,kmod,libseccomp2,pigz,jq,curl,procps,runc,containernetworking-plugins,catatonit)
    local from image programs files
    files=$(cd "$here" && find base node node-image.sh -type f -exec sha256sum {} + | sort)
    programs=$(cat "$here"/go/{kubernetes,node,etcd,local-path}/go.sum | sha256sum | cut -c1-12)
    from=mcpauth.local/node-base:$(key "$suite" "${options[@]}")
    image=mcpauth.local/node:$(key "$programs" "$from" "$files")
    if ! have_image "$image"; then
        "$here/programs.sh" kubernetes node etcd local-path
        imported "$from" node "${options[@]}"
        "$here/node-image.sh" "$from" "$image" >&2
    fi
    echo "$image"
}

# What a HorizontalPodAutoscaler asks. kind's own node image lacks it as well.
metrics_server() {
    local image=mcpauth.local/metrics-server:1 folder=$here/go/metrics-server context=$cache/run/metrics-server
    "$here/programs.sh" metrics-server
    mkdir -p "$context"
    cp "$cache/parts/metrics-server-$(key "$folder/go.mod" "$folder/go.sum")/metrics-server" "$context/"
    touch -d @0 "$context/metrics-server" # the classic builder counts the time as a difference
    printf 'FROM scratch\nCOPY metrics-server /\nENTRYPOINT ["/metrics-server"]\n' |
        quiet docker build -q -t "$image" -f - "$context"
    echo "$image"
}

# The project's programs, from $CARGO_TARGET_DIR/$PROFILE. Stripped, so that they are loaded quickly; the
# same program gives the same image, which is then not loaded again.
apps() {
    local from pair program image context
    from=$(base)
    for pair in mcp-auth-operator=operator mcp-authserver=authserver mcp-resource-proxy=resource-proxy kubectl-mcpauth=cli notes-mcp-server=notes; do
        program=${pair%=*} image=ghcr.io/mcpauth/${pair#*=}:${TAG:-dev} context=$cache/run/image-$program
        mkdir -p "$context"
        strip -o "$context/$program" "${CARGO_TARGET_DIR:-$cache/target}/${PROFILE:-debug}/$program"
        touch -d @0 "$context/$program" # the classic builder counts the time as a difference
        quiet docker build -q -f "$top/Dockerfile" --build-arg BASE_IMAGE="$from" --build-arg PROGRAM="$program" -t "$image" "$context"
        # What the name meant before: else each build leaves its images behind.
        quiet docker image prune -f --filter "label=org.opencontainers.image.title=$program"
        echo "$image"
    done
    # For the test of an upgrade, until there is a release: other images to Kubernetes, which goes by their names.
    for image in operator authserver resource-proxy; do
        docker tag "ghcr.io/mcpauth/$image:${TAG:-dev}" "ghcr.io/mcpauth/$image:previous"
    done
    # As the examples name it.
    image=ghcr.io/mcpauth/notes
    docker tag "$image:${TAG:-dev}" "$image:$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -1)"
}

for image in "$@"; do
    case $image in
    base | postgres | node | apps) locked "image-$image" "$image" ;;
    metrics-server) locked "image-$image" metrics_server ;;
    *) die "usage: images.sh base|postgres|node|metrics-server|apps..." ;;
    esac
done
