"""Prefect flows: when the pipeline runs, and what happens when something goes wrong."""
