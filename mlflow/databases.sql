-- Run once, by the container's first start and by postgres.sh. MLflow makes the tables.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
