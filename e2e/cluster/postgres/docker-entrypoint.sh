#!/usr/bin/env bash
# The part of the official image's contract that the project uses: POSTGRES_USER, POSTGRES_DB,
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, PGDATA; any user that is not root.
set -euo pipefail

[ "${1#-}" = "$1" ] || set -- postgres "$@" # only options
[ "$1" = postgres ] || exec "$@"

# initdb asks for the name of its user; any uid may run this.
if ! getent passwd "$(id -u)" >/dev/null; then
    export NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/tmp/group
    printf 'postgres:x:%s:%s::/tmp:/bin/sh\n' "$(id -u)" "$(id -g)" >$NSS_WRAPPER_PASSWD
    printf 'postgres:x:%s:\n' "$(id -g)" >$NSS_WRAPPER_GROUP
    LD_PRELOAD=$(find /usr/lib -name libnss_wrapper.so | head -1)
    export LD_PRELOAD
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    password=${POSTGRES_PASSWORD:-}
    [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(cat "$POSTGRES_PASSWORD_FILE")
    [ -n "$password" ] || { echo "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" >&2; exit 1; }
    # Made under another name where that can be, so that a killed start leaves nothing half-made.
    data=$PGDATA
    [ -e "$PGDATA" ] || data=$PGDATA.new
    [ "$data" = "$PGDATA" ] || rm -rf "$data"
    initdb -D "$data" -U "$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust --auth-host=scram-sha-256 -E UTF8
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$data/postgresql.conf"
    [ "$database" = postgres ] ||
        printf 'CREATE DATABASE "%s"\n' "$database" | postgres --single -D "$data" postgres >/dev/null
    [ "$data" = "$PGDATA" ] || mv "$data" "$PGDATA"
fi
exec "$@"
