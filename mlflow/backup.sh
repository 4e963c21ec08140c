#!/bin/sh
# Copies both databases and the artifacts to an empty folder, while the server runs:   mlflow/backup.sh SETTINGS FOLDER
# The databases come first: a version is written after its artifacts, so all that they name is in the copy.
set -eu
[ $# -eq 2 ] || { echo "usage: mlflow/backup.sh SETTINGS FOLDER" >&2; exit 2; }
set -a; . "$(realpath "$1")"; set +a
umask 077
[ ! -e "$2" ] || [ -z "$(ls -A "$2")" ] || { echo "$2 is not empty: name a new folder" >&2; exit 2; }
mkdir -p "$2/artifacts"
cd "$2"
for database in mlflow mlflow_auth; do pg_dump --format custom --file "$database.dump" "$database"; done
case $MLFLOW_ARTIFACTS_DESTINATION in
s3://*) aws s3 sync --only-show-errors "$MLFLOW_ARTIFACTS_DESTINATION" artifacts ;;
*) cp -R "$MLFLOW_ARTIFACTS_DESTINATION/." artifacts ;;
esac
find . -type f ! -name .sums -exec sha256sum {} + > .sums
mv .sums SHA256SUMS   # last, so that a backup without it is known to be half of one
echo "backup: $(wc -l < SHA256SUMS) files in $2"
