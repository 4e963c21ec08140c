#!/bin/sh
# The team's server without containers, until Ctrl-C or SIGTERM:   mlflow/serve.sh SETTINGS FOLDER
# Needs the packages postgresql and postgresql-client, and the Python package with its extra `server`.
set -eu
[ $# -eq 2 ] || { echo "usage: mlflow/serve.sh SETTINGS FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
set -a; . "$(realpath "$1")"; set +a
"$here/postgres.sh" start "$1" "$2"
server=
finish() {
    trap - EXIT INT TERM
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server"; } || true
    "$here/postgres.sh" stop "$1" "$2"
}
trap 'finish "$1" "$2"' EXIT
trap 'exit 0' INT TERM
export MLFLOW_AUTH_CONFIG_PATH="$here/basic_auth.ini"
mlflow server --app-name basic-auth &
server=$!
wait "$server"
