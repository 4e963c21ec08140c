#!/bin/sh
# Writes the settings of a team's server to a new file, with passwords of its own:   mlflow/new-settings.sh mlflow/team.env
# Only its owner can read the file, from its first byte on; no password has a default, and none is shown.
# Keep the file out of git (mlflow/team.env is ignored) and with your other secrets.
set -eu
[ $# -eq 1 ] || { echo "usage: mlflow/new-settings.sh FILE" >&2; exit 2; }
umask 077
exists() { echo "$1 exists: its passwords are in use; name a new file, or move it away" >&2; exit 2; }
[ ! -e "$1" ] && [ ! -L "$1" ] || exists "$1"

secret() {
    value=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#value} -eq 48 ] || { echo "/dev/urandom gives no random bytes" >&2; exit 1; }
    printf %s "$value"
}
database=$(secret) admin=$(secret) cookies=$(secret) store=$(secret) signing=$(secret)
for value in "$database" "$admin" "$cookies" "$store" "$signing"; do [ -n "$value" ] || exit 1; done

aside=$(mktemp "$(dirname -- "$1")/.settings.XXXXXX")
trap 'rm -f "$aside"' EXIT
trap 'exit 130' HUP INT TERM
cat > "$aside" <<SETTINGS
# The database: libpq's own variables, which MLflow, pg_dump and pg_restore all read.
PGHOST=127.0.0.1
PGPORT=5432
PGUSER=mlflow
PGPASSWORD=$database

# The server. Behind a proxy with TLS, or on a network of your own: passwords travel with every request.
MLFLOW_HOST=127.0.0.1
MLFLOW_PORT=5000
MLFLOW_WORKERS=2
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
MLFLOW_DISABLE_TELEMETRY=true
# Names under which clients reach it; others are refused (DNS rebinding).
MLFLOW_SERVER_ALLOWED_HOSTS=localhost:*,127.0.0.1:*,mlflow:*
MLFLOW_BACKEND_STORE_URI=postgresql:///mlflow
MLFLOW_AUTH_ADMIN_PASSWORD=$admin
MLFLOW_FLASK_SERVER_SECRET_KEY=$cookies

# Artifacts: a bucket of any S3-compatible store, or a folder. Clients go through the server and have no key to it.
MLFLOW_ARTIFACTS_DESTINATION=s3://mlflow
MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000
AWS_ENDPOINT_URL=http://127.0.0.1:9000
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=mlflow
AWS_SECRET_ACCESS_KEY=$store
# By which the parts of compose.yaml's store know each other.
STORE_SIGNING_KEY=$signing
SETTINGS
ln -- "$aside" "$1" 2>/dev/null || exists "$1"   # unlike mv: whole, and never over another file
echo "settings: $1, which only you can read"
