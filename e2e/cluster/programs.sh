#!/usr/bin/env bash
# Builds the programs that the cluster and the tests are made of, by Go module, into the cache, and
# links them into $MCP_AUTH_CACHE/bin. Usage: programs.sh [kubernetes|node|helm3|etcd|local-path|metrics-server|compose]...
# Each module has a folder below go/: its go.mod names the tools and their versions, go.sum pins them.
source "$(dirname "$0")/lib.sh"

build() {
    local module=$1 dir=$2 flags='-s -w'
    case $module in
    kubernetes)
        # Without the stamp kubeadm takes itself for v0.0.0 and charts cannot check their kubeVersion.
        local v major minor
        v=$(version "$module" k8s.io/kubernetes)
        IFS=. read -r major minor _ <<<"${v#v}"
        local stamp
        for stamp in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
            flags+=" -X $stamp.gitVersion=$v -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
        done
        ;;
    helm3)
        # Without the stamp it takes the cluster of `helm template` for v1.20.
        local kubernetes
        IFS=. read -r _ kubernetes _ <<<"$(version "$module" k8s.io/client-go)"
        flags+=" -X helm.sh/helm/v3/internal/version.version=$(version "$module" helm.sh/helm/v3)"
        flags+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$kubernetes"
        ;;
    node) flags+=" -X helm.sh/helm/v4/internal/version.version=$(version "$module" helm.sh/helm/v4)" ;;
    esac
    cd "$here/go/$module" || return
    # nice: people compile beside this.
    CGO_ENABLED=0 nice -n 5 go build -trimpath -tags no_btrfs,no_zfs,no_devmapper -ldflags "$flags" -o "$dir/" tool
}

version() { awk -v module="$2" '$1 == "require" { $1 = ""; $0 = $0 } $1 == module { print $2; exit }' "$here/go/$1/go.mod"; }

[ $# -gt 0 ] || set -- kubernetes node helm3 etcd local-path metrics-server compose
for module in "$@"; do
    inputs=("$here/go/$module/go.mod" "$here/go/$module/go.sum")
    name=$module-$(key "${inputs[@]}")
    # Go is asked for only when there is something to build.
    [ -d "$cache/parts/$name" ] || need_go
    dir=$(part "$module" "$(key "${inputs[@]}")" build "$module")
    case $module in
    etcd) link "$dir/server" etcd ;;
    compose) mkdir -p "$cache/docker/cli-plugins" && ln -sfn "$dir/cmd" "$cache/docker/cli-plugins/docker-compose" ;;
    node) for program in kind helm; do link "$dir/$program"; done ;;
    helm3) link "$dir/helm" helm3 ;;
    kubernetes) for program in kube-apiserver kubectl; do link "$dir/$program"; done ;;
    esac
done
