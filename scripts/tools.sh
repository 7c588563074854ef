#!/usr/bin/env bash
# tools.sh postgres|browser|python|deny|bench|shellcheck|compose...: what the targets need besides Rust, installed.
source "$(dirname "$0")/../e2e/cluster/lib.sh"

deny_version=0.20.2

need_rust() {
    command -v cargo >/dev/null || die "Rust is missing: install rustup (https://rustup.rs); rust-toolchain.toml names the version"
    command -v cc >/dev/null || need_packages gcc libc6-dev
}

postgres() {
    [ -n "${POSTGRES_BIN:-}" ] && [ -x "$POSTGRES_BIN/initdb" ] && return
    need_packages postgresql postgresql-contrib
}

browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    need_packages chromium chromium-driver
}

# The official MCP Python SDK. The environment works under its final name: Python finds it by its place.
python() {
    local requirements=$top/e2e/client/requirements.txt dir
    [ -f "$requirements" ] || die "$requirements is missing"
    if ! python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        need_packages python3 python3-venv
    fi
    dir=$(part venv "$(key "$requirements" "$(python3 -c 'import sys; print(sys.executable, sys.version)')")" fill_venv "$requirements")
    ln -sfn "$dir" "$cache/.venv.$$"
    mv -T "$cache/.venv.$$" "$cache/venv"
}

fill_venv() {
    python3 -m venv "$2"
    quiet "$2/bin/python" -m pip install --disable-pip-version-check --quiet -r "$1"
}

deny() {
    local dir
    need_rust
    dir=$(part cargo-deny "$(key "$deny_version" "$(rustc -V)")" fill_deny)
    link "$dir/bin/cargo-deny"
}

fill_deny() {
    CARGO_TARGET_DIR=$1/target nice -n 5 cargo install --quiet --locked "cargo-deny@$deny_version" --root "$1"
    rm -rf "$1/target"
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
    postgres | browser | python | deny | bench | compose) "$tool" ;;
    shellcheck) command -v shellcheck >/dev/null || need_packages shellcheck ;;
    *) die "unknown tool: $tool" ;;
    esac
done
