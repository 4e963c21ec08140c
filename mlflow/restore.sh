#!/bin/sh
# Brings a backup back to empty databases and an empty store, before the server starts:
#   mlflow/restore.sh SETTINGS FOLDER
set -eu
[ $# -eq 2 ] || { echo "usage: mlflow/restore.sh SETTINGS FOLDER" >&2; exit 2; }
set -a; . "$(realpath "$1")"; set +a
cd "$2"
[ -f SHA256SUMS ] || { echo "$2 is not a whole backup: it has no SHA256SUMS" >&2; exit 2; }
sha256sum --check --quiet SHA256SUMS
for database in mlflow mlflow_auth; do
    tables=$(psql --no-psqlrc --tuples-only --no-align --dbname "$database" \
        --command "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    [ "$tables" -eq 0 ] || { echo "database $database has tables: restore into an empty one" >&2; exit 2; }
done
case $MLFLOW_ARTIFACTS_DESTINATION in
s3://*)
    [ -z "$(aws s3 ls "$MLFLOW_ARTIFACTS_DESTINATION" || true)" ] || { echo "the bucket is not empty" >&2; exit 2; }
    aws s3 sync --only-show-errors artifacts "$MLFLOW_ARTIFACTS_DESTINATION"
    ;;
*)
    mkdir -p "$MLFLOW_ARTIFACTS_DESTINATION"
    [ -z "$(ls -A "$MLFLOW_ARTIFACTS_DESTINATION")" ] ||
        { echo "$MLFLOW_ARTIFACTS_DESTINATION is not empty" >&2; exit 2; }
    cp -R artifacts/. "$MLFLOW_ARTIFACTS_DESTINATION"
    ;;
esac
# Artifacts first here: what has a row has its files.
for database in mlflow mlflow_auth; do
    pg_restore --exit-on-error --single-transaction --no-owner --dbname "$database" "$database.dump"
done
echo "restore: $(wc -l < SHA256SUMS) files verified and restored"
