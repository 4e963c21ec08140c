#!/bin/sh
# PostgreSQL from the distribution's packages:   mlflow/postgres.sh start|stop SETTINGS FOLDER
# FOLDER/postgres is made by the first start. Run as root, the server runs as the user postgres, for whom the way to
# FOLDER has to be open.
set -eu
[ $# -eq 3 ] || { echo "usage: mlflow/postgres.sh start|stop SETTINGS FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
set -a; . "$(realpath "$2")"; set +a
mkdir -p "$3"
folder=$(cd "$3" && pwd)
cluster=$folder/postgres
for bin in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -V); do PATH=$bin:$PATH; done
command -v pg_ctl >/dev/null || { echo "pg_ctl is missing: install the package postgresql" >&2; exit 2; }
as_server() { if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
cd /   # where the server's user can be, too

if [ "$1" = stop ]; then
    as_server env "PATH=$PATH" pg_ctl --pgdata "$cluster" --mode fast --silent stop
    exit
fi
fresh=
if [ ! -f "$cluster/PG_VERSION" ]; then
    fresh=yes
    mkdir -p "$cluster"
    chmod 700 "$cluster"
    [ "$(id -u)" -ne 0 ] || chown postgres "$cluster"
    # The password by way of a file: a command line is seen by every user of the machine.
    secret=$(mktemp)
    trap 'rm -f "$secret"' EXIT
    printf '%s\n' "$PGPASSWORD" > "$secret"
    [ "$(id -u)" -ne 0 ] || chown postgres "$secret"
    as_server env "PATH=$PATH" initdb --pgdata "$cluster" --username "$PGUSER" --pwfile "$secret" \
        --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 --data-checksums >/dev/null
fi
as_server env "PATH=$PATH" pg_ctl --pgdata "$cluster" --log "$cluster/log" --silent --wait \
    --options "-c listen_addresses=$PGHOST -c port=$PGPORT -c unix_socket_directories=''" start
[ -z "$fresh" ] || psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres --file "$here/databases.sql"
