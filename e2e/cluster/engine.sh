#!/usr/bin/env bash
# engine.sh up|down|env: a Docker engine for the cluster and for compose.
# Uses the machine's engine if `docker info` succeeds; otherwise runs a separate one, with its own
# socket and folders below the cache, so that nothing else on the machine is touched. The process ends
# with the session or CI run that started it: `up` finds a dead one and starts it again, on the same data.
source "$(dirname "$0")/lib.sh"

run=$cache/run/docker
pidfile=$run/dockerd.pid
socket=unix://$run/docker.sock

answers() { timeout 20 docker ${1:+-H "$1"} info >/dev/null 2>&1; }
alive() { [ -s "$pidfile" ] && [ "$(cat "/proc/$(cat "$pidfile")/comm" 2>/dev/null)" = dockerd ]; }

# lacks_sys_resource: root without CAP_SYS_RESOURCE (bit 24) cannot hand it on to privileged containers.
lacks_sys_resource() {
    local caps
    caps=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
    (((0x$caps >> 24 & 1) == 0))
}

start() {
    ! alive || stop_ours # running, but does not respond
    [ "$(uname -s)" = Linux ] || die "cannot reach a Docker engine: start one, such as Docker Desktop, or set DOCKER_HOST"
    [ "$(id -u)" = 0 ] || die "cannot reach a Docker engine, and only root can start one: start Docker (systemctl start docker), set DOCKER_HOST, or run this as root"
    need_packages docker.io runc iptables jq
    mkdir -p "$run" "$cache/docker-data" "$cache/bin"
    # Files that a killed engine left behind and that prevent a start.
    rm -f "$pidfile" "$run/docker.sock" "$run/exec/containerd/containerd.pid"
    local options=()
    if lacks_sys_resource; then
        # A copy: the engine may outlive the checkout that started it.
        install -m 755 "$here/runc-without-sys-resource" "$cache/bin/"
        options=(--add-runtime "without-sys-resource=$cache/bin/runc-without-sys-resource" --default-runtime without-sys-resource)
    fi
    say "starting a Docker engine ($socket)"
    # setsid: it must outlive the terminal or make that started it; 9>&- is in `locked`.
    setsid nohup dockerd --host "$socket" --data-root "$cache/docker-data" --exec-root "$run/exec" \
        --pidfile "$pidfile" --bridge docker0 "${options[@]}" >"$cache/log/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 60); do
        ! answers "$socket" || return 0
        sleep 0.5
    done
    die "the Docker engine did not start: see $cache/log/dockerd.log"
}

stop_ours() {
    alive || return 0
    local pid
    pid=$(cat "$pidfile")
    kill "$pid"
    for _ in $(seq 60); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.5
    done
    kill -9 "$pid"
}

case ${1:-} in
up)
    # Ours, if it was started before: then the images and the cluster are in it.
    if alive && answers "$socket"; then exit 0; fi
    if [ ! -d "$cache/docker-data" ] && command -v docker >/dev/null && answers; then exit 0; fi
    locked engine start
    ;;
down) locked engine stop_ours ;;
env)
    # For eval: what docker, kind and compose need to find the engine.
    if [ -d "$cache/docker-data" ]; then echo "export DOCKER_HOST=$socket"; fi
    # A plugin of ours is found through DOCKER_CONFIG; elsewhere the user's own has his logins.
    if [ -d "$cache/docker/cli-plugins" ]; then echo "export DOCKER_CONFIG=$cache/docker"; fi
    # Debian's docker has no buildx, and the Dockerfiles need none.
    echo "export DOCKER_BUILDKIT=0"
    ;;
*) die "usage: engine.sh up|down|env" ;;
esac
