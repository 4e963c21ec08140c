#!/bin/sh
# Prints the settings of a team's server, with passwords of its own:   mlflow/new-settings.sh > mlflow/team.env
# Nothing has a default password. Keep the file out of git (it is ignored) and with your other secrets.
set -eu
umask 077
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

cat <<SETTINGS
# The database: libpq's own variables, which MLflow, pg_dump and pg_restore all read.
PGHOST=127.0.0.1
PGPORT=5432
PGUSER=mlflow
PGPASSWORD=$(secret)

# The server. Behind a proxy with TLS, or on a network of your own: passwords travel with every request.
MLFLOW_HOST=127.0.0.1
MLFLOW_PORT=5000
MLFLOW_WORKERS=2
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
MLFLOW_DISABLE_TELEMETRY=true
# Names under which clients reach it; others are refused (DNS rebinding).
MLFLOW_SERVER_ALLOWED_HOSTS=localhost:*,127.0.0.1:*,mlflow:*
MLFLOW_BACKEND_STORE_URI=postgresql:///mlflow
MLFLOW_AUTH_ADMIN_PASSWORD=$(secret)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret)

# Artifacts: a bucket of any S3-compatible store, or a folder. Clients go through the server and have no key to it.
MLFLOW_ARTIFACTS_DESTINATION=s3://mlflow
MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000
AWS_ENDPOINT_URL=http://127.0.0.1:9000
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=mlflow
AWS_SECRET_ACCESS_KEY=$(secret)
SETTINGS
