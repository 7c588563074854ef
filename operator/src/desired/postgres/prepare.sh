#!/bin/sh
# Runs before the server, with the programs of its image. Refuses a volume of another major version, and gives the role
# the password that the Secret has, whatever it was. A recovery after a crash happens here, where no probe runs.
set -eu

image=$(postgres -V) # postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
image=${image#*PostgreSQL) }
image=${image%%[!0-9]*}
major=$image

if [ -s "$PGDATA/PG_VERSION" ]; then
    major=$(cat "$PGDATA/PG_VERSION")
    if [ "$major" != "$image" ]; then
        echo "the volume holds PostgreSQL $major and the image is PostgreSQL $image: set an image of PostgreSQL $major, or dump and restore (docs/operations/database.md)" >&2
        exit 1
    fi
    # PostgreSQL refuses a directory that a volume driver opened to a group.
    chmod 0700 "$PGDATA" 2>/dev/null || true
    # A server that only this script reaches.
    own=$(mktemp -d)
    trap 'rm -rf "$own"' EXIT
    echo 'local all all trust' >"$own/hba"
    options="-c listen_addresses= -c unix_socket_directories=$own -c hba_file=$own/hba"
    # The password must not get into the log.
    options="$options -c log_statement=none -c log_min_error_statement=panic -c log_min_duration_statement=-1"
    pg_ctl start -w -t 604800 -D "$PGDATA" -l "$own/log" -o "$options" >/dev/null || { cat "$own/log" >&2; exit 1; }
    psql -X -q -v ON_ERROR_STOP=1 -h "$own" -U "$POSTGRES_USER" -d postgres -v role="$POSTGRES_USER" <<'SQL'
\set password `cat "$POSTGRES_PASSWORD_FILE"`
ALTER ROLE :"role" PASSWORD :'password';
SQL
    pg_ctl stop -w -t 3600 -m fast -D "$PGDATA" >/dev/null
fi

# The operator reads it there.
echo "$major" >"${TERMINATION_LOG:-/dev/termination-log}"
