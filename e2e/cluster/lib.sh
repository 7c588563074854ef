# Shared by the scripts of this folder: where the cache is, and how a part gets into it.
# shellcheck shell=bash
set -euo pipefail
# A failure inside $(…) ends the script too. macOS' own bash does not know it; what runs there is the part without a cluster.
shopt -s inherit_errexit 2>/dev/null || true

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this
top=$(cd "$here/../.." && pwd)
export MCP_AUTH_CACHE=${MCP_AUTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mcp-auth-operator}
cache=$MCP_AUTH_CACHE
export PATH="$cache/bin:$PATH"
mkdir -p "$cache"/{bin,parts,locks,run,log}

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# quiet COMMAND...: shows what it prints only when it fails.
quiet() {
    local output
    output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
}

# key INPUT...: a short hash of files (their contents) and words: the version of what is built from them.
key() {
    local input
    for input in "$@"; do
        if [ -e "$input" ]; then cat "$input"; else printf '%s\n' "$input"; fi
    done | sha256sum | cut -c1-12
}

# locked NAME COMMAND...: one at a time, also across make targets and work trees.
# The lock must not be inherited by daemons that the command starts: they outlive it.
locked() {
    local lock=$cache/locks/$1
    shift
    (
        flock 9
        "$@" 9>&-
    ) 9>"$lock"
}

# part NAME KEY COMMAND...: prints the folder parts/NAME-KEY, made by `COMMAND... FOLDER` if it is
# not there yet. It is made under another name and renamed, so it is whole or absent.
part() {
    local dir=$cache/parts/$1-$2
    # stdout is the answer, so whatever the command prints goes to stderr.
    [ -d "$dir" ] || locked "part-$1" fill "$dir" "${@:3}" >&2
    printf '%s\n' "$dir"
}

fill() {
    local dir=$1 begin=$SECONDS
    shift
    [ ! -d "$dir" ] || return 0 # another process built it while we waited for the lock
    rm -rf "$dir.new"
    mkdir "$dir.new"
    say "building $(basename "$dir")"
    "$@" "$dir.new"
    mv "$dir.new" "$dir"
    say "built $(basename "$dir") in $((SECONDS - begin)) s"
}

# link FILE [NAME]: puts a program of a part on $cache/bin.
link() {
    local name=${2:-$(basename "$1")}
    ln -sfn "$1" "$cache/bin/.$name.$$"
    mv -T "$cache/bin/.$name.$$" "$cache/bin/$name"
}

# need_packages PACKAGE...: installs what is missing of Debian's packages. A package counts as there
# only when dpkg says so, not when a program of that name is on PATH.
need_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing packages (Debian's names): ${missing[*]}; install them with your system's package manager"
    [ "$(id -u)" = 0 ] || die "missing packages; run as root: apt-get update && apt-get install ${missing[*]}"
    locked apt install_packages "${missing[@]}"
}

install_packages() {
    say "installing ${*}"
    # The list of packages is fetched once a day, not by each target.
    [ -n "$(find "$cache/run/apt-updated" -mmin -1440 2>/dev/null)" ] || apt-get update -q >"$cache/log/apt.log" 2>&1 ||
        die "apt-get update failed: see $cache/log/apt.log"
    touch "$cache/run/apt-updated"
    # policy-rc.d: packages of servers must not start them on this machine.
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e $policy ]; then
        ours=1
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    local failed=
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >>"$cache/log/apt.log" 2>&1 || failed=1
    [ -z "$ours" ] || rm -f $policy
    [ -z "$failed" ] || die "apt-get install $* failed: see $cache/log/apt.log"
}

need_go() {
    command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer (https://go.dev/doc/install)"
    local version
    version=$(go env GOVERSION | sed 's/^go//')
    printf '1.26\n%s\n' "$version" | sort -VC || die "Go $version is too old: install Go 1.26 or newer (https://go.dev/doc/install)"
}
