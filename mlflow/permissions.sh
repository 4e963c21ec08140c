#!/bin/sh
# Makes a user for a role, or gives a user one more role:   mlflow/permissions.sh trainer|approver USER EXPERIMENT MODEL
# Reads the new user's password (letters, digits, . _ -, 12 at least) from stdin. Who runs it is an administrator:
# MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD.
#   trainer    logs runs and artifacts to the experiment; reads the model, and makes no version and moves no alias
#   approver   registers versions, moves the model's aliases and writes its ledger
# MLflow has one permission for making a version and moving an alias. A pipeline that promotes by itself is an approver.
set -eu
[ $# -eq 4 ] || { sed -n '2,8s/^# //p' "$0" >&2; exit 2; }
role=$1 user=$2 experiment=$3 model=$4
for word in "$user" "$experiment" "$model"; do
    case $word in *[!A-Za-z0-9._-]* | "") echo "$word: letters, digits, . _ and - only" >&2; exit 2 ;; esac
done
IFS= read -r password
case $password in
*[!A-Za-z0-9._-]* | ???????????) echo "the password: letters, digits, . _ and - only, 12 at least" >&2; exit 2 ;;
esac
[ ${#password} -ge 12 ] || { echo "the password has fewer than 12 characters" >&2; exit 2; }

# Prints the answer, and the HTTP status on a line of its own. Secrets go through stdin, which `ps` does not show.
ask() {
    {
        printf 'url = "%s/api/%s"\nuser = "%s:%s"\n' "${MLFLOW_TRACKING_URI%/}" "$1" \
            "$MLFLOW_TRACKING_USERNAME" "$MLFLOW_TRACKING_PASSWORD"
        [ $# -eq 1 ] || printf 'header = "Content-Type: application/json"\ndata = "%s"\n' \
            "$(printf '%s' "$2" | sed 's/"/\\"/g')"
    } | curl --silent --show-error --write-out '\n%{http_code}' --config -
}
# What is there already is fine.
make() {
    answer=$(ask "$1" "$2")
    case $answer in
    *200) ;;
    *RESOURCE_ALREADY_EXISTS*) ;;
    *) printf '%s: %s\n' "$1" "$answer" >&2; exit 1 ;;
    esac
}
grant() {
    make 3.0/mlflow/users/permissions/grant "{\"username\":\"$user\",\"resource_type\":\"$1\",\"resource_id\":\"$2\",\"permission\":\"$3\"}"
}

# An administrator makes experiment and model: whoever does owns them, and may move every alias.
make 2.0/mlflow/experiments/create "{\"name\":\"$experiment\"}"
make 2.0/mlflow/registered-models/create "{\"name\":\"$model\"}"
make 2.0/mlflow/users/create "{\"username\":\"$user\",\"password\":\"$password\"}"
id=$(ask "2.0/mlflow/experiments/get-by-name?experiment_name=$experiment" | sed -n 's/.*"experiment_id": *"\([^"]*\)".*/\1/p')
grant experiment "$id" EDIT
case $role in
trainer) ;;
approver) grant registered_model "$model" MANAGE ;;   # EDIT moves an alias; a rollback may have to remove one
*) echo "$role: trainer or approver" >&2; exit 2 ;;
esac
echo "$user: $role of experiment $experiment and model $model"
