#!/usr/bin/env bash
# Runs all checks and tests in stages; each stage is a make target that can be run alone. Stops at the first stage that fails, names
# it, and always prints the time of each stage.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${MCP_AUTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mcp-auth-operator}
reports=target/nextest # nextest writes here, regardless of CARGO_TARGET_DIR
mkdir -p "$cache/log"
log=$cache/log/parts.log
table='' failed='' parts=''

finish() {
    local status=$?
    # The process group of the background build, which setsid made separate.
    [ -z "$parts" ] || kill -- "-$parts" 2>/dev/null || true
    slowest
    printf '\n%-14s %8s\n%s%-14s %6d s\n' stage time "$table" total "$SECONDS"
    if [ -n "$failed" ]; then
        printf '\nFAILED: %s\n' "$failed"
        exit 1
    fi
    exit "$status"
}
trap finish EXIT

slowest() {
    local found=("$reports"/*/junit.xml)
    [ -e "${found[0]}" ] || return 0
    printf '\nthe slowest tests\n'
    scripts/slowest.py 10 "${found[@]}" || true
}

stage() {
    local name=$1 begin=$SECONDS ok=
    shift
    printf '\n==> %s\n' "$name"
    failed="$name (interrupted)"
    if "$@"; then ok=1; fi
    table+=$(printf '%-14s %6d s' "$name" $((SECONDS - begin)))$'\n'
    failed=$name
    [ -n "$ok" ] || exit 1
    failed=
}

wait_for_parts() {
    local pid=$parts
    parts=
    wait "$pid" && return
    tail -n 40 "$log"
    echo "cannot build the parts of the cluster: see $log"
    return 1
}

# Remove the reports of previous runs.
rm -f "$reports"/*/junit.xml

# The parts of the cluster take as long as the Rust build, so build them in parallel.
setsid make -s parts >"$log" 2>&1 </dev/null &
parts=$!

stage shell make -s shell
stage workflows make -s workflows
stage fmt make -s fmt-check
stage circles make -s circles
stage wording make -s wording
stage clippy make -s clippy
stage generated make -s generate-check
stage build make -s build-tests
stage unit make -s unit
stage servers make -s test-servers
stage parts wait_for_parts
stage deny make -s deny
stage api make -s test-api
stage chart make -s test-chart
stage images make -s images
stage compose make -s test-compose
stage cluster make -s cluster-up
stage e2e make -s e2e
# It uses the ports of `make demo`. After a failure it keeps running, for debugging.
stage stop e2e/cluster/cluster.sh stop
