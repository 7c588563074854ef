#!/usr/bin/env bash
# tools.sh rust|nextest|deny|fuzz|postgres|browser|collector|python|clients|schemathesis|chart|bench|shellcheck|actionlint|compose...: installs
# what the make targets need.
source "$(dirname "$0")/../e2e/cluster/lib.sh"

need_rust() {
    command -v cargo >/dev/null || die "Rust is missing: install rustup (https://rustup.rs); the version is in rust-toolchain.toml"
    command -v cc >/dev/null || need_packages gcc libc6-dev
    # Tests make certificates.
    command -v openssl >/dev/null || need_packages openssl
}

postgres() {
    [ -n "${POSTGRES_BIN:-}" ] && [ -x "$POSTGRES_BIN/initdb" ] && return
    need_packages postgresql postgresql-contrib
}

browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    need_packages chromium chromium-driver
}

need_python() {
    python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || need_packages python3 python3-venv
}

# python_part NAME REQUIREMENTS OPTION...: prints the folder of a Python environment. It works only under its final
# name, because it contains absolute paths.
python_part() {
    local name=$1 requirements=$2
    shift 2
    need_python
    part "$name" "$(key "$requirements" "$(python3 -c 'import sys; print(sys.executable, sys.version)')")" fill_venv "$requirements" "$@"
}

fill_venv() { # REQUIREMENTS OPTION... FOLDER
    local requirements=$1 dir=${!#}
    python3 -m venv "$dir"
    quiet "$dir/bin/python" -m pip install --disable-pip-version-check --quiet "${@:2:$#-2}" -r "$requirements"
}

# The official MCP Python SDK.
python() {
    local dir
    dir=$(python_part venv "$top/e2e/client/requirements.txt")
    ln -sfn "$dir" "$cache/.venv.$$"
    mv -T "$cache/.venv.$$" "$cache/venv"
}

# Clients that people use, from npm.
clients() {
    local dir
    command -v npm >/dev/null || need_packages nodejs npm
    dir=$(part clients "$(key "$top/e2e/client/package.json" "$(node --version)")" fill_clients "$top/e2e/client/package.json")
    ln -sfn "$dir" "$cache/.clients.$$"
    mv -T "$cache/.clients.$$" "$cache/clients"
}

fill_clients() { # PACKAGE.JSON FOLDER
    cp "$1" "$2/"
    (cd "$2" && quiet npm install --silent --no-audit --no-fund --no-package-lock)
}

# What tests the servers against their OpenAPI documents.
schemathesis() {
    local dir
    dir=$(python_part schemathesis "$top/scripts/schemathesis.txt" --no-deps)
    ln -sfn "$dir" "$cache/.schemathesis.$$"
    mv -T "$cache/.schemathesis.$$" "$cache/schemathesis"
}

# The tools that check the rendered chart.
chart() {
    local dir
    dir=$(python_part chart-tools "$top/scripts/chart-tools.txt" --no-deps)
    ln -sfn "$dir" "$cache/.chart-tools.$$"
    mv -T "$cache/.chart-tools.$$" "$cache/chart-tools"
}

# Prebuilt cargo subcommands: building them takes minutes.
cargo_tool() {
    local dir
    need_rust
    dir=$(python_part cargo-tools "$top/scripts/cargo-tools.txt" --require-hashes --no-deps --only-binary :all:)
    link "$dir/bin/cargo-$1"
}

# libFuzzer is C++.
fuzz() {
    cargo_tool fuzz
    command -v c++ >/dev/null || need_packages g++
}

actionlint() {
    local module=$top/scripts/go/actionlint dir
    [ -d "$cache/parts/actionlint-$(key "$module/go.mod" "$module/go.sum")" ] || need_go
    dir=$(part actionlint "$(key "$module/go.mod" "$module/go.sum")" fill_actionlint "$module")
    link "$dir/actionlint"
}

fill_actionlint() {
    cd "$1" || return
    CGO_ENABLED=0 nice -n 5 go build -trimpath -o "$2/" tool
}

# The OpenTelemetry collector, with what the tests need of it.
collector() {
    local module=$top/scripts/go/otel-collector dir
    [ -d "$cache/parts/otel-collector-$(key "$module"/*)" ] || need_go
    dir=$(part otel-collector "$(key "$module"/*)" fill_collector "$module")
    link "$dir/otel-collector"
}

fill_collector() {
    cd "$1" || return
    CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags '-s -w' -o "$2/" .
}

bench() {
    postgres
    command -v nginx >/dev/null || need_packages nginx-light
}

compose() {
    local engine
    "$here/engine.sh" up
    engine=$("$here/engine.sh" env) && eval "$engine"
    docker compose version >/dev/null 2>&1 || "$here/programs.sh" compose
}

for tool in "$@"; do
    case $tool in
    rust) need_rust ;;
    nextest | deny) cargo_tool "$tool" ;;
    postgres | browser | collector | python | clients | schemathesis | chart | fuzz | actionlint | bench | compose) "$tool" ;;
    shellcheck) command -v shellcheck >/dev/null || need_packages shellcheck ;;
    *) die "unknown tool: $tool" ;;
    esac
done
