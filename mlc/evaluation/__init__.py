"""Generating replies, judging them, and metrics with intervals."""
