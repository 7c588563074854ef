#!/usr/bin/env bash
# cluster.sh up|metrics|stop|down|load IMAGE...: the kind cluster of the project.
source "$(dirname "$0")/lib.sh"
name=mcp-auth
node=$name-control-plane
kubeconfig=$cache/kubeconfig
export KUBECONFIG=$kubeconfig

kubectl() { "$cache/bin/kubectl" --request-timeout=10s "$@"; }
node_is() { [ "$(docker inspect -f '{{.State.Status}}' "$node" 2>/dev/null)" = "$1" ]; }
ready() { [ "$(kubectl get nodes -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]; }
# The storage class is the last object that kind creates: without it the cluster is incomplete.
complete() { ready && kubectl get storageclass standard >/dev/null 2>&1; }

wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.5
    done
}

# Written when a cluster is complete, with a hash of its inputs. If it is missing or differs, the cluster is incomplete or outdated.
made=$cache/run/cluster-made
made_from() { cat "$top/kind-config.yaml" "$here"/{node-image.sh,node/Dockerfile,go/*/go.sum} | key /dev/stdin; }

up() {
    if docker inspect "$node" >/dev/null 2>&1; then
        if [ "$(cat "$made" 2>/dev/null)" = "$(made_from)" ]; then
            if ! node_is running; then
                say "starting the stopped cluster again"
                docker unpause "$node" >/dev/null 2>&1 || docker start "$node" >/dev/null || true
            fi
            kind get kubeconfig -q --name $name >"$kubeconfig" 2>/dev/null || true
            if wait_for 60 complete; then return 0; fi
        fi
        say "the existing cluster is incomplete, outdated or unresponsive: recreating it"
        kind delete cluster -q --name $name
    fi
    rm -f "$made"
    free_ports
    create
    made_from >"$made"
}

create() {
    local image=() begin=$SECONDS
    if [ "${MCP_AUTH_NODE_IMAGE:-}" != local ] && docker pull -q "$(kinds_image)" >/dev/null 2>&1; then
        say "creating the cluster with kind's own node image"
    else
        say "no registry is reachable: creating the cluster with the project's own node image"
        local built
        built=$("$here/images.sh" node)
        image=(--image "$built")
    fi
    # --retain keeps the nodes for debugging; `up` replaces an incomplete cluster.
    if ! kind create cluster -q --name $name --config "$top/kind-config.yaml" --kubeconfig "$kubeconfig" --wait 180s --retain "${image[@]}" >&2; then
        kind export logs -q --name $name "$cache/log/kind" >/dev/null 2>&1 || true
        die "kind could not create the cluster: see the logs in $cache/log/kind"
    fi
    wait_for 120 complete || die "the node did not become ready: KUBECONFIG=$kubeconfig kubectl describe nodes"
    say "the cluster is ready after $((SECONDS - begin)) s"
}

kinds_image() { grep -aoE 'kindest/node:v[0-9.]+@sha256:[0-9a-f]{64}' "$cache/bin/kind" | head -1; }

free_ports() {
    local port
    for port in 9000 9001; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "port $port on 127.0.0.1 is in use, but the cluster's services need it.
       Find the program that uses it (ss -ltnp 'sport = :$port') and stop it, for example 'make demo' or 'make compose-down';
       or change hostPort in kind-config.yaml."
        fi
    done
}

# load IMAGE...: loads images into the node, except those that it already has. The node knows an image under its
# name and under its id: it is up to date when both have the same digest.
load() {
    local image id there missing=()
    there=$(docker exec "$node" ctr -n k8s.io images ls 2>/dev/null)
    for image in "$@"; do
        id=$(docker image inspect -f '{{.Id}}' "$image")
        awk -v name="$image" -v id="$id" '{ digest[$1] = $3 } END { exit !(digest[name] && digest[name] == digest[id]) }' <<<"$there" ||
            missing+=("$image")
    done
    [ ${#missing[@]} = 0 ] || kind load docker-image -q --name $name "${missing[@]}"
}

# metrics: installs metrics-server, whose image is loaded, by the manifests of its module.
metrics() {
    if kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes >/dev/null 2>&1; then return; fi
    local manifests=$cache/run/metrics-server-manifests module
    module=$(cd "$here/go/metrics-server" && go list -m -f '{{.Dir}}' sigs.k8s.io/metrics-server)
    rm -rf "$manifests"
    cp -r "$here/metrics-server" "$manifests"
    cp -r "$module/manifests/base" "$manifests/base"
    chmod -R u+w "$manifests" # the module cache is read-only
    quiet kubectl apply -k "$manifests"
    wait_for 120 kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes >/dev/null 2>&1 ||
        die "metrics-server is not ready: KUBECONFIG=$kubeconfig kubectl -n kube-system describe deployment metrics-server"
}

# stop: frees the ports; `up` starts it again.
stop() { ! node_is running || docker stop -t 5 "$node" >/dev/null; }

down() {
    if docker inspect "$node" >/dev/null 2>&1; then
        "$cache/bin/kind" delete cluster -q --name $name
    fi
    rm -f "$kubeconfig"
    "$here/engine.sh" down # only what engine.sh started itself
}

command=${1:-}
shift || true
case $command in
up)
    "$here/programs.sh" kubernetes node
    "$here/engine.sh" up
    engine=$("$here/engine.sh" env) && eval "$engine"
    locked cluster up
    ;;
load | metrics | stop | down)
    engine=$("$here/engine.sh" env) && eval "$engine"
    locked cluster "$command" "$@"
    ;;
*) die "usage: cluster.sh up|metrics|stop|down|load IMAGE..." ;;
esac
